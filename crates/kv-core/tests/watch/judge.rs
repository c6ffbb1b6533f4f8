//! A judge of whether the events of a watch are true.

use super::server::{Server, is_foreign};
use kv_core::{Entry, Key, Version, WatchEvent};
use std::collections::HashMap;

/// Folds the events, and says of each whether it is true and owed.
#[derive(Default)]
pub(super) struct Judge {
    /// The entries, with their places in the history.
    fold: HashMap<Key, (Entry, usize)>,
    /// The version that was told last of each key, also of those that are gone, and its place in
    /// the history.
    last: HashMap<Key, (Version, usize)>,
    pub(super) synced: u64,
    /// The place in the history at which the list began that the last `Synced` ended, where the
    /// list has a position.
    positioned: usize,
}

impl Judge {
    pub(super) fn event(&mut self, event: WatchEvent, server: &Server, positioned: usize) {
        match event {
            WatchEvent::Put(entry) => self.put(entry, server),
            WatchEvent::Delete { key, version } => self.delete(&key, version, server),
            WatchEvent::Synced => (self.synced, self.positioned) = (self.synced + 1, positioned),
        }
    }

    fn put(&mut self, entry: Entry, server: &Server) {
        let Some(at) = server.past.written(&entry) else { panic!("false put: {entry:?} was never written") };
        let went_back = |at: usize| server.past.went_back_since(at);
        // A list by versions may leave for later what was told before the server went back.
        let was_hidden = self.last.get(&entry.key).is_some_and(|(_, told)| went_back(*told));
        let is_old = self.synced > 0 && at <= self.positioned && !went_back(at);
        assert!(!is_old || was_hidden, "old put: the list knew of {entry:?}");
        if let Some((before, _)) = self.fold.get(&entry.key) {
            assert!(*before != entry, "repeated put: {entry:?}");
        }
        self.grows(&entry.key, entry.version, at, server);
        self.fold.insert(entry.key.clone(), (entry, at));
    }

    fn grows(&mut self, key: &Key, version: Version, at: usize, server: &Server) {
        let Some((last, told)) = self.last.insert(key.clone(), (version, at)) else { return };
        let is_ordered = !is_foreign(version) && !is_foreign(last) && !server.past.went_back_since(told);
        assert!(!is_ordered || last < version, "not ordered: {key:?} went from {last:?} to {version:?}");
    }

    fn delete(&mut self, key: &Key, version: Version, server: &Server) {
        let Some((entry, at)) = self.fold.remove(key) else {
            panic!("repeated delete: {key:?} is not there")
        };
        let is_ordered = !is_foreign(version) && !is_foreign(entry.version);
        assert!(!is_ordered || version >= entry.version, "{entry:?} was deleted at {version:?}");
        assert!(server.past.has_ended_since(at, key), "false delete: {entry:?} has not ended");
    }

    /// Judges the fold, once all was told.
    pub(super) fn end(&self, server: &Server) {
        let fold = self.fold.iter().map(|(key, (entry, _))| (key.clone(), entry.clone()));
        assert_eq!(fold.collect::<super::server::Data>(), server.data, "the fold is not the tree");
        assert!(self.synced > 0, "never synced");
    }
}
