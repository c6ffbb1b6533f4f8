//! Leases: granted under ids of our own, so that a grant can be repeated and undone whatever became of its answer.

use crate::{
    client::{Client, Does},
    error::says,
};
use etcd_client::{LeaseGrantOptions, LeaseTimeToLiveOptions};
use kv_core::{
    Deadline, Error, ErrorKind, LeaseId, LeaseOptions, Leased, Result,
    backend::{Alive, Clock, Instant, Undo},
};
use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

/// Begins the numbers of our leases, so that they are known when a key under one of them is replaced or deleted.
const OURS: i64 = 0x6b76_6c00_0000_0000;
const MARK: i64 = 0x7fff_ff00_0000_0000;

/// A lease that was granted.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) id: i64,
    /// A moment before it was granted.
    pub(crate) at: Instant,
    /// What the server made of the TTL.
    pub(crate) ttl: Duration,
    pub(crate) revoke: Undo,
}

/// A number that nobody else uses.
pub(crate) fn unique() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// Asks for a lease of whole seconds.
pub(crate) async fn grant(
    client: &Arc<Client>,
    clock: &Clock,
    ttl: Duration,
    deadline: Deadline,
    each_request: Duration,
) -> Result<Grant> {
    let id = OURS | (unique().cast_signed() & !MARK & i64::MAX);
    let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
    let (revoke, at) = (revoke(client, id, each_request), clock.now());
    let options = LeaseGrantOptions::new().with_id(id);
    let answer = client
        .call(Does::Repeatable, deadline, |service| {
            let options = options.clone();
            async move { service.lease_client().grant(seconds, Some(options)).await }
        })
        .await;
    let ttl = match answer {
        Ok(granted) => Duration::from_secs(u64::try_from(granted.ttl()).unwrap_or_default()),
        // A repeat, whose first answer was lost.
        Err(e) if says(&e, "lease already exists") => ttl,
        Err(e) => return Err(e),
    };
    Ok(Grant { id, at, ttl, revoke })
}

/// Ends a lease, and its keys; `true` when it was there.
pub(crate) fn revoke(client: &Arc<Client>, id: i64, each_request: Duration) -> Undo {
    let client = client.clone();
    Undo::new(async move {
        let revoked = client.call(Does::Repeatable, Deadline::after(each_request), |service| async move {
            service.lease_client().revoke(id).await
        });
        match revoked.await {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::LeaseLost => Ok(false),
            Err(e) => Err(e),
        }
    })
}

/// Whether one of ours granted it, most likely.
pub(crate) fn is_ours(id: i64) -> bool {
    id & MARK == OURS
}

/// Revokes those of these leases that hold no key any more.
pub(crate) async fn sweep(client: Arc<Client>, leases: Vec<i64>) {
    for id in leases {
        let keys = client.call(Does::Read, Deadline::default(), |service| async move {
            let keys = LeaseTimeToLiveOptions::new().with_keys();
            service.lease_client().time_to_live(id, Some(keys)).await
        });
        match keys.await {
            Ok(lease) if lease.ttl() > 0 && lease.keys().is_empty() => {
                // What cannot be revoked ends by its TTL.
                let _ = revoke(&client, id, Deadline::DEFAULT).run().await;
            }
            _ => {}
        }
    }
}

/// Renews a lease once.
pub(crate) async fn renew(client: &Client, id: i64, deadline: Deadline) -> Result<()> {
    let renewal =
        |service: etcd_client::Client| async move { service.lease_client().keep_alive(id).await.map(drop) };
    client.call(Does::Stream, deadline, renewal).await
}

/// Keeps a lease alive as long as the answer lives.
pub(crate) fn keep(client: &Arc<Client>, clock: &Clock, grant: &Grant, each_request: Duration) -> Alive {
    let (client, id) = (client.clone(), grant.id);
    Alive::keep(clock, grant.ttl, grant.at, move || {
        let client = client.clone();
        async move { renew(&client, id, Deadline::after(each_request)).await }
    })
}

/// [`Store::lease`](kv_core::Store::lease).
pub(crate) async fn lease(
    client: &Arc<Client>,
    clock: &Clock,
    ttl: Duration,
    options: &LeaseOptions,
) -> Result<Leased> {
    let grant = grant(client, clock, ttl, options.deadline, options.each_request).await?;
    let alive = keep(client, clock, &grant, options.each_request);
    Ok(Leased { id: LeaseId::new(format!("{:x}", grant.id)), ttl: grant.ttl, alive, revoke: grant.revoke })
}

/// The server's number of a lease.
pub(crate) fn number(id: &LeaseId) -> Result<i64> {
    i64::from_str_radix(id.as_str(), 16).map_err(|e| {
        Error::new(ErrorKind::InvalidArgument, format!("{:?} is no lease of etcd's", id.as_str()))
            .with_cause(e)
    })
}
