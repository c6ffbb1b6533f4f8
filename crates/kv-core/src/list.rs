//! The items of a listing, and the places in its order.

use crate::{Directory, Entry, Key, Version};
use std::cmp::Ordering;

/// A place in the order of a listing: a directory counts as its name plus `/`, so that `a` and
/// `a/` are two places, with `a.b` between them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Position {
    /// The place of a key.
    Key(Key),
    /// The place of a directory, before everything in it.
    Directory(Directory),
}

impl Position {
    /// Returns the name that decides the order in two parts, the second of which is a directory's
    /// slash.
    fn parts(&self) -> (&str, &'static str) {
        match self {
            Self::Key(key) => (key.as_str(), ""),
            Self::Directory(directory) => (directory.as_str(), "/"),
        }
    }

    /// Returns the name that decides the order: the key, or the directory with a slash at its end.
    pub fn start(&self) -> String {
        let (name, slash) = self.parts();
        format!("{name}{slash}")
    }
}

impl Ord for Position {
    fn cmp(&self, other: &Self) -> Ordering {
        let ((a, x), (b, y)) = (self.parts(), other.parts());
        a.bytes().chain(x.bytes()).cmp(b.bytes().chain(y.bytes()))
    }
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<Key> for Position {
    fn from(key: Key) -> Self {
        Self::Key(key)
    }
}

impl From<&Key> for Position {
    fn from(key: &Key) -> Self {
        Self::Key(key.clone())
    }
}

impl From<Directory> for Position {
    fn from(directory: Directory) -> Self {
        Self::Directory(directory)
    }
}

impl From<&Directory> for Position {
    fn from(directory: &Directory) -> Self {
        Self::Directory(directory.clone())
    }
}

/// One thing that a listing found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A key with its value.
    Entry(Entry),
    /// A key whose value was not asked for.
    Key(Key, Version),
    /// A directory: there are keys below it.
    Directory(Directory),
}

impl Item {
    /// Returns the key, unless this is a directory.
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Entry(entry) => Some(&entry.key),
            Self::Key(key, _) => Some(key),
            Self::Directory(_) => None,
        }
    }

    /// Returns its place in the order.
    pub fn position(&self) -> Position {
        match self {
            Self::Entry(entry) => Position::Key(entry.key.clone()),
            Self::Key(key, _) => Position::Key(key.clone()),
            Self::Directory(directory) => Position::Directory(directory.clone()),
        }
    }
}
