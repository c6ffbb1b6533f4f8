//! Transactions: conditions and writes, all or nothing.

use crate::{Key, Version, Written};
use bytes::Bytes;
use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// The proof of holding a lock, for [`Condition::Held`]. Only the backend that granted the lock
/// reads it.
#[derive(Clone)]
pub struct Fence {
    proof: Arc<(Key, u64, Bytes)>,
    /// The name by which the lock was acquired, where the backend's own is another.
    shown: Option<Key>,
}

impl PartialEq for Fence {
    fn eq(&self, other: &Self) -> bool {
        self.proof == other.proof
    }
}

impl Eq for Fence {}

impl Hash for Fence {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.proof.hash(state);
    }
}

impl AsRef<Fence> for Fence {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl Fence {
    /// Makes, for backends, a proof of the lock by the backend's own name for it, the token, and
    /// what else is needed to check it.
    pub fn new(lock: Key, token: u64, proof: impl Into<Bytes>) -> Self {
        Self { proof: Arc::new((lock, token, proof.into())), shown: None }
    }

    /// Has messages show the lock by the name by which it was acquired.
    pub(crate) fn acquired_as(mut self, name: &Key) -> Self {
        self.shown = (*name != self.proof.0).then(|| name.clone());
        self
    }

    /// Returns the backend's own name of the lock.
    pub fn lock(&self) -> &Key {
        &self.proof.0
    }

    /// Returns the fencing token, which grows with every acquisition of the lock.
    pub fn token(&self) -> u64 {
        self.proof.1
    }

    /// Returns what else the backend needs to check the proof.
    pub fn proof(&self) -> &Bytes {
        &self.proof.2
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.shown.as_ref().unwrap_or(&self.proof.0);
        write!(f, "lock {name:?} with token {}", self.proof.1)
    }
}

/// A condition of a [`Transaction`](crate::driver::Transaction), which must be true for it to
/// happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The key is at this version.
    Version(Key, Version),
    /// The key is there.
    Exists(Key),
    /// The key is not there.
    Missing(Key),
    /// The lock is still held by the one who got this proof.
    Held(Fence),
}

/// The end of a transaction. That a condition was not true is an answer, not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a refused transaction has written nothing"]
pub enum Outcome {
    /// All writes happened; for each, in order, what a put answers, and `None` for a delete.
    Committed(Vec<Option<Written>>),
    /// Nothing happened, for this reason.
    Refused(Refusal),
}

impl Outcome {
    /// Tells whether the writes happened.
    pub fn is_committed(&self) -> bool {
        matches!(self, Self::Committed(_))
    }

    /// Returns why nothing happened; `None` when the writes happened.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Committed(_) => None,
            Self::Refused(refusal) => Some(refusal),
        }
    }
}

/// The first condition of a transaction that was not true. `Display` says it in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// The index of the condition, in the order in which conditions were added, those of the steps
    /// (`if_version`, `if_missing`, `fenced`) among them.
    pub index: usize,
    /// The condition itself.
    pub condition: Condition,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, condition } = self;
        match condition {
            Condition::Version(key, version) => {
                write!(f, "condition {index}: the key {key:?} is not at version {version}")
            }
            Condition::Exists(key) => write!(f, "condition {index}: the key {key:?} is not there"),
            Condition::Missing(key) => write!(f, "condition {index}: the key {key:?} is there"),
            Condition::Held(fence) => write!(f, "condition {index}: the {fence:?} is no longer held"),
        }
    }
}
