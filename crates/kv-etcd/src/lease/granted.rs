//! Leases that were granted: their numbers, which tell what they are for, and the requests about
//! them.

use crate::client::{Client, Purpose};
use etcd_client::Client as Service;
use kv_core::{
    Error, ErrorKind, Result,
    backend::{Instant, Undo, retry::Answered, unique},
    driver::Deadline,
};
use std::time::Duration;

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
    pub(super) fn number(self) -> i64 {
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

/// Revokes a lease, which deletes its keys; returns whether the lease was there, and whether the
/// answer is to a repeat.
pub(super) async fn revoke(client: &Client, id: i64, each_request: Duration) -> Result<Answered<bool>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_tells_what_a_lease_is_for() {
        for _ in 0..1000 {
            let (owners, ttl, session) = (For::Owner.number(), For::Ttl.number(), For::Session.number());
            assert!((1..TTL).contains(&owners) && (TTL..SESSIONS).contains(&ttl) && session >= SESSIONS);
            assert_eq!(ttl >> 41 & 0x7f, 0, "an earlier version would revoke it");
        }
    }
}
