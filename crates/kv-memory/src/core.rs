//! The parts that every call uses: one client of a data set, its names, the limits, and the faults
//! that a test has planned for the client.

use crate::{
    data::{Data, LockName, Name, Shared},
    faults::trouble::{Does, Trouble},
};
use kv_core::{
    Capabilities, Key, Locking, Result, TtlRange,
    backend::{Hub, Tasks},
    driver::Deadline,
};
use std::{
    borrow::Cow,
    sync::{Arc, LazyLock, MutexGuard},
    time::Duration,
};

pub(crate) static CAPABILITIES: LazyLock<Capabilities> = LazyLock::new(|| {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
    let mut can = Capabilities::new("memory");
    // A renewal in the background needs time, on a busy machine too.
    let renewed = TtlRange::new(Duration::from_millis(250), CENTURY);
    can.max_value = 16 << 20;
    can.ttl = Some(TtlRange::new(Duration::from_millis(1), CENTURY));
    can.lease = Some(renewed.clone());
    can.lock = Some(Locking::new(renewed));
    can.watch_ordered = true;
    can.max_txn_ops = 4096;
    // A write of the greatest value must be able to depend on a lock.
    can.max_txn_bytes = 20 << 20;
    can.delete_tree_atomic = true;
    can.health = true;
    can
});

/// One client of a data set.
pub(crate) struct Core {
    pub(crate) shared: Arc<Shared>,
    pub(crate) prefix: Name,
    pub(crate) hub: Hub,
    pub(crate) trouble: Arc<Trouble>,
    /// Holds the tasks that give locks and leases back in the background.
    pub(crate) tasks: Tasks,
    id: u64,
}

impl Core {
    /// Makes a client of these data, whose names all begin with this prefix.
    pub(crate) fn new(shared: Arc<Shared>, prefix: &str) -> Arc<Self> {
        let prefix = Name::from(prefix);
        let (id, hub) = shared.look().enter(&prefix);
        let (trouble, tasks) = Default::default();
        Arc::new(Self { shared, prefix, hub, trouble, tasks, id })
    }

    /// Returns the data as of now.
    pub(crate) fn look(&self) -> MutexGuard<'_, Data> {
        self.shared.look()
    }

    /// Returns the whole name of the key.
    pub(crate) fn name<'a>(&self, key: &'a Key) -> Cow<'a, str> {
        match &*self.prefix {
            "" => Cow::Borrowed(key.as_str()),
            prefix => Cow::Owned(format!("{prefix}{key}")),
        }
    }

    /// Returns the lock of this name, which belongs to the client's prefix.
    pub(crate) fn lock_name(&self, name: &Key) -> LockName {
        (self.prefix.clone(), name.clone())
    }

    /// Does the work of a call, after the pause or the fault that was planned for it.
    pub(crate) async fn call<T>(
        &self,
        does: Does,
        deadline: Deadline,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if !self.trouble.is_any() {
            return work();
        }
        let answer = Box::pin(self.trouble.meet(does, deadline)).await?;
        answer.of(work())
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.shared.look().leave(&self.prefix, self.id);
    }
}
