//! The events of a watch.

use crate::{Entry, Key, Version};

/// One event of a watch. Folding the events over an empty map always arrives at what a listing
/// shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// The key has this value and version now.
    Put(Entry),
    /// The key is gone.
    Delete {
        /// The key.
        key: Key,
        /// The version that this stream last gave for the key, or a newer one.
        version: Version,
    },
    /// Everything that was there, at first or after an outage, has been told; from here on come
    /// changes.
    Synced,
}

impl WatchEvent {
    /// Returns the key that the event speaks of.
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Put(entry) => Some(&entry.key),
            Self::Delete { key, .. } => Some(key),
            Self::Synced => None,
        }
    }
}
