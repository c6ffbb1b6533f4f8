//! What a watch knows of the values that it told.

use kv_core::Key;
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
};

/// A digest of the value that was told last of each key. A server that is wiped, or put back to an older copy of its data,
/// counts on from there: what is written then under the same revision as something that was told is known by its value
/// alone.
#[derive(Debug, Default)]
pub(crate) struct Values {
    digests: HashMap<u64, u64>,
    hashes: RandomState,
}

impl Values {
    pub(crate) fn note(&mut self, key: &Key, value: &[u8]) {
        self.digests.insert(self.hashes.hash_one(key), self.hashes.hash_one(value));
    }

    /// The key is gone.
    pub(crate) fn forget(&mut self, key: &Key) {
        self.digests.remove(&self.hashes.hash_one(key));
    }

    /// Whether another value was told of the key.
    pub(crate) fn differs(&self, key: &Key, value: &[u8]) -> bool {
        let noted = self.digests.get(&self.hashes.hash_one(key));
        noted.is_some_and(|noted| *noted != self.hashes.hash_one(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_that_was_told_last_is_known() {
        let (mut values, a, b) = (Values::default(), Key::parse("a").unwrap(), Key::parse("b").unwrap());
        values.note(&a, b"one");
        assert!(values.differs(&a, b"two") && !values.differs(&a, b"one") && !values.differs(&b, b"two"));
        values.note(&a, b"two");
        assert!(values.differs(&a, b"one"));
        values.forget(&a);
        assert!(!values.differs(&a, b"one") && values.digests.is_empty());
    }
}
