//! The entries of a view and the changes its readers have not seen, under the view's mutex.

use kv_core::{Directory, Error, ErrorKind, Key, Result, Version, backend::Instant};
use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound::{self, Included, Unbounded},
    sync::Arc,
};

/// A name of a view with its version and value. Clones share the value.
#[non_exhaustive]
pub struct ViewEntry<T> {
    /// The name below the directory of the view.
    pub name: Key,
    /// The version of the key in the store.
    pub version: Version,
    /// The value, or why it cannot be decoded.
    pub value: Result<Arc<T>>,
    bytes: usize,
}

impl<T> ViewEntry<T> {
    pub(super) fn new(name: Key, value: Result<Arc<T>>, version: Version, bytes: usize) -> Self {
        Self { name, version, value, bytes }
    }
}

impl<T> Clone for ViewEntry<T> {
    fn clone(&self) -> Self {
        let Self { name, version, value, bytes } = self;
        Self { name: name.clone(), version: *version, value: value.clone(), bytes: *bytes }
    }
}

impl<T: fmt::Debug> fmt::Debug for ViewEntry<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, version, value, .. } = self;
        let mut entry = f.debug_struct("ViewEntry");
        entry.field("name", name).field("version", version).field("value", value).finish()
    }
}

/// The names that changed since a reader looked, each with what stood there then.
type Dirty<T> = BTreeMap<Key, Option<ViewEntry<T>>>;

pub(super) struct State<T> {
    map: BTreeMap<Key, ViewEntry<T>>,
    bytes: usize,
    most: usize,
    holds_all_since: Instant,
    readers: BTreeMap<u64, Dirty<T>>,
    next_reader: u64,
    over: Option<Error>,
}

impl<T> State<T> {
    pub(super) fn new(most: usize, opened: Instant) -> Self {
        let (map, readers) = (BTreeMap::new(), BTreeMap::new());
        Self { map, bytes: 0, most, holds_all_since: opened, readers, next_reader: 0, over: None }
    }

    pub(super) fn get(&self, name: &str) -> Option<&ViewEntry<T>> {
        self.map.get(name)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &ViewEntry<T>> {
        self.map.values()
    }

    pub(super) fn below(&self, directory: &Directory) -> impl Iterator<Item = &ViewEntry<T>> {
        let (start, directory) = (directory.start(), directory.clone());
        let from = self.map.range::<str, _>((Included(&*start), Unbounded));
        from.map(|(_, entry)| entry).take_while(move |entry| entry.name.is_below(&directory))
    }

    /// Returns the entries between these names, which are a range that a map has.
    pub(super) fn range(&self, from: Bound<&str>, to: Bound<&str>) -> impl Iterator<Item = &ViewEntry<T>> {
        self.map.range::<str, _>((from, to)).map(|(_, entry)| entry)
    }

    pub(super) fn beginning_with<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a ViewEntry<T>> {
        self.range(Included(text), Unbounded).take_while(move |entry| entry.name.as_str().starts_with(text))
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// Returns the version of a name.
    pub(super) fn version(&self, name: &Key) -> Option<Version> {
        self.map.get(name).map(|entry| entry.version)
    }

    /// Sets or removes a name, and notes it for all who read changes.
    pub(super) fn set(&mut self, name: Key, new: Option<ViewEntry<T>>) -> Result<()> {
        let before = self.map.get(&name).map_or(0, |entry| entry.bytes);
        let bytes = self.bytes - before + new.as_ref().map_or(0, |entry| entry.bytes);
        if bytes > self.most {
            let most = self.most;
            let why = format!(
                "the view would hold {bytes} bytes, by {name:?}; it may hold {most}: allow it more, or view less"
            );
            return Err(Error::new(ErrorKind::TooLarge, why));
        }
        self.bytes = bytes;
        let old = match new {
            Some(entry) => self.map.insert(name.clone(), entry),
            None => self.map.remove(&name),
        };
        let is_gone = !self.map.contains_key(&name);
        for dirty in self.readers.values_mut() {
            let before = dirty.entry(name.clone()).or_insert_with(|| old.clone());
            if is_gone && before.is_none() {
                dirty.remove(&name); // it came and went between two looks
            }
        }
        Ok(())
    }

    pub(super) fn end(&mut self, why: Error) {
        self.over.get_or_insert(why);
    }

    pub(super) fn over(&self) -> Option<Error> {
        self.over.clone()
    }

    pub(super) fn holds_all_since(&self) -> Instant {
        self.holds_all_since
    }

    /// Notes that the view holds every write that was acknowledged before this moment.
    pub(super) fn note_all_since(&mut self, moment: Instant) {
        self.holds_all_since = self.holds_all_since.max(moment);
    }

    pub(super) fn add_reader(&mut self) -> u64 {
        let id = self.next_reader;
        self.next_reader += 1;
        self.readers.insert(id, Dirty::new());
        id
    }

    pub(super) fn remove_reader(&mut self, id: u64) {
        self.readers.remove(&id);
    }

    /// Returns the first name that changed since the reader looked, as it was then and as it is.
    pub(super) fn next_change(&mut self, reader: u64) -> Option<Changed<T>> {
        let Self { map, readers, .. } = self;
        let dirty = readers.get_mut(&reader)?;
        while let Some((name, old)) = dirty.pop_first() {
            let new = map.get(&name).cloned();
            let version = |entry: &Option<ViewEntry<T>>| entry.as_ref().map(|entry| entry.version);
            if version(&old) != version(&new) {
                return Some((name, old, new));
            }
        }
        None
    }
}

/// A name with what it was and what it is.
pub(super) type Changed<T> = (Key, Option<ViewEntry<T>>, Option<ViewEntry<T>>);

#[cold]
pub(super) fn dropped() -> Error {
    Error::new(ErrorKind::Closed, "the view was dropped, or the runtime that followed the store has ended")
}

#[cfg(test)]
mod tests {
    use super::{State, ViewEntry};
    use kv_core::{Key, Result, Version, backend::Clock};
    use std::sync::Arc;

    #[test]
    fn a_reader_that_never_reads_costs_no_more_than_there_are_names() -> Result<()> {
        let mut state = State::new(1000, Clock::manual().now());
        let put = |name: &Key, n: u64| ViewEntry::new(name.clone(), Ok(Arc::new(n)), Version::new(n, 0), 10);
        let stays = Key::parse("stays")?;
        state.set(stays.clone(), Some(put(&stays, 1)))?;
        let reader = state.add_reader();
        for n in 2..1000 {
            let short = Key::parse(&format!("short/{n}"))?;
            state.set(short.clone(), Some(put(&short, n)))?;
            state.set(stays.clone(), Some(put(&stays, n)))?;
            state.set(short, None)?;
        }
        assert_eq!(state.readers[&reader].len(), 1);
        let (name, old, new) = state.next_change(reader).unwrap();
        assert_eq!(
            (name, old.unwrap().version, new.unwrap().version),
            (stays, Version::new(1, 0), Version::new(999, 0))
        );
        assert!(state.next_change(reader).is_none() && state.bytes == 10);
        Ok(())
    }
}
