//! One page of a listing, one batch of a deletion, and where the next begins.

use crate::{Directory, Entry, Error, ErrorKind, HeldLock, Item, Key, Position, driver::ListOptions};
use bytes::Bytes;
use std::{collections::BTreeMap, ops::Bound};

/// A backend's own note of where the next page begins; opaque to everyone else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cursor(Bytes);

impl Cursor {
    /// Makes a note of this content.
    pub fn new(note: impl Into<Bytes>) -> Self {
        Self(note.into())
    }

    /// Returns the content.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns, for backends, the error of a call that is given a cursor which no page of its
    /// listing gave: one of another store, or of another directory.
    ///
    /// ```
    /// use kv_core::{ErrorKind, driver::Cursor};
    ///
    /// let e = Cursor::refused();
    /// assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    /// assert!(e.to_string().contains("begin the listing anew"));
    /// ```
    #[must_use]
    pub fn refused() -> Error {
        let why = "a cursor of another store or directory; begin the listing anew, without one";
        Error::new(ErrorKind::InvalidArgument, why)
    }
}

/// A part of a listing, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The items that were found, in ascending order of [`Position`].
    pub items: Vec<Item>,
    /// The place at which the next page begins; `None` at the end.
    pub next: Option<Cursor>,
}

impl Page {
    /// Makes a page, for backends whose server answers with the whole listing. It sorts the
    /// entries, drops those that the options leave out and those that are the library's own, folds
    /// deeper ones into directories where the options ask for children alone, and cuts at the
    /// limit. The result has no next page unless it was cut; the next one then begins behind the
    /// last item.
    ///
    /// ```
    /// use kv_core::{Directory, Entry, Error, Key, Version, driver::{ListOptions, Page}};
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

    /// Returns, for backends whose server seeks by name, the name at which a page begins: included
    /// or excluded, and without the store's prefix. Names are in the order of their bytes. Each name
    /// from there on that is a key below the directory gives an item of the page, or lies in the
    /// child that is one.
    ///
    /// The page begins behind the place of the cursor, or else behind `options.start_after`. Such a
    /// place may lie before or behind the directory, or deep in it: in a listing of children, all
    /// that is in a child is over once the child itself is, also where the place is a key in it.
    ///
    /// ```
    /// use kv_core::{Directory, Error, Key, Position, driver::{ListOptions, Page}};
    /// use std::ops::Bound::{Excluded, Included};
    ///
    /// let d = Directory::parse("d")?;
    /// let all = ListOptions::default();
    /// let behind = |place: Position| all.clone().start_after(Some(place));
    /// assert_eq!(Page::seek(&d, &all, None), Included("d/".into()));
    /// assert_eq!(Page::seek(&d, &behind(Key::parse("c")?.into()), None), Included("d/".into()));
    /// let in_y = behind(Key::parse("d/y/z")?.into());
    /// assert_eq!(Page::seek(&d, &in_y, None), Excluded("d/y/z".into()));
    ///
    /// // `0` is the character behind the slash: nothing in `d/y` comes any more.
    /// assert_eq!(Page::seek(&d, &in_y.recursive(false), None), Included("d/y0".into()));
    /// let y = behind(Directory::parse("d/y")?.into()).recursive(false);
    /// assert_eq!(Page::seek(&d, &y, None), Included("d/y0".into()));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn seek(directory: &Directory, options: &ListOptions, from: Option<&Cursor>) -> Bound<String> {
        let begins = directory.start();
        let place = from.and_then(Self::place).or_else(|| options.start_after.clone());
        let place = place.map(|place| place.start()).filter(|place| *place > begins);
        let Some(place) = place else { return Bound::Included(begins) };
        let inside = place.strip_prefix(&begins).filter(|_| !options.recursive);
        match inside.and_then(|inside| inside.split_once('/')) {
            Some((child, _)) => Bound::Included(format!("{begins}{child}0")),
            None => Bound::Excluded(place),
        }
    }

    /// Returns, for backends whose server seeks by name, the cursor of a page that begins behind
    /// this place.
    pub fn behind(place: &Position) -> Cursor {
        Cursor::new(place.start())
    }

    /// Returns, for backends, the place that [`behind`](Self::behind) noted.
    pub fn place(cursor: &Cursor) -> Option<Position> {
        let name = std::str::from_utf8(cursor.as_bytes()).ok()?;
        match name.strip_suffix('/') {
            Some("") => Some(Position::Directory(Directory::root())),
            Some(directory) => Key::from_stored(directory).map(|k| Position::Directory(k.as_directory())),
            None => Key::from_stored(name).map(Position::Key),
        }
    }
}

/// A part of a listing of locks, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockPage {
    /// The locks that were found to be held, in ascending order of their names.
    pub locks: Vec<HeldLock>,
    /// The place at which the next page begins; `None` at the end.
    pub next: Option<Cursor>,
}

impl LockPage {
    /// Makes the only page, for backends whose server answers with all locks: it leaves out those
    /// that do not lie below the directory, and sorts the others. Of a lock that comes twice the
    /// later one counts.
    ///
    /// ```
    /// use kv_core::{Directory, Error, HeldLock, Holder, Key, driver::LockPage};
    ///
    /// let lock = |name: &str| HeldLock::new(Key::parse(name).unwrap(), Holder::new(1, ""), None);
    /// let page = LockPage::select(["d/b", "e", "d", "d/a"].map(lock), &Directory::parse("d")?);
    /// let names: Vec<_> = page.locks.iter().map(|lock| lock.name.as_str()).collect();
    /// assert_eq!(names, ["d/a", "d/b"]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn select(locks: impl IntoIterator<Item = HeldLock>, directory: &Directory) -> Self {
        let below = locks.into_iter().filter(|lock| lock.name.is_below(directory));
        let found: BTreeMap<_, _> = below.map(|lock| (lock.name.clone(), lock)).collect();
        Self { locks: found.into_values().collect(), next: None }
    }

    /// Returns, for backends whose server seeks by name, the cursor of a page that begins behind
    /// this lock.
    pub fn behind(name: &Key) -> Cursor {
        Cursor::new(name.as_str().to_owned())
    }

    /// Returns, for backends, the lock that [`behind`](Self::behind) noted.
    pub fn place(cursor: &Cursor) -> Option<Key> {
        Key::from_stored(std::str::from_utf8(cursor.as_bytes()).ok()?)
    }
}

/// The result of one step of a `delete_tree`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The number of keys that were deleted, where the server tells it.
    pub deleted: Option<u64>,
    /// The place at which the next batch begins; `None` at the end.
    pub next: Option<Cursor>,
}
