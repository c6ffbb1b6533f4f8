//! Leases: granted by a commit, renewed in memory.

use crate::{
    core::{self, Core},
    giving::Giving,
};
use kv_core::{
    Error, ErrorKind, LeaseId, Result,
    backend::Alive,
    driver::{LeaseOptions, Leased},
};
use std::{sync::Arc, time::Duration};

/// Grants a lease, which is kept alive until it is given back.
pub(crate) async fn lease(core: &Arc<Core>, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
    let engine = core.engine()?;
    let ttl = core::lives().grant(ttl)?;
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
    Ok(Leased { id: LeaseId::new(lease.to_string()), ttl, alive, revoke })
}

/// Reads the number of a lease from its id.
pub(crate) fn number(id: &LeaseId) -> Result<u64> {
    id.as_str().parse().map_err(|_| {
        Error::new(
            ErrorKind::InvalidArgument,
            format!("{:?} is no lease of this store; ask it for one", id.as_str()),
        )
    })
}
