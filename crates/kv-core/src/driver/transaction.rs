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
        /// The options, as of a put.
        options: PutOptions,
    },
    /// Deletes the key, if it is there.
    Delete {
        /// The key.
        key: Key,
    },
}

impl Write {
    /// Returns the key that is written.
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
    /// The conditions, all of which must be true at one moment.
    pub conditions: Vec<Condition>,
    /// The writes that happen then, at the same moment. No key is written twice.
    pub writes: Vec<Write>,
}

impl Transaction {
    /// Makes a transaction.
    pub fn new(conditions: Vec<Condition>, writes: Vec<Write>) -> Self {
        Self { conditions, writes }
    }

    /// Returns every key in the transaction, for a layer that renames keys.
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
