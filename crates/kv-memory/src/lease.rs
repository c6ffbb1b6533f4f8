//! Leases.

use crate::{
    Memory,
    data::{Data, Due, Name},
};
use kv_core::{
    Error, ErrorKind, LeaseId, Leased, Result,
    backend::{Alive, Instant, Undo},
};
use std::{collections::BTreeSet, future::ready, sync::Arc, time::Duration};

/// A lease that is alive.
pub(crate) struct Lease {
    until: Instant,
    pub(crate) prefix: Name,
    pub(crate) keys: BTreeSet<Name>,
}

fn lost() -> Error {
    Error::new(ErrorKind::LeaseLost, "the lease has ended: its TTL passed, or it was revoked")
}

impl Data {
    /// The lease, if it is alive.
    pub(crate) fn lease(&self, id: &LeaseId) -> Result<u64> {
        id.as_str().parse().ok().filter(|id| self.leases.contains_key(id)).ok_or_else(lost)
    }

    fn renew_lease(&mut self, id: u64, ttl: Duration) -> Result<()> {
        let until = self.clock.now() + ttl;
        let lease = self.leases.get_mut(&id).ok_or_else(lost)?;
        let before = std::mem::replace(&mut lease.until, until);
        self.cancel(before, Due::Lease(id));
        self.schedule(until, Due::Lease(id));
        Ok(())
    }

    /// Ends the lease and removes its keys; whether it was alive.
    pub(crate) fn end_lease(&mut self, id: u64) -> bool {
        let Some(lease) = self.leases.remove(&id) else { return false };
        self.cancel(lease.until, Due::Lease(id));
        for name in &lease.keys {
            self.remove(name);
        }
        true
    }
}

impl Memory {
    /// A lease of this TTL, which the store grants.
    pub(crate) fn grant(&self, ttl: Duration) -> Result<Leased> {
        let mut data = self.look();
        let id = data.count();
        let memory = self.clone();
        let revoke = Undo::new(async move { Ok(memory.look().end_lease(id)) });
        let (clock, granted) = (data.clock.clone(), data.clock.now());
        let until = granted + ttl;
        data.leases.insert(id, Lease { until, prefix: self.0.prefix.clone(), keys: BTreeSet::new() });
        data.schedule(until, Due::Lease(id));
        drop(data);
        let shared = Arc::downgrade(&self.0.shared);
        let alive = Alive::keep(&clock, ttl, granted, move || {
            let Some(shared) = shared.upgrade() else { return ready(Err(lost())) };
            let renewed = shared.look().renew_lease(id, ttl);
            ready(renewed)
        });
        Ok(Leased { id: LeaseId::new(id.to_string()), ttl, alive, revoke })
    }
}
