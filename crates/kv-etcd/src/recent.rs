//! What a watch knows of the values that it told last.

use kv_core::Key;
use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
};

/// So many revisions back from the latest are remembered.
const WINDOW: i64 = 1024;

/// Digests of values, by the revision and the key of their writes. A server that is put back to an older copy of its data
/// counts on from there: what was written then under the same revision as something that was told is known by its value
/// alone.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    digests: BTreeMap<(i64, u64), u64>,
    hashes: RandomState,
}

impl Recent {
    pub(crate) fn note(&mut self, revision: i64, key: &Key, value: &[u8]) {
        let latest = self.digests.last_key_value().map_or(revision, |((latest, _), _)| *latest);
        if revision <= latest - WINDOW {
            return;
        }
        self.digests.insert((revision, self.hashes.hash_one(key)), self.hashes.hash_one(value));
        if revision > latest {
            let kept = self.digests.split_off(&(revision - WINDOW, 0));
            self.digests = kept;
        }
    }

    /// Whether the value of this write is remembered.
    pub(crate) fn knows(&self, revision: i64, key: &Key) -> bool {
        self.digests.contains_key(&(revision, self.hashes.hash_one(key)))
    }

    /// Whether this write had another value.
    pub(crate) fn differs(&self, revision: i64, key: &Key, value: &[u8]) -> bool {
        let noted = self.digests.get(&(revision, self.hashes.hash_one(key)));
        noted.is_some_and(|noted| *noted != self.hashes.hash_one(value))
    }

    /// Forgets what was written after this revision, in a history that was taken back.
    pub(crate) fn cut(&mut self, revision: i64) {
        self.digests.split_off(&(revision + 1, 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_known_by_its_value_for_a_while() {
        let (mut recent, key, other) =
            (Recent::default(), Key::parse("a").unwrap(), Key::parse("b").unwrap());
        recent.note(5, &key, b"one");
        assert!(recent.knows(5, &key) && !recent.knows(5, &other) && !recent.knows(6, &key));
        assert!(recent.differs(5, &key, b"two") && !recent.differs(5, &key, b"one"));
        assert!(!recent.differs(5, &other, b"two"));
        for revision in 6..5 + 3 * WINDOW {
            recent.note(revision, &other, b"");
        }
        assert!(!recent.knows(5, &key) && recent.digests.len() <= 1 + WINDOW as usize);
        recent.cut(6);
        assert!(recent.digests.is_empty());
        recent.note(7, &key, b"one");
        assert!(recent.knows(7, &key));
    }
}
