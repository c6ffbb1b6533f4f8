//! Leases in the data set: begun, renewed, ended by their owners or from outside.

use super::{
    Data,
    records::{Due, Lease, Name},
};
use crate::error;
use kv_core::{
    LeaseId, Result,
    backend::{Alive, Instant},
};
use std::{collections::BTreeSet, time::Duration};

impl Data {
    /// Returns the number of the lease, if it is alive.
    pub(crate) fn lease(&self, id: &LeaseId) -> Result<u64> {
        id.as_str().parse().ok().filter(|id| self.leases.contains_key(id)).ok_or_else(error::lease_lost)
    }

    /// Begins a lease; returns the moment from which its TTL counts.
    pub(crate) fn begin_lease(&mut self, id: u64, prefix: Name, ttl: Duration) -> Instant {
        let granted = self.clock.now();
        self.leases.insert(id, Lease { prefix, keys: BTreeSet::new(), end: None });
        self.schedule(granted + ttl, Due::Lease(id));
        granted
    }

    pub(crate) fn renew_lease(&mut self, id: u64, ttl: Duration) -> Result<()> {
        if !self.leases.contains_key(&id) {
            return Err(error::lease_lost());
        }
        self.schedule(self.clock.now() + ttl, Due::Lease(id));
        Ok(())
    }

    /// Ends the lease from outside, and tells its owner; returns whether it was alive.
    pub(crate) fn evict_lease(&mut self, id: u64, why: &str) -> bool {
        if let Some(end) = self.leases.get(&id).and_then(|lease| lease.end.as_ref()) {
            end(why);
        }
        self.end_lease(id)
    }

    /// Has the owner told when the lease is ended from outside; at once, if it has ended already.
    pub(crate) fn tell_lease(&mut self, id: u64, alive: &Alive) {
        match self.leases.get_mut(&id) {
            Some(lease) => lease.end = Some(Box::new(alive.ending())),
            None => alive.end(error::lease_lost().message()),
        }
    }

    /// Ends the lease and removes its keys; returns whether it was alive.
    pub(crate) fn end_lease(&mut self, id: u64) -> bool {
        let Some(lease) = self.leases.remove(&id) else { return false };
        self.cancel(&Due::Lease(id));
        for name in &lease.keys {
            self.remove(name);
        }
        true
    }
}
