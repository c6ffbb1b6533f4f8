//! Checks, before any I/O, that a store can do what a recipe needs.

use kv_core::{Kv, Result, Watching};
use std::time::Duration;

/// Refuses a store without leases, and a TTL that it does not grant.
pub(crate) fn leases(kv: &Kv, ttl: Duration) -> Result<()> {
    let capabilities = kv.capabilities();
    let range = capabilities.lease.as_ref().ok_or_else(|| capabilities.unsupported("leases"))?;
    range.grant(ttl).map(drop)
}

/// Refuses a store without watches.
pub(crate) fn watches(kv: &Kv) -> Result<()> {
    match kv.capabilities().watch {
        Watching::Unsupported => Err(kv.capabilities().unsupported("watches")),
        _ => Ok(()),
    }
}

/// The lock, the version and the write of a compare-and-swap that depends on a lock.
const FENCED: usize = 3;

/// Refuses a store without locks, or whose writes cannot depend on one, and a TTL that it does not
/// grant.
pub(crate) fn fences(kv: &Kv, ttl: Duration) -> Result<()> {
    let capabilities = kv.capabilities();
    match &capabilities.lock {
        Some(locking) if locking.fenced_writes && capabilities.max_txn_ops >= FENCED => {
            locking.ttl.grant(ttl).map(drop)
        }
        Some(_) => Err(capabilities.unsupported("writes that depend on a lock")),
        None => Err(capabilities.unsupported("locks")),
    }
}

/// Refuses a store without transactions of so many conditions and writes.
pub(crate) fn transactions(kv: &Kv, operations: usize) -> Result<()> {
    let capabilities = kv.capabilities();
    if capabilities.max_txn_ops < operations {
        return Err(capabilities.unsupported(&format!("transactions of {operations} conditions and writes")));
    }
    Ok(())
}
