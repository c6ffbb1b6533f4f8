//! Leases: granted by a commit, renewed in memory.

use crate::{core::Core, giving::Giving};
use kv_core::{
    Error, ErrorKind, LeaseId, Result,
    backend::Alive,
    driver::{LeaseOptions, Leased},
};
use std::{sync::Arc, time::Duration};

/// Grants a lease, which is kept alive until it is given back.
pub(crate) async fn lease(core: &Arc<Core>, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
    let engine = core.engine()?;
    let each = options.each_request;
    let lease = engine.next_id();
    // This is made before the grant is asked for, so that a dropped future leaves no lease behind.
    let giving = Giving::new(core, move |batch| batch.revoke(lease));
    let revoke = core.tasks.undo(giving.run(each));
    let asked = engine.time.clock().now();
    engine.write(options.deadline, 16, move |batch| batch.grant_lease(lease, ttl).map(Ok)).await?;
    // The TTL counts from the commit, not from the place in the queue. A lease that has ended
    // meanwhile is found to be lost.
    let from = engine.renew_lease(lease).unwrap_or(asked);
    let alive = Alive::keep(engine.time.clock(), ttl, from, {
        let core = core.clone();
        move || {
            let core = core.clone();
            async move { core.engine()?.renew_lease(lease).map(drop) }
        }
    });
    Ok(Leased { id: LeaseId::new(format!("{lease}-{:016x}", engine.mark())), ttl, alive, revoke })
}

/// Reads the number of a lease from its id. A lease of another file, or of an earlier opening of this
/// one, has ended: nobody keeps it alive here.
pub(crate) fn number(core: &Core, id: &LeaseId) -> Result<u64> {
    let read = |id: &str| {
        let (lease, mark) = id.split_once('-')?;
        Some((lease.parse().ok()?, u64::from_str_radix(mark, 16).ok()?))
    };
    let id = id.as_str();
    match read(id) {
        Some((lease, mark)) if mark == core.engine()?.mark() => Ok(lease),
        Some(_) => Err(Error::new(
            ErrorKind::LeaseLost,
            format!(
                "{id:?} is a lease of another file, or of an earlier opening of this one; ask for a new one"
            ),
        )),
        None => Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("{id:?} is no lease of this store; ask it for one"),
        )),
    }
}
