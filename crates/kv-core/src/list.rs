//! What a listing gives: items, places in its order, pages.

use crate::{Directory, Entry, Key, ListOptions, Version};
use bytes::Bytes;
use std::cmp::Ordering;

/// A place in the order of a listing: a directory counts as its name plus `/`, so that `a` and `a/` are two
/// places, with `a.b` between them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Position {
    /// The place of a key.
    Key(Key),
    /// The place of a directory, before everything in it.
    Directory(Directory),
}

impl Position {
    /// The name that decides the order, without the directory's slash.
    fn parts(&self) -> (&str, &'static str) {
        match self {
            Self::Key(key) => (key.as_str(), ""),
            Self::Directory(directory) => (directory.as_str(), "/"),
        }
    }

    /// The name that decides the order: the key, or the directory with a slash at its end.
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
    /// The key, unless this is a directory.
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Entry(entry) => Some(&entry.key),
            Self::Key(key, _) => Some(key),
            Self::Directory(_) => None,
        }
    }

    /// Its place in the order.
    pub fn position(&self) -> Position {
        match self {
            Self::Entry(entry) => Position::Key(entry.key.clone()),
            Self::Key(key, _) => Position::Key(key.clone()),
            Self::Directory(directory) => Position::Directory(directory.clone()),
        }
    }
}

/// A backend's own note of where the next page begins; opaque to everyone else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cursor(Bytes);

impl Cursor {
    /// A note of this content.
    pub fn new(note: impl Into<Bytes>) -> Self {
        Self(note.into())
    }

    /// The content.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A part of a listing, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// What was found, in ascending order of [`Position`].
    pub items: Vec<Item>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Cursor>,
}

impl Page {
    /// For backends whose server answers whole: sorts, drops what the options leave out and what is the
    /// library's own, folds what lies deeper into directories, and cuts at the limit. The result has no next page
    /// unless it was cut, and then goes on behind its last item.
    ///
    /// ```
    /// use kv_core::*;
    ///
    /// let entry = |k: &str| Entry::new(Key::parse(k).unwrap(), "v", Version::new(1, 0));
    /// let all = ["d/y/z", "d", "d/y", "d/x", "d-e"].map(entry);
    /// let children = ListOptions::default().recursive(false).keys_only(true);
    /// let page = Page::select(all, &Directory::parse("d")?, &children, None);
    /// let names: Vec<_> = page.items.iter().map(|i| i.position().start()).collect();
    /// assert_eq!(names, ["d/x", "d/y", "d/y/"]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn select(
        entries: impl IntoIterator<Item = Entry>,
        directory: &Directory,
        options: &ListOptions,
        from: Option<&Cursor>,
    ) -> Self {
        let from = from.and_then(Self::place).or_else(|| options.start_after.clone());
        let wanted = |p: &Position| from.as_ref().is_none_or(|f| p > f);
        let item = |e: Entry| match directory.child_of(&e.key) {
            Some(child) if !options.recursive => Item::Directory(child),
            _ if options.keys_only => Item::Key(e.key, e.version),
            _ => Item::Entry(e),
        };
        let mut at: Vec<(Position, Item)> = entries
            .into_iter()
            .filter(|e| e.key.is_below(directory) && !e.key.is_internal())
            .map(item)
            .map(|i| (i.position(), i))
            .filter(|(p, _)| wanted(p))
            .collect();
        at.sort_by(|a, b| a.0.cmp(&b.0));
        at.dedup_by(|a, b| a.0 == b.0);
        let cut = options.limit.filter(|&limit| at.len() > limit);
        at.truncate(cut.unwrap_or(usize::MAX));
        let next = cut.and_then(|_| at.last().map(|(p, _)| Self::behind(p)));
        Self { items: at.into_iter().map(|(_, item)| item).collect(), next }
    }

    /// For backends whose server seeks by name: the cursor of a page that begins behind this place.
    pub fn behind(place: &Position) -> Cursor {
        Cursor::new(place.start())
    }

    /// For backends: the place that [`behind`](Self::behind) noted.
    pub fn place(cursor: &Cursor) -> Option<Position> {
        let name = std::str::from_utf8(cursor.as_bytes()).ok()?;
        match name.strip_suffix('/') {
            Some("") => Some(Position::Directory(Directory::root())),
            Some(directory) => Key::from_stored(directory).map(|k| Position::Directory(k.as_directory())),
            None => Key::from_stored(name).map(Position::Key),
        }
    }
}

/// What one step of a `delete_tree` did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// How many keys were deleted, where the server tells.
    pub deleted: Option<u64>,
    /// Where the next batch begins; `None` at the end.
    pub next: Option<Cursor>,
}
