//! Transactions as a store gets them, and the decision of the store.

use crate::{Condition, Key, Written, driver::PutOptions};
use bytes::Bytes;

/// One write of a [`Transaction`].
#[derive(Clone, Debug)]
pub enum Write {
    /// Creates or replaces the key.
    Put {
        /// The key.
        key: Key,
        /// The value.
        value: Bytes,
        /// As of a put.
        options: PutOptions,
    },
    /// Deletes the key, if it is there.
    Delete {
        /// The key.
        key: Key,
    },
}

impl Write {
    /// The key that is written.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// Conditions and writes that happen together or not at all.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Transaction {
    /// All of them must be true, at one moment.
    pub conditions: Vec<Condition>,
    /// The writes that happen then, at the same moment. No key is written twice.
    pub writes: Vec<Write>,
}

impl Transaction {
    /// A transaction.
    pub fn new(conditions: Vec<Condition>, writes: Vec<Write>) -> Self {
        Self { conditions, writes }
    }

    /// Every key in it, for a layer that renames.
    pub fn keys_mut(&mut self) -> impl Iterator<Item = &mut Key> {
        let conditions = self.conditions.iter_mut().filter_map(|c| match c {
            Condition::Version(key, _) | Condition::Exists(key) | Condition::Missing(key) => Some(key),
            Condition::Held(_) => None,
        });
        conditions.chain(self.writes.iter_mut().map(|w| match w {
            Write::Put { key, .. } | Write::Delete { key } => key,
        }))
    }
}

/// The decision of a store about a [`Transaction`], which is the answer of
/// [`Store::transact`](crate::driver::Store::transact).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a refused transaction has written nothing"]
pub enum Decision {
    /// All writes happened; for each, in order, what a put answers, and `None` for a delete.
    Committed(Vec<Option<Written>>),
    /// Nothing happened.
    Refused {
        /// The index of the first condition that was not true.
        condition: usize,
    },
}

impl Decision {
    /// Tells whether the writes happened.
    pub fn is_committed(&self) -> bool {
        matches!(self, Self::Committed(_))
    }
}
