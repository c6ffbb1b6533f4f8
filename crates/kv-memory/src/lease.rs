//! Leases.

use crate::{
    Memory,
    data::{Data, Due, Name},
    faults::Does,
    lock::End,
};
use kv_core::{Deadline, Error, ErrorKind, LeaseId, Leased, Result, backend::Alive};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// A lease that is alive.
pub(crate) struct Lease {
    pub(crate) prefix: Name,
    pub(crate) keys: BTreeSet<Name>,
    /// Ends its owner's life early.
    end: Option<End>,
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
        if !self.leases.contains_key(&id) {
            return Err(lost());
        }
        self.schedule(self.clock.now() + ttl, Due::Lease(id));
        Ok(())
    }

    /// Ends the lease from outside: its owner is told; whether it was alive.
    pub(crate) fn evict_lease(&mut self, id: u64, why: &str) -> bool {
        if let Some(end) = self.leases.get(&id).and_then(|lease| lease.end.as_ref()) {
            end(why);
        }
        self.end_lease(id)
    }

    /// Has the owner told when the lease is ended from outside; it may have been already.
    fn tell_lease(&mut self, id: u64, alive: &Alive) {
        match self.leases.get_mut(&id) {
            Some(lease) => lease.end = Some(Box::new(alive.ending())),
            None => alive.end(lost().message()),
        }
    }

    /// Ends the lease and removes its keys; whether it was alive.
    pub(crate) fn end_lease(&mut self, id: u64) -> bool {
        let Some(lease) = self.leases.remove(&id) else { return false };
        self.cancel(&Due::Lease(id));
        for name in &lease.keys {
            self.remove(name);
        }
        true
    }
}

impl Memory {
    /// A lease of this TTL, which the store grants.
    pub(crate) fn grant(&self, ttl: Duration, each: Duration) -> Result<Leased> {
        let mut data = self.look();
        let id = data.count();
        let memory = self.clone();
        let revoke = self.0.tasks.undo(async move {
            memory.trouble().resumed_by(Does::Write, Deadline::after(each)).await?;
            Ok(memory.look().end_lease(id))
        });
        let (clock, granted) = (data.clock.clone(), data.clock.now());
        let lease = Lease { prefix: self.0.prefix.clone(), keys: BTreeSet::new(), end: None };
        data.leases.insert(id, lease);
        data.schedule(granted + ttl, Due::Lease(id));
        drop(data);
        let (shared, trouble) = (Arc::downgrade(&self.0.shared), self.trouble().clone());
        let alive = Alive::keep(&clock, ttl, granted, move || {
            let (shared, resumed) = (shared.clone(), trouble.resumed());
            async move {
                resumed.await;
                shared.upgrade().ok_or_else(lost)?.look().renew_lease(id, ttl)
            }
        });
        self.look().tell_lease(id, &alive);
        Ok(Leased { id: LeaseId::new(id.to_string()), ttl, alive, revoke })
    }
}
