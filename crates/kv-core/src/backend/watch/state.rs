//! The record of what a watch delivered, and the events that it still owes.

use crate::{Entry, Key, Version, WatchEvent};
use std::{
    collections::{HashMap, VecDeque},
    hash::BuildHasher,
};

/// The number of keys found to be gone that are remembered: as many as changes may wait in an
/// [`Inbox`](crate::backend::Inbox).
const MAX_GONE: usize = 4096;

/// The content that a list has to give, as [`WatchState::detail`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Values, since nothing was delivered yet, or since the server went back and counts anew, so
    /// that versions were seen not to tell writes apart. What the list gives by version alone is
    /// believed all the same: only a source that never gives a version out twice may do so now.
    Values,
    /// Versions: the watch fetches the values of the keys whose version differs from what was
    /// delivered.
    Versions,
}

/// Remembers of each key what the watch delivered, as its version and a digest of its value, and
/// turns lists and changes into the events that are owed. Sources read it; the watch alone writes
/// it.
///
/// It holds 48 bytes and a shared name for each key that is there. Of the keys that were found to
/// be gone it remembers the last 4,096.
#[derive(Debug)]
pub struct WatchState {
    delivered: HashMap<Key, Delivered>,
    detail: Detail,
    /// The version up to which the list has every write.
    position: Option<Version>,
    pass: Pass,
    gone: Gone,
}

#[derive(Debug)]
struct Delivered {
    version: Version,
    digest: u64,
    /// The last pass that found the key.
    pass: u64,
}

/// The last keys that were found to be gone, with the versions that had been delivered of them.
/// What was found may be ahead of the changes: changes of these keys that come behind it are old.
#[derive(Debug, Default)]
struct Gone {
    versions: HashMap<Key, Version>,
    order: VecDeque<(Key, Version)>,
}

impl Gone {
    fn note(&mut self, key: &Key, version: Version) {
        self.versions.insert(key.clone(), version);
        self.order.push_back((key.clone(), version));
        if self.order.len() > MAX_GONE
            && let Some((oldest, of)) = self.order.pop_front()
            && self.versions.get(&oldest) == Some(&of)
        {
            self.versions.remove(&oldest);
        }
    }
}

/// One reading of the list from its start to its end.
#[derive(Debug, Default)]
struct Pass {
    number: u64,
    /// The server was seen to have gone back.
    is_restored: bool,
    /// A key was taken for unchanged by its version alone.
    has_trusted: bool,
    /// A page that did not show that the server went back came before the one that did.
    is_mixed: bool,
    has_page: bool,
}

impl WatchState {
    pub(super) fn new() -> Self {
        let (delivered, pass, gone) = (HashMap::new(), Pass::default(), Gone::default());
        Self { delivered, detail: Detail::Values, position: None, pass, gone }
    }

    /// Returns the version that was delivered last for a key that is there.
    pub fn version(&self, key: &Key) -> Option<Version> {
        self.delivered.get(key).map(|delivered| delivered.version)
    }

    /// Returns whether a write of this version is known: it, or a later one, was delivered, or the
    /// list was taken after it. A source that would have to read the value of such a write need
    /// not.
    pub fn has(&self, key: &Key, version: Version) -> bool {
        match self.version(key) {
            Some(delivered) => delivered >= version,
            None => {
                let is_known = |known: &Version| version <= *known;
                self.position.as_ref().is_some_and(is_known)
                    || self.gone.versions.get(key).is_some_and(is_known)
            }
        }
    }

    /// Returns what the list that is being taken has to give.
    pub fn detail(&self) -> Detail {
        self.detail
    }

    /// Returns how many keys were delivered and are not known to be gone.
    pub fn len(&self) -> usize {
        self.delivered.len()
    }

    /// Returns whether no key is known to be there.
    pub fn is_empty(&self) -> bool {
        self.delivered.is_empty()
    }

    /// Begins a list. Values are asked for where nothing is known, or where `doubt` says that
    /// versions are not to be trusted.
    pub(super) fn begin_list(&mut self, doubt: bool) {
        let values = doubt || self.delivered.is_empty();
        self.detail = if values { Detail::Values } else { Detail::Versions };
        self.position = None;
        self.gone = Gone::default();
        self.pass = Pass { number: self.pass.number + 1, ..Pass::default() };
    }

    /// Notes the position of the list. The first page counts: later ones may know more.
    pub(super) fn at(&mut self, position: Option<Version>) {
        if !self.pass.has_page {
            self.position = position;
        }
    }

    pub(super) fn end_page(&mut self) {
        self.pass.has_page = true;
    }

    /// Returns the events owed for an entry that was read after all that was delivered. An entry
    /// that does not follow what was delivered is of a server that went back: the key ends before
    /// it is put.
    pub(super) fn observe(
        &mut self,
        entry: Entry,
        follows: impl Fn(Version, Version) -> bool,
    ) -> [Option<WatchEvent>; 2] {
        let digest = self.digest(&entry.value);
        let now = Delivered { version: entry.version, digest, pass: self.pass.number };
        let mut ended = None;
        match self.delivered.get_mut(&entry.key) {
            Some(known) if known.version == now.version && known.digest == digest => {
                known.pass = now.pass;
                return [None, None];
            }
            Some(known) => {
                if known.version == now.version || !follows(known.version, now.version) {
                    ended = Some(WatchEvent::Delete { key: entry.key.clone(), version: known.version });
                }
                *known = now;
            }
            None => drop(self.delivered.insert(entry.key.clone(), now)),
        }
        if ended.is_some() {
            self.pass.is_mixed |= self.pass.has_page && !self.pass.is_restored;
            self.pass.is_restored = true;
        }
        [ended, Some(WatchEvent::Put(entry))]
    }

