//! Leases.

use crate::{giving::Giving, store::Inner};
use kv_core::{Error, ErrorKind, LeaseId, LeaseOptions, Leased, Result, backend::Alive};
use std::{sync::Arc, time::Duration};

pub(crate) async fn lease(inner: &Arc<Inner>, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
    let engine = inner.engine()?;
    let ttl = crate::store::lives().grant(ttl)?;
    let each = options.each_request;
    let lease = engine.next_id();
    // Made before the grant is asked for, so that a dropped future leaves none behind.
    let giving = Giving::new(inner, move |batch| batch.revoke(lease));
    let revoke = inner.tasks.undo(giving.run(each));
    let asked = engine.time.clock().now();
    engine.write(options.deadline, 16, move |batch| batch.grant_lease(lease, ttl).map(Ok)).await?;
    // It counts from its commit, not from its place in the queue. One that has ended meanwhile is found to be lost.
    let from = engine.renew_lease(lease).unwrap_or(asked);
    let alive = Alive::keep(engine.time.clock(), ttl, from, {
        let inner = inner.clone();
        move || {
            let inner = inner.clone();
            async move { inner.engine()?.renew_lease(lease).map(drop) }
        }
    });
    Ok(Leased { id: LeaseId::new(lease.to_string()), ttl, alive, revoke })
}

/// The number of a lease.
pub(crate) fn number(id: &LeaseId) -> Result<u64> {
    id.as_str().parse().map_err(|_| {
        Error::new(
            ErrorKind::InvalidArgument,
            format!("{:?} is no lease of this store; ask it for one", id.as_str()),
        )
    })
}
