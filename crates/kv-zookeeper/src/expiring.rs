//! What keys with a TTL hang on: a session for all that are put with one TTL at about the same time, left to itself then.

use crate::{directory, error::lock, limits::Limits, session::Ephemeral, store::Inner};
use kv_core::{Deadline, Result, backend::Instant};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::{sync::OnceCell, task::JoinSet};

/// The sessions that keys still join, by their TTL.
#[derive(Default)]
pub(crate) struct Expiring {
    open: Mutex<HashMap<Duration, Arc<Slot>>>,
    /// Clears up behind sessions that are over, as long as the store lives.
    sweeps: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct Slot(OnceCell<(Instant, Arc<Ephemeral>)>);

impl Expiring {
    /// No key joins any more; what was put lives on by itself.
    pub(crate) fn close(&self) {
        lock(&self.open).clear();
        self.sweeps.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }

    fn forget(&self, ttl: Duration, slot: &Arc<Slot>) {
        let mut open = lock(&self.open);
        if open.get(&ttl).is_some_and(|there| Arc::ptr_eq(there, slot)) {
            open.remove(&ttl);
        }
    }
}

impl Inner {
    /// A session that goes this long after what is put now.
    pub(crate) async fn expiring(&self, ttl: Duration, deadline: Deadline) -> Result<Arc<Ephemeral>> {
        loop {
            let slot = lock(&self.expiring.open).entry(ttl).or_default().clone();
            let (opened, session) = slot.0.get_or_try_init(|| self.begin(ttl, &slot, deadline)).await?;
            if self.clock.now().since(*opened) <= Limits::shared(ttl) && session.is_alive() {
                return Ok(session.clone());
            }
            self.expiring.forget(ttl, &slot);
        }
    }

    async fn begin(
        &self,
        ttl: Duration,
        slot: &Arc<Slot>,
        deadline: Deadline,
    ) -> Result<(Instant, Arc<Ephemeral>)> {
        let opened = self.clock.now();
        let timeout = self.limits.timeout(ttl);
        let session = Arc::new(Ephemeral::open(&self.client.options, timeout, true, deadline).await?);
        let (inner, weak, clock) = (self.this.clone(), Arc::downgrade(slot), self.clock.clone());
        let late = self.capabilities.lateness(ttl);
        let mut sweeps = self.expiring.sweeps.lock().unwrap_or_else(PoisonError::into_inner);
        while sweeps.try_join_next().is_some() {}
        sweeps.spawn(async move {
            clock.sleep(Limits::shared(ttl)).await;
            let Some(directories) = leave(&inner, &weak, ttl) else { return };
            clock.sleep(ttl + late).await;
            if let Some(inner) = inner.upgrade() {
                for path in directories.iter().rev() {
                    directory::clear(&inner, path, Deadline::default()).await;
                }
            }
        });
        Ok((opened, session))
    }
}

/// Leaves the session to itself; where its keys lie.
fn leave(
    inner: &Weak<Inner>,
    slot: &Weak<Slot>,
    ttl: Duration,
) -> Option<std::collections::BTreeSet<String>> {
    let slot = slot.upgrade()?;
    inner.upgrade()?.expiring.forget(ttl, &slot);
    let (_, session) = slot.0.get()?;
    Some(session.directories())
}
