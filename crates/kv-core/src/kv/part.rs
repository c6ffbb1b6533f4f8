//! The part of a store's tree that a handle is on, and the names in it.

use super::{Handle, Kv};
use crate::{
    Condition, Directory, Entry, Error, ErrorKind, IntoKey, Item, Key, Position, Result, WatchEvent,
    driver::{Target, Write},
};
use std::{borrow::Cow, sync::Arc};

/// The directory of a handle; `None` for the whole tree. A name in it is *own*, and the name of the
/// same thing in the whole tree is *whole*.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Part(Option<Directory>);

impl Part {
    pub(super) fn is_whole_tree(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn directory(&self) -> Directory {
        self.0.clone().unwrap_or_else(Directory::root)
    }

    /// Returns the whole name of a key or lock.
    pub(super) fn whole<'a>(&self, own: &'a Key) -> Result<Cow<'a, Key>> {
        match &self.0 {
            None => Ok(Cow::Borrowed(own)),
            Some(part) => part.join(own).map(Cow::Owned),
        }
    }

    pub(super) fn whole_keys<'a>(&self, own: &'a [Key]) -> Result<Cow<'a, [Key]>> {
        match &self.0 {
            None => Ok(Cow::Borrowed(own)),
            Some(part) => own.iter().map(|key| part.join(key)).collect::<Result<Vec<_>>>().map(Cow::Owned),
        }
    }

    pub(super) fn whole_directory<'a>(&self, own: &'a Directory) -> Result<Cow<'a, Directory>> {
        match &self.0 {
            None => Ok(Cow::Borrowed(own)),
            Some(part) => part.join_directory(own).map(Cow::Owned),
        }
    }

    pub(super) fn whole_place(&self, own: Position) -> Result<Position> {
        Ok(match own {
            Position::Key(key) => Position::Key(self.whole(&key)?.into_owned()),
            Position::Directory(directory) => {
                Position::Directory(self.whole_directory(&directory)?.into_owned())
            }
        })
    }

    pub(super) fn whole_target<'a>(&self, own: &'a Target) -> Result<Cow<'a, Target>> {
        if self.is_whole_tree() {
            return Ok(Cow::Borrowed(own));
        }
        Ok(Cow::Owned(match own {
            Target::Key(key) => Target::Key(self.whole(key)?.into_owned()),
            Target::Tree(directory) => Target::Tree(self.whole_directory(directory)?.into_owned()),
            Target::Holder(lock) => Target::Holder(self.whole(lock)?.into_owned()),
        }))
    }

    pub(super) fn whole_condition(&self, own: &Condition) -> Result<Condition> {
        let key = |key| self.whole(key).map(Cow::into_owned);
        Ok(match own {
            Condition::Version(own, version) => Condition::Version(key(own)?, *version),
            Condition::Exists(own) => Condition::Exists(key(own)?),
            Condition::Missing(own) => Condition::Missing(key(own)?),
            // A fence has the backend's own name of its lock.
            Condition::Held(fence) => Condition::Held(fence.clone()),
        })
    }

    pub(super) fn whole_write(&self, mut write: Write) -> Result<Write> {
        if let Some(part) = &self.0 {
            let (Write::Put { key, .. } | Write::Delete { key }) = &mut write;
            *key = part.join(key)?;
        }
        Ok(write)
    }

    /// Returns the own name of a key or lock that the store named.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) for one that does not lie in the part.
    pub(super) fn own(&self, whole: Key) -> Result<Key> {
        match &self.0 {
            None => Ok(whole),
            Some(part) => part.strip(&whole).ok_or_else(|| elsewhere(part, whole.as_str())),
        }
    }

    pub(super) fn own_entry(&self, mut whole: Entry) -> Result<Entry> {
        whole.key = self.own(whole.key)?;
        Ok(whole)
    }

    pub(super) fn own_item(&self, whole: Item) -> Result<Item> {
        Ok(match whole {
            Item::Entry(entry) => Item::Entry(self.own_entry(entry)?),
            Item::Key(key, version) => Item::Key(self.own(key)?, version),
            Item::Directory(directory) => Item::Directory(match &self.0 {
                None => directory,
                Some(part) => {
                    part.strip_directory(&directory).ok_or_else(|| elsewhere(part, directory.as_str()))?
                }
            }),
        })
    }

    pub(super) fn own_event(&self, whole: WatchEvent) -> Result<WatchEvent> {
        Ok(match whole {
            WatchEvent::Put(entry) => WatchEvent::Put(self.own_entry(entry)?),
            WatchEvent::Delete { key, version } => WatchEvent::Delete { key: self.own(key)?, version },
            WatchEvent::Synced => WatchEvent::Synced,
        })
    }

    /// Returns the name by which a message shows a key: the own one, or the whole one of a key that
    /// lies elsewhere.
    pub(super) fn shown(&self, whole: &Key) -> Key {
        self.0.as_ref().and_then(|part| part.strip(whole)).unwrap_or_else(|| whole.clone())
    }
}