    /// Notes that a list has the key at this version, and returns whether its value is owed.
    pub(super) fn observe_version(&mut self, key: &Key, version: Version) -> bool {
        match self.delivered.get_mut(key) {
            Some(known) if known.version == version => {
                known.pass = self.pass.number;
                self.pass.has_trusted = true;
                false
            }
            _ => true,
        }
    }

    /// Ends a list, and returns the end of every key that was delivered and is not in the list.
    pub(super) fn finish_list(&mut self) -> impl Iterator<Item = WatchEvent> + Send {
        let number = self.pass.number;
        let gone = self.delivered.extract_if(move |_, known| known.pass != number);
        gone.map(|(key, known)| WatchEvent::Delete { key, version: known.version })
    }

    /// Begins to follow changes: what is seen of the server from here on is no part of the list.
    pub(super) fn end_list(&mut self) {
        self.pass = Pass { number: self.pass.number, ..Pass::default() };
    }

    /// Returns whether the server was seen to have gone back since the list began, in a way that
    /// leaves doubt: what was taken for unchanged may be another write, so all values are to be
    /// read.
    pub(super) fn is_doubtful(&self) -> bool {
        self.pass.is_mixed || self.pass.is_restored && self.pass.has_trusted
    }

    /// Returns whether the server was seen to have gone back since the list began or ended.
    pub(super) fn is_restored(&self) -> bool {
        self.pass.is_restored
    }

    /// Returns the event owed for a change that came in the order of the changes. A change that
    /// the list knows already owes none.
    pub(super) fn change(
        &mut self,
        event: WatchEvent,
        follows: impl Fn(Version, Version) -> bool,
    ) -> Option<WatchEvent> {
        match &event {
            WatchEvent::Put(entry) => {
                if !self.is_news(entry, follows) {
                    return None;
                }
            }
            WatchEvent::Delete { key, version } => {
                if self.version(key)? > *version {
                    return None;
                }
                self.delivered.remove(key);
            }
            WatchEvent::Synced => return None,
        }
        Some(event)
    }

    fn is_news(&mut self, entry: &Entry, follows: impl Fn(Version, Version) -> bool) -> bool {
        let (hashes, version) = (self.delivered.hasher().clone(), entry.version);
        let is_old = |gone: &Version| *gone == version || !follows(*gone, version);
        let now = || Delivered { version, digest: hashes.hash_one(&*entry.value), pass: self.pass.number };
        match self.delivered.get_mut(&entry.key) {
            Some(known) if known.version == version || !follows(known.version, version) => return false,
            Some(known) => *known = now(),
            None if self.position.is_some_and(|position| version <= position) => return false,
            None if self.gone.versions.get(&entry.key).is_some_and(is_old) => return false,
            None => drop(self.delivered.insert(entry.key.clone(), now())),
        }
        true
    }

    /// Returns the event owed for a key that was found to be gone, and whose last write was of
    /// this version or an earlier one; with `None` it may have been of any version.
    pub(super) fn gone(&mut self, key: &Key, last: Option<Version>) -> Option<WatchEvent> {
        if last.is_some_and(|last| self.version(key).is_none_or(|known| known > last)) {
            return None;
        }
        let (key, known) = self.delivered.remove_entry(key)?;
        self.gone.note(&key, known.version);
        Some(WatchEvent::Delete { key, version: known.version })
    }

    fn digest(&self, value: &[u8]) -> u64 {
        self.delivered.hasher().hash_one(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, version: u64) -> Entry {
        Entry::new(Key::parse(name).unwrap(), "v", Version::new(version, 0))
    }

    fn follows(delivered: Version, found: Version) -> bool {
        found > delivered
    }

    #[test]
    fn a_key_costs_few_bytes() {
        assert_eq!(size_of::<(Key, Delivered)>(), 48);
    }

    #[test]
    fn of_keys_that_are_gone_few_are_remembered() {
        let mut state = WatchState::new();
        for n in 0..3 * MAX_GONE {
            let name = format!("k/{n}");
            assert!(state.change(WatchEvent::Put(entry(&name, 1)), follows).is_some());
            assert!(state.gone(&Key::parse(&name).unwrap(), None).is_some());
            assert_eq!(state.change(WatchEvent::Put(entry(&name, 1)), follows), None, "it is old");
        }
        assert!(state.is_empty());
        assert_eq!((state.gone.order.len(), state.gone.versions.len()), (MAX_GONE, MAX_GONE));
        let again = Key::parse("k/again").unwrap();
        for n in 0..2 * MAX_GONE as u64 {
            state.gone.note(&again, Version::new(n, 0));
        }
        assert_eq!((state.gone.order.len(), state.gone.versions.len()), (MAX_GONE, 1));
    }

    #[test]
    fn a_list_in_which_the_server_went_back_leaves_doubt_where_versions_were_trusted() {
        let trusting = |is_first: bool| {
            let mut state = WatchState::new();
            for event in [entry("a", 5), entry("b", 5)] {
                state.change(WatchEvent::Put(event), follows);
            }
            state.begin_list(false);
            assert_eq!(state.detail(), Detail::Versions);
            if !is_first {
                assert!(!state.observe_version(&Key::parse("a").unwrap(), Version::new(5, 0)));
            }
            let [ended, put] = state.observe(entry("b", 3), follows);
            assert!(
                matches!(ended, Some(WatchEvent::Delete { version, .. }) if version == Version::new(5, 0))
            );
            assert_eq!(put, Some(WatchEvent::Put(entry("b", 3))));
            state.is_doubtful()
        };
        assert!(trusting(false) && !trusting(true));
    }
}
