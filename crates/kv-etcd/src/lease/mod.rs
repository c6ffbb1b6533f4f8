//! Leases, granted under numbers of our own, so that a grant can be undone whatever became of its
//! answer. The number also tells what the lease is for.

pub(crate) mod grant;
mod granted;
mod ttl;
pub(crate) mod ttl_leases;

pub(crate) use grant::grant;
pub(crate) use granted::{For, Grant, SESSIONS};
pub(crate) use ttl::ttl_lease;
pub(crate) use ttl_leases::TtlUse;

use crate::{client::Client, core::Core};
use granted::renew;
use kv_core::{
    Error, ErrorKind, LeaseId, Result,
    backend::Alive,
    driver::{LeaseOptions, Leased},
};
use std::{sync::Arc, time::Duration};

/// Keeps a lease alive for as long as the returned value lives.
pub(crate) fn keep(core: &Core, grant: &Grant) -> Alive {
    let (client, id) = (core.client.clone(), grant.id);
    Alive::keep_by(&core.clock, grant.ttl, grant.at, move |deadline| {
        let client: Arc<Client> = client.clone();
        async move { renew(&client, id, deadline).await }
    })
}

/// Does [`Store::lease`](kv_core::driver::Store::lease).
pub(crate) async fn lease(core: &Core, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
    let grant = grant(&core.granter(), ttl, For::Owner, options.deadline, options.each_request).await?;
    let alive = keep(core, &grant);
    Ok(Leased { id: LeaseId::new(format!("{:x}", grant.id)), ttl: grant.ttl, alive, revoke: grant.revoke })
}

/// Returns the server's number of a lease.
pub(crate) fn number(id: &LeaseId) -> Result<i64> {
    i64::from_str_radix(id.as_str(), 16).map_err(|e| {
        Error::new(ErrorKind::InvalidArgument, format!("{:?} is no lease of etcd's", id.as_str()))
            .with_cause(e)
    })
}
