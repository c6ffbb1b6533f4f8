//! Keeps the sessions of keys with a TTL: one for all keys that are put with one TTL, in one
//! runtime, at about the same time.

use crate::client::session::Ephemeral;
use kv_core::{
    Result,
    backend::{ByRuntime, Instant, Mutex},
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{sync::OnceCell, task::JoinSet};

/// The sessions that new keys join.
#[derive(Default)]
pub(crate) struct Expiring {
    /// A session lives in the runtime in which it was opened, and stands still with it.
    open: ByRuntime<Arc<Open>>,
    /// The tasks that clear the directories of ended sessions, as long as the store lives.
    pub(super) sweeps: Mutex<JoinSet<()>>,
}

/// The slots of one runtime, by their TTL.
type Open = Mutex<HashMap<Duration, Arc<Slot>>>;

/// A session that keys of one TTL join, and when it was opened.
#[derive(Default)]
pub(super) struct Slot(pub(super) OnceCell<(Instant, Arc<Ephemeral>)>);

impl Expiring {
    /// Returns the slot that keys of this TTL join now, in this runtime.
    ///
    /// # Errors
    /// [`Closed`](kv_core::ErrorKind::Closed) once the store is closed.
    pub(super) fn slot(&self, ttl: Duration) -> Result<Arc<Slot>> {
        let here = self.open.here(Arc::default)?;
        let slot = here.lock().entry(ttl).or_default().clone();
        Ok(slot)
    }

    /// Has the next key of this TTL join another slot.
    pub(super) fn forget(&self, ttl: Duration, slot: &Arc<Slot>) {
        for place in self.open.all() {
            let mut open = place.lock();
            if open.get(&ttl).is_some_and(|there| Arc::ptr_eq(there, slot)) {
                open.remove(&ttl);
            }
        }
    }

    /// Lets no key join any more. Keys that were put live on by themselves.
    pub(crate) fn close(&self) {
        drop(self.open.close());
        self.sweeps.lock().abort_all();
    }
}
