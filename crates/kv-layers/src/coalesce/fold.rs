//! What a watch has told so far, as versions alone.

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
}

impl Fold {
    /// Applies an event. Folds that are compared are made with the same hashes, whose keys are
    /// random: nobody can choose names by which two folds that differ have one digest.
    pub(super) fn apply(&mut self, event: &WatchEvent, hashes: &RandomState) {
        let hash = |key: &Key, version: Version| hashes.hash_one((key.as_str(), version));
        match event {
            WatchEvent::Put(entry) => {
                if let Some(before) = self.versions.insert(entry.key.clone(), entry.version) {
                    self.digest ^= hash(&entry.key, before);
                }
                self.digest ^= hash(&entry.key, entry.version);
            }
            WatchEvent::Delete { key, .. } => {
                if let Some(before) = self.versions.remove(key) {
                    self.digest ^= hash(key, before);
                }
            }
            WatchEvent::Synced => {}
        }
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
}
