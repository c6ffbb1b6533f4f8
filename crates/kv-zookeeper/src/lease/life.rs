//! Finds the life of a key that is put: for ever, a lease, or a session that keys of one TTL
//! share.

use super::expiring::Slot;
use crate::{
    client::{limits::Limits, session::Ephemeral},
    core::Core,
    write::directory,
};
use kv_core::{
    Error, ErrorKind, Result,
    backend::{Instant, apart},
    driver::{Deadline, PutOptions},
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
    time::Duration,
};

/// The life of the keys that a request puts.
#[derive(Clone)]
pub(crate) enum Life {
    Forever,
    Own { session: Arc<Ephemeral>, ttl: Option<Duration> },
}

impl Life {
    /// Returns the granted TTL, where the keys have one.
    pub(crate) fn ttl(&self) -> Option<Duration> {
        match self {
            Self::Own { ttl, .. } => *ttl,
            Self::Forever => None,
        }
    }
}

/// Returns the life of a key that is put with these options, and opens a session for it where one
/// is needed.
pub(crate) async fn life(core: &Core, options: &PutOptions, deadline: Deadline) -> Result<Life> {
    if let Some(id) = &options.lease {
        let lease = core.leases.lock().get(id.as_str()).and_then(Weak::upgrade);
        let session = lease.filter(|lease| lease.is_alive()).ok_or_else(|| {
            let why = format!("the lease {:?} has ended, or is not one of this store handle", id.as_str());
            Error::new(ErrorKind::LeaseLost, why)
        })?;
        return Ok(Life::Own { session, ttl: None });
    }
    let Some(ttl) = options.ttl else { return Ok(Life::Forever) };
    Ok(Life::Own { session: expiring(core, ttl, deadline).await?, ttl: Some(ttl) })
}

/// Returns a session that ends this long after a put of now.
async fn expiring(core: &Core, ttl: Duration, deadline: Deadline) -> Result<Arc<Ephemeral>> {
    loop {
        let slot = core.expiring.slot(ttl)?;
        let (opened, session) = match slot.0.get() {
            Some(begun) => begun.clone(),
            // All puts of the TTL wait for whoever opens it, whether its caller polls it or not.
            None => apart(fill(core.this.clone(), slot.clone(), ttl, deadline)).await?,
        };
        if core.clock.now().since(opened) <= Limits::shared(ttl) && session.is_alive() {
            return Ok(session);
        }
        core.expiring.forget(ttl, &slot);
    }
}

/// Returns the session in the slot, and opens one where none is there.
async fn fill(
    store: Weak<Core>,
    slot: Arc<Slot>,
    ttl: Duration,
    deadline: Deadline,
) -> Result<(Instant, Arc<Ephemeral>)> {
    let core = store.upgrade().ok_or_else(|| Error::new(ErrorKind::Closed, "the store was closed"))?;
    slot.0.get_or_try_init(|| begin(&core, ttl, &slot, deadline)).await.cloned()
}

/// Opens a session that is left to itself after a while. Its directories are cleared when it is
/// over.
async fn begin(
    core: &Core,
    ttl: Duration,
    slot: &Arc<Slot>,
    deadline: Deadline,
) -> Result<(Instant, Arc<Ephemeral>)> {
    let opened = core.clock.now();
    let timeout = core.limits.timeout(ttl);
    let session = Arc::new(Ephemeral::open(&core.client.options, timeout, true, deadline).await?);
    let (store, weak, clock) = (core.this.clone(), Arc::downgrade(slot), core.clock.clone());
    let late = core.capabilities.lateness(ttl);
    let mut sweeps = core.expiring.sweeps.lock();
    while sweeps.try_join_next().is_some() {}
    sweeps.spawn(async move {
        clock.sleep(Limits::shared(ttl)).await;
        let Some(directories) = leave(&store, &weak, ttl) else { return };
        clock.sleep(ttl + late).await;
        if let Some(core) = store.upgrade() {
            for path in directories.iter().rev() {
                directory::clear(&core, path, None, Deadline::default()).await;
            }
        }
    });
    Ok((opened, session))
}

/// Leaves the session to itself, and returns the directories of its keys.
fn leave(core: &Weak<Core>, slot: &Weak<Slot>, ttl: Duration) -> Option<BTreeSet<String>> {
    let slot = slot.upgrade()?;
    core.upgrade()?.expiring.forget(ttl, &slot);
    let (_, session) = slot.0.get()?;
    Some(session.directories())
}
