//! The events that a watch still owes. The client keeps them by hand, since the faults of its
//! watch are in how [`Told`] is used.

use kv_core::{Entry, Key, Version, WatchEvent};
use std::collections::HashMap;

/// The keys and versions that a watch has told so far. It turns listings and raw changes into the
/// events still owed.
///
/// A version that was told already, or is older, gives nothing; so a listing may overlap the
/// changes around it. Subscribe to changes *before* reading the listing, and nothing is missed.
#[derive(Debug, Default)]
pub(super) struct Told {
    seen: HashMap<Key, Seen>,
    pass: u64,
}

#[derive(Debug)]
struct Seen {
    version: Version,
    pass: u64,
}

impl Told {
    /// Returns the event owed for this entry, of a change or of a listing.
    pub(super) fn put(&mut self, entry: Entry) -> Option<WatchEvent> {
        let now = Seen { version: entry.version, pass: self.pass };
        match self.seen.get_mut(&entry.key) {
            Some(seen) if seen.version >= entry.version => {
                seen.pass = now.pass;
                return None;
            }
            Some(seen) => *seen = now,
            None => {
                self.seen.insert(entry.key.clone(), now);
            }
        }
        Some(WatchEvent::Put(entry))
    }

    /// Returns the event owed for the end of the key at this version; none when a newer version
    /// was told.
    pub(super) fn delete(&mut self, key: Key, version: Version) -> Option<WatchEvent> {
        if self.seen.get(&key)?.version > version {
            return None;
        }
        self.seen.remove(&key);
        Some(WatchEvent::Delete { key, version })
    }

    /// Returns the event owed for a key that is known to be gone, from a server that tells no
    /// version of the end.
    pub(super) fn gone(&mut self, key: &Key) -> Option<WatchEvent> {
        let (key, seen) = self.seen.remove_entry(key)?;
        Some(WatchEvent::Delete { key, version: seen.version })
    }

    /// Returns the event owed for a raw change.
    pub(super) fn change(&mut self, event: WatchEvent) -> Option<WatchEvent> {
        match event {
            WatchEvent::Put(entry) => self.put(entry),
            WatchEvent::Delete { key, version } => self.delete(key, version),
            WatchEvent::Synced => Some(WatchEvent::Synced),
        }
    }

    /// Begins a listing: give each of its entries to [`listed`](Self::listed), then take what
    /// [`rest`](Self::rest) says is gone. A listing must be read after everything that was told,
    /// never from the past.
    pub(super) fn relist(&mut self) {
        self.pass += 1;
    }

    /// Returns the events owed for an entry of a listing: none when it was told at this version.
    /// An entry that is *older* than what was told comes from a server whose counter went back
    /// (restored from a copy, failed over to an older member): what was told is gone then, and the
    /// entry is told after that.
    pub(super) fn listed(&mut self, entry: Entry) -> impl Iterator<Item = WatchEvent> + use<> {
        let gone = match self.version(&entry.key) {
            Some(told) if told > entry.version => self.gone(&entry.key),
            _ => None,
        };
        gone.into_iter().chain(self.put(entry))
    }

    /// Ends a listing: returns the end of every key that was told and that the listing did not
    /// have.
    pub(super) fn rest(&mut self) -> Vec<WatchEvent> {
        let pass = self.pass;
        let gone = self.seen.extract_if(|_, seen| seen.pass != pass);
        gone.map(|(key, seen)| WatchEvent::Delete { key, version: seen.version }).collect()
    }

    /// Returns the version that was told last for the key.
    pub(super) fn version(&self, key: &Key) -> Option<Version> {
        self.seen.get(key).map(|seen| seen.version)
    }
}
