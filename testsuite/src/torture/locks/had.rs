//! The object of contention: locks, or the lead of elections, which has to keep the same promises.

use kv_core::{Fence, Guard, Kv, Lock, Result};
use kv_recipes::{Election, Term};
use std::{fmt, str::FromStr, time::Duration};
use tokio::time::timeout;

/// The kind of what is contended for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Lock,
    Office,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Lock { "lock" } else { "office" })
    }
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        [Self::Lock, Self::Office].into_iter().find(|kind| kind.to_string() == text).ok_or(())
    }
}

/// One that is asked for.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    Lock(Lock),
    Office(Election),
}

impl Wanted {
    pub(super) fn new(kind: Kind, kv: &Kv, name: String, ttl: Duration, attempt: &str) -> Self {
        match kind {
            Kind::Lock => Self::Lock(kv.new_lock(name).ttl(ttl).value(attempt)),
            Kind::Office => Self::Office(Election::new(kv, name).candidate(attempt).ttl(ttl)),
        }
    }

    pub(super) async fn acquire(self) -> Result<Had> {
        match self {
            Self::Lock(lock) => lock.acquire().await.map(Had::guard),
            Self::Office(election) => election.campaign().await.map(Had::Term),
        }
    }

    pub(super) async fn acquire_within(self, wait: Duration) -> Result<Option<Had>> {
        match self {
            Self::Lock(lock) => Ok(lock.acquire_within(wait).await?.map(Had::guard)),
            Self::Office(_) => timeout(wait, self.acquire()).await.ok().transpose(),
        }
    }

    /// Asks without waiting; a candidate cannot, and does not wait long.
    pub(super) async fn try_acquire(self) -> Result<Option<Had>> {
        match self {
            Self::Lock(lock) => Ok(lock.try_acquire().await?.map(Had::guard)),
            Self::Office(_) => self.acquire_within(Duration::from_millis(20)).await,
        }
    }
}

/// One that is held.
#[derive(Debug)]
pub(super) enum Had {
    Guard(Box<Guard>),
    Term(Term),
}

impl Had {
    fn guard(guard: Guard) -> Self {
        Self::Guard(Box::new(guard))
    }

    pub(super) fn token(&self) -> u64 {
        self.fence().token()
    }

    pub(super) fn fence(&self) -> &Fence {
        match self {
            Self::Guard(guard) => guard.fence(),
            Self::Term(term) => term.fence(),
        }
    }

    pub(super) fn is_held(&self) -> bool {
        match self {
            Self::Guard(guard) => guard.is_held(),
            Self::Term(term) => term.is_held(),
        }
    }

    pub(super) fn remaining(&self) -> Duration {
        match self {
            Self::Guard(guard) => guard.remaining(),
            Self::Term(term) => term.remaining(),
        }
    }

    pub(super) async fn release(self) -> Result<bool> {
        match self {
            Self::Guard(guard) => guard.release().await,
            Self::Term(term) => term.resign().await,
        }
    }
}

impl AsRef<Fence> for Had {
    fn as_ref(&self) -> &Fence {
        self.fence()
    }
}

/// Returns the attempt that the value of a lock names: it is the value, or the candidate of a
/// record.
pub(super) fn attempt_of(value: &[u8]) -> String {
    let value = String::from_utf8_lossy(value);
    let candidate = value.split_once("\"candidate\":\"").and_then(|(_, rest)| rest.split_once('"'));
    candidate.map_or(&*value, |(candidate, _)| candidate).to_owned()
}
