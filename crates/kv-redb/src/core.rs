//! The parts that every call uses: the client of the file, the names below its prefix, the limits,
//! and what is given back in the background.

use crate::{
    engine::{self, Batch, Client, Done, Engine, Options, Reading, Snapshot, View},
    names,
};
use kv_core::{Capabilities, Durability, Key, Locking, Result, TtlRange, backend::Tasks, driver::Deadline};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// The largest value, in bytes. It is committed in one piece, and all writers wait for it.
const MAX_VALUE: usize = 16 << 20;
/// The longest TTL: ten years.
const GREATEST: Duration = Duration::from_secs(10 * 365 * 86_400);
/// The lateness of ends: the tenth of a second that a key lives longer than asked for, and the
/// time that the commit of its end takes.
const LATE_BY: Duration = Duration::from_millis(500);

/// Returns the range of the TTLs of keys.
fn ttls() -> TtlRange {
    let mut range = TtlRange::new(Duration::from_millis(10), GREATEST);
    range.late_by = LATE_BY;
    range
}

/// Returns the range of the TTLs of leases and locks.
fn lives() -> TtlRange {
    let mut range = TtlRange::new(Duration::from_secs(1), GREATEST);
    range.late_by = LATE_BY;
    range
}

fn capabilities() -> Capabilities {
    let mut c = Capabilities::new("redb");
    c.durability = Durability::Fsync;
    c.max_value = MAX_VALUE;
    c.ttl = Some(ttls());
    c.lease = Some(lives());
    c.lock = Some(Locking::new(lives()));
    c.watch_ordered = true;
    c.max_txn_ops = 4_096;
    c.max_txn_bytes = 64 << 20;
    c.delete_tree_atomic = true;
    c.health = true;
    c
}

/// The state that a store shares with its streams, guards and leases.
pub(crate) struct Core {
    client: Client,
    pub(crate) view: Arc<View>,
    /// Holds the tasks that give locks and leases back in the background.
    pub(crate) tasks: Tasks,
    /// Tells whether the writer was given an order for which nobody waits.
    has_ordered: AtomicBool,
    pub(crate) capabilities: Capabilities,
}

impl Core {
    /// Opens a client of the file, below this prefix.
    pub(crate) async fn open(options: Options, prefix: &str) -> Result<Self> {
        let client = engine::open(options).await?;
        let view = client.engine()?.view(prefix);
        let (tasks, has_ordered) = (Tasks::default(), AtomicBool::new(false));
        Ok(Self { client, view, tasks, has_ordered, capabilities: capabilities() })
    }

    /// Returns the engine, while the store is open.
    pub(crate) fn engine(&self) -> Result<&Arc<Engine>> {
        self.client.engine()
    }

    /// Returns the path of the file, also when the store is closed.
    pub(crate) fn path(&self) -> &Path {
        self.client.path()
    }

    /// Returns the name of a key with its prefix.
    pub(crate) fn whole(&self, key: &Key) -> Arc<str> {
        names::whole(&self.view.prefix, key)
    }

    /// Returns the name of a lock with its prefix.
    pub(crate) fn lock_name(&self, name: &Key) -> Arc<str> {
        names::lock(&self.view.prefix, name)
    }

    /// Reads from one snapshot; the work is given the prefix too.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        deadline: Deadline,
        work: impl Fn(&Snapshot<'_>, &str) -> std::result::Result<T, Reading> + Send + Sync + 'static,
    ) -> Result<T> {
        let prefix = self.view.prefix.clone();
        self.engine()?.read(deadline, move |snapshot| work(snapshot, &prefix)).await
    }

    /// Has the writer do this in its next batch, and waits for the commit.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        deadline: Deadline,
        size: usize,
        work: impl FnOnce(&mut Batch<'_>) -> Done<T> + Send + 'static,
    ) -> Result<T> {
        self.engine()?.write(deadline, size, work).await
    }

    /// Has the writer do this, without waiting for it. Where the store is closed it is not done.
    pub(crate) fn order(&self, work: impl FnOnce(&mut Batch<'_>) -> Done<bool> + Send + 'static) {
        if let Ok(engine) = self.engine() {
            engine.order(work);
            self.has_ordered.store(true, Ordering::Release);
        }
    }

    /// Waits until locks and leases are given back, then closes the client. For the last client of
    /// the file it returns when the file is free.
    pub(crate) async fn close(&self) -> Result<()> {
        let mut given_back = self.tasks.finish().await;
        if self.has_ordered.swap(false, Ordering::AcqRel) {
            // The writer does one thing after another: this is behind what was ordered before.
            let behind = self.write(Deadline::default(), 0, |_| Ok(Ok(())));
            given_back = given_back.and(behind.await);
        }
        if let Some(mut gone) = self.client.close() {
            // The writer says so, or has ended: both mean that the file is free.
            let _ = gone.wait_for(|gone| *gone).await;
        }
        given_back
    }
}
