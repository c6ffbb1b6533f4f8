//! Leases, granted under numbers of our own, so that a grant can be undone whatever became of its
//! answer. The number also tells what the lease is for.

mod ttl_leases;

pub(crate) use ttl_leases::{TtlLeases, TtlUse, ttl_lease};

use crate::{
    client::{Client, Purpose},
    core::Core,
    error::is_lease_there,
};
use etcd_client::{Client as Service, LeaseGrantOptions};
use kv_core::{
    Error, ErrorKind, LeaseId, Result,
    backend::{Alive, Instant, Undo, retry::Answered, unique},
    driver::{Deadline, LeaseOptions, Leased},
};
use std::{sync::Arc, time::Duration};

/// Begins the number of a lease for TTLs; random bits stand behind it. Between the two stand seven
/// bits that are zero: stores of an earlier version noted there how many keys a lease of theirs
/// had, and revoked it when so many were gone. They leave alone what has none.
const TTL: i64 = 0x6b54 << 48;
const RANDOM: i64 = (1 << 41) - 1;
/// Masks the random numbers of the leases of users, so that they are smaller.
const OWNERS: i64 = i64::MAX >> 1;
/// Begins the numbers of the sessions of locks, which are greater than all others of ours: one
/// comparison tells that there is nothing of a lock in a range of names.
pub(crate) const SESSIONS: i64 = 0x7b54 << 48;
const SESSION: i64 = (1 << 48) - 1;

/// The use of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    /// The TTL of keys, which this store puts within a short time.
    Ttl,
    /// Keys that its owner puts under it, at any time.
    Owner,
    /// Locks, whose users do not ask whether the lease was there when it was ended.
    Session,
}

impl For {
    fn number(self) -> i64 {
        let random = unique().cast_signed();
        match self {
            Self::Ttl => TTL | random & RANDOM,
            Self::Owner => (random & OWNERS).max(1),
            Self::Session => SESSIONS | random & SESSION,
        }
    }
}

/// A lease that was granted.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) id: i64,
    /// Holds a moment before the lease was granted.
    pub(crate) at: Instant,
    /// Holds the TTL that the server granted.
    pub(crate) ttl: Duration,
    pub(crate) revoke: Undo,
}

/// Asks for a lease of whole seconds.
pub(crate) async fn grant(
    core: &Core,
    ttl: Duration,
    what: For,
    deadline: Deadline,
    each_request: Duration,
) -> Result<Grant> {
    let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
    loop {
        let id = what.number();
        let (at, client, tasks) = (core.clock.now(), core.client.clone(), core.tasks.clone());
        // A lease can be revoked for certain only after the answer, so the answer is awaited even
        // when the caller is gone.
        let asked = core.tasks.to_its_end(async move {
            let options = LeaseGrantOptions::new().with_id(id);
            let ask = client.ask(Purpose::Repeatable, deadline, |service| {
                let (mut leases, options) = (service.lease_client(), options.clone());
                async move { leases.grant(seconds, Some(options)).await }
            });
            let answer = ask.await;
            let revoke = tasks.undo_repeatable(move || {
                let client = client.clone();
                async move {
                    match revoke(&client, id, each_request).await? {
                        Answered { answer: false, is_repeat: true } if what == For::Owner => {
                            Err(gone("the lease"))
                        }
                        Answered { answer: was_there, .. } => Ok(was_there),
                    }
                }
            });
            (answer, revoke)
        });
        let (answer, revoke) = asked.await?;
        match answer.and_then(|answered| answered.answer) {
            Ok(granted) => {
                let ttl = Duration::from_secs(u64::try_from(granted.ttl()).unwrap_or_default());
                return Ok(Grant { id, at, ttl, revoke });
            }
            // The lease is ours, if the answer to an earlier attempt was lost, or somebody else's:
            // it is left to its TTL.
            Err(e) if is_lease_there(&e) => revoke.forget(),
            Err(e) => {
                // A server that becomes full by a request does it, though it refuses it.
                if !matches!(e.kind(), ErrorKind::OutcomeUnknown | ErrorKind::NoSpace) {
                    revoke.forget();
                }
                return Err(e);
            }
        }
    }
}

/// Revokes a lease, which deletes its keys; returns whether the lease was there, and whether the
/// answer is to a repeat.
async fn revoke(client: &Client, id: i64, each_request: Duration) -> Result<Answered<bool>> {
    let revoke = |service: &Service| {
        let mut leases = service.lease_client();
        async move { leases.revoke(id).await }
    };
    let revoked = client.ask(Purpose::Repeatable, Deadline::after(each_request), revoke).await?;
    let is_repeat = revoked.is_repeat;
    match revoked.answer {
        Ok(_) => Ok(Answered { answer: true, is_repeat }),
        Err(e) if e.kind() == ErrorKind::LeaseLost => Ok(Answered { answer: false, is_repeat }),
        Err(e) => Err(e),
    }
}

/// Returns the error of a repeat that found nothing: the attempt before it may have ended what is
/// gone.
pub(crate) fn gone(what: &str) -> Error {
    let why = format!("{what} is gone; whether it was there until now is not known, for an answer was lost");
    Error::new(ErrorKind::OutcomeUnknown, why)
}

/// Renews a lease once.
pub(crate) async fn renew(client: &Client, id: i64, deadline: Deadline) -> Result<()> {
    let renewal = |service: &Service| {
        let mut leases = service.lease_client();
        async move { leases.keep_alive(id).await.map(drop) }
    };
    client.call(Purpose::Renewal, deadline, renewal).await
}

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
    let range = core.capabilities.lease.as_ref();
    let ttl = range.ok_or_else(|| core.capabilities.unsupported("leases"))?.grant(ttl)?;
    let grant = grant(core, ttl, For::Owner, options.deadline, options.each_request).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_tells_what_a_lease_is_for() {
        for _ in 0..1000 {
            let (owners, ttl, session) = (For::Owner.number(), For::Ttl.number(), For::Session.number());
            assert!(0 < owners && owners < TTL && TTL <= ttl && ttl < SESSIONS && SESSIONS <= session);
            assert_eq!(ttl >> 41 & 0x7f, 0, "an earlier version would revoke it");
        }
    }
}