#[cold]
fn elsewhere(part: &Directory, name: &str) -> Error {
    let why = format!("the store answered with {name:?}, which does not lie in {part:?}");
    Error::new(ErrorKind::Corrupt, why)
}

impl Kv {
    /// Returns a handle on a part of the tree: the keys below this directory, by their names in it.
    /// All names are those: in calls and answers, listings, events, locks and their holders,
    /// transactions and errors. Everything else is shared with this handle: the connections, the
    /// deadline, and the end: [`close`](Self::close) of either closes both. No I/O. Parts can have
    /// parts.
    ///
    /// Keys and locks are the same by either name: `color` of `kv.within("app")?` is `app/color` of
    /// `kv`. A lease, a guard and its fence can be used with both handles, and a transaction of one
    /// takes steps of the other. A store that is opened with the prefix `app/` has the same keys,
    /// but locks of its own.
    ///
    /// # Errors
    /// [`InvalidKey`](ErrorKind::InvalidKey) for the name, and for one of more than 487 bytes
    /// together with the directory of this handle, below which not every name would fit.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// let app = kv.within("app/")?;
    /// app.put("color", "red").await?;
    /// assert!(kv.exists("app/color").await?);
    /// assert_eq!(app.list("").await?[0].key.as_str(), "color");
    ///
    /// let guard = app.new_lock("leader").acquire().await?; // `app/leader`, seen from `kv`
    /// assert!(kv.lock_holder("app/leader").await?.is_some());
    /// kv.put("log", "v2").fenced(&guard).await?;
    /// # Ok(()) }
    /// ```
    #[doc(alias = "namespace")]
    #[doc(alias = "prefix")]
    #[doc(alias = "tenant")]
    #[doc(alias = "subspace")]
    #[doc(alias = "chroot")]
    pub fn within(&self, directory: impl IntoKey) -> Result<Self> {
        let within = || -> Result<Part> {
            let own = directory.into_directory()?;
            let whole = self.part().whole_directory(&own)?.into_owned();
            whole.takes_every_name()?;
            Ok(if whole.is_root() { Part::default() } else { Part(Some(whole)) })
        };
        let part = within().map_err(|e| self.in_call(e, "within", None))?;
        let handle = Handle { part, ..Handle::clone(&self.handle) };
        Ok(Self { handle: Arc::new(handle), deadline: self.deadline })
    }

    /// Returns the directory that this handle is on, by its name in the whole tree: the root, or
    /// what [`within`](Self::within) made it. No I/O.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// assert!(kv.directory().is_root());
    /// assert_eq!(kv.within("app")?.within("blue")?.directory().as_str(), "app/blue");
    /// # Ok(()) }
    /// ```
    pub fn directory(&self) -> Directory {
        self.part().directory()
    }
}
