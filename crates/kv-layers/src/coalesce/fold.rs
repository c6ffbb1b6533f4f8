//! The keys that a watch has told so far, with their versions and without their values.

use kv_core::{Key, Version, WatchEvent};
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
};

/// The keys that are there by what a watch has told, and their versions. Two folds are compared by
/// a digest, which each event changes in one step, whatever the size of the tree.
#[derive(Debug, Default)]
pub(super) struct Fold {
    versions: HashMap<Key, Version>,
    /// The hashes of all keys with their versions, joined by exclusive or.
    digest: u64,
    is_synced: bool,
    last: Option<Last>,
}

/// The last change that a watch has told behind a `Synced`. No other one of its key is like it: a
/// version is given once, and ends once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Last {
    key: Key,
    /// The version that was put, or that ended.
    version: Version,
    is_end: bool,
}

impl Fold {
    /// Applies an event. Folds that are compared are made with the same hashes, whose keys are
    /// random: nobody can choose names by which two folds that differ have one digest.
    pub(super) fn apply(&mut self, event: &WatchEvent, hashes: &RandomState) {
        let hash = |key: &Key, version: Version| hashes.hash_one((key.as_str(), version));
        let told = match event {
            WatchEvent::Put(entry) => {
                if let Some(before) = self.versions.insert(entry.key.clone(), entry.version) {
                    self.digest ^= hash(&entry.key, before);
                }
                self.digest ^= hash(&entry.key, entry.version);
                Some(Last { key: entry.key.clone(), version: entry.version, is_end: false })
            }
            WatchEvent::Delete { key, .. } => self.versions.remove(key).map(|before| {
                self.digest ^= hash(key, before);
                Last { key: key.clone(), version: before, is_end: true }
            }),
            // What was told until here was in no order.
            WatchEvent::Synced => {
                (self.is_synced, self.last) = (true, None);
                None
            }
        };
        if self.is_synced && told.is_some() {
            self.last = told;
        }
    }

    /// Tells whether all that was there has been told.
    pub(super) fn is_synced(&self) -> bool {
        self.is_synced
    }

    /// Returns the last change since the last `Synced`.
    pub(super) fn last(&self) -> Option<&Last> {
        self.last.as_ref()
    }

    /// Tells whether the other one has the same keys at the same versions.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.digest == other.digest && self.versions.len() == other.versions.len()
    }

    pub(super) fn len(&self) -> usize {
        self.versions.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, Version)> {
        self.versions.iter().map(|(key, version)| (key, *version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_core::Entry;

    fn put(key: &str, version: u64) -> WatchEvent {
        WatchEvent::Put(Entry::new(Key::parse(key).unwrap(), "", Version::new(version, 0)))
    }

    fn delete(key: &str) -> WatchEvent {
        WatchEvent::Delete { key: Key::parse(key).unwrap(), version: Version::new(99, 0) }
    }

    #[test]
    fn folds_are_alike_by_what_is_there_and_not_by_the_way_to_it() {
        let hashes = RandomState::new();
        let fold = |events: &[WatchEvent]| {
            let mut fold = Fold::default();
            events.iter().for_each(|event| fold.apply(event, &hashes));
            fold
        };
        let one = fold(&[put("a", 1), put("b", 2), put("a", 3), delete("c")]);
        let other = fold(&[put("b", 2), put("c", 1), delete("c"), WatchEvent::Synced, put("a", 3)]);
        assert!(one.is_like(&other));
        assert_eq!((one.len(), one.iter().count()), (2, 2));
        for differs in [vec![put("a", 3)], vec![put("a", 1), put("b", 2)], vec![put("a", 2), put("b", 3)]] {
            assert!(!one.is_like(&fold(&differs)), "{differs:?}");
        }
        assert!(fold(&[put("a", 1), delete("a")]).is_like(&Fold::default()));
    }

    #[test]
    fn the_last_change_tells_apart_what_comes_to_the_same_again() {
        let hashes = RandomState::new();
        let mut fold = Fold::default();
        let mut told = |event| {
            fold.apply(&event, &hashes);
            fold.last().map(|last| (last.version, last.is_end))
        };
        assert_eq!((told(put("a", 1)), told(WatchEvent::Synced)), (None, None), "a list has no order");
        assert_eq!(told(delete("a")), Some((Version::new(1, 0), true)));
        assert_eq!(told(put("a", 2)), Some((Version::new(2, 0), false)));
        assert_eq!(told(delete("a")), Some((Version::new(2, 0), true)));
        assert_eq!(told(delete("a")), Some((Version::new(2, 0), true)), "it was gone before");
        assert_eq!(told(WatchEvent::Synced), None);
    }
}
