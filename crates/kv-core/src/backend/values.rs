//! What a watch knows of the values that it told.

use crate::{Key, WatchEvent};
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
};

/// A digest of the value that was told last of each key. A server that is wiped, or put back to an older copy of its data,
/// counts on from there: what is written then under the same version as something that was told is known by its value alone.
///
/// ```
/// use kv_core::{Entry, Key, Version, WatchEvent, backend::Values};
///
/// let (key, mut values) = (Key::parse("a").unwrap(), Values::default());
/// values.told(&WatchEvent::Put(Entry::new(key.clone(), "one", Version::new(1, 0))));
/// assert!(values.differs(&key, b"two") && !values.differs(&key, b"one"));
/// ```
#[derive(Debug, Default)]
pub struct Values {
    digests: HashMap<u64, u64>,
    hashes: RandomState,
}

impl Values {
    /// This value was told, or is the one that was.
    pub fn note(&mut self, key: &Key, value: &[u8]) {
        self.digests.insert(self.hashes.hash_one(key), self.hashes.hash_one(value));
    }

    /// Notes what an event tells.
    pub fn told(&mut self, event: &WatchEvent) {
        match event {
            WatchEvent::Put(entry) => self.note(&entry.key, &entry.value),
            WatchEvent::Delete { key, .. } => drop(self.digests.remove(&self.hashes.hash_one(key))),
            WatchEvent::Synced => {}
        }
    }

    /// Whether another value was told of the key.
    pub fn differs(&self, key: &Key, value: &[u8]) -> bool {
        let noted = self.digests.get(&self.hashes.hash_one(key));
        noted.is_some_and(|noted| *noted != self.hashes.hash_one(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Version;

    #[test]
    fn the_value_that_was_told_last_is_known() {
        let (mut values, a, b) = (Values::default(), Key::parse("a").unwrap(), Key::parse("b").unwrap());
        values.note(&a, b"one");
        assert!(values.differs(&a, b"two") && !values.differs(&a, b"one") && !values.differs(&b, b"two"));
        values.note(&a, b"two");
        assert!(values.differs(&a, b"one"));
        values.told(&WatchEvent::Delete { key: a.clone(), version: Version::new(1, 0) });
        assert!(!values.differs(&a, b"one") && values.digests.is_empty());
    }
}
