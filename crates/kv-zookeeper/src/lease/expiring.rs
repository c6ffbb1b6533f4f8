//! Keeps the sessions of keys with a TTL: one for all keys that are put with one TTL at about the
//! same time.

use crate::client::session::Ephemeral;
use kv_core::backend::{Instant, Mutex};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{sync::OnceCell, task::JoinSet};

/// The sessions that new keys join, by their TTL.
#[derive(Default)]
pub(crate) struct Expiring {
    open: Mutex<HashMap<Duration, Arc<Slot>>>,
    /// The tasks that clear the directories of ended sessions, as long as the store lives.
    pub(super) sweeps: Mutex<JoinSet<()>>,
}

/// A session that keys of one TTL join, and when it was opened.
#[derive(Default)]
pub(super) struct Slot(pub(super) OnceCell<(Instant, Arc<Ephemeral>)>);

impl Expiring {
    /// Returns the slot that keys of this TTL join now.
    pub(super) fn slot(&self, ttl: Duration) -> Arc<Slot> {
        self.open.lock().entry(ttl).or_default().clone()
    }

    /// Has the next key of this TTL join another slot.
    pub(super) fn forget(&self, ttl: Duration, slot: &Arc<Slot>) {
        let mut open = self.open.lock();
        if open.get(&ttl).is_some_and(|there| Arc::ptr_eq(there, slot)) {
            open.remove(&ttl);
        }
    }

    /// Lets no key join any more. Keys that were put live on by themselves.
    pub(crate) fn close(&self) {
        self.open.lock().clear();
        self.sweeps.lock().abort_all();
    }
}
