//! The names of a store below a directory: *own* is a name in the directory, *whole* what the same
//! thing is called in the store below.

use kv_core::{Directory, Entry, Error, ErrorKind, Item, Key, Position, Result, WatchEvent, driver::Target};

#[derive(Clone, Debug)]
pub(super) struct Names(pub(super) Directory);

impl Names {
    /// Returns the whole name of a key or lock.
    pub(super) fn whole(&self, own: &Key) -> Result<Key> {
        self.0.join(own)
    }

    pub(super) fn whole_directory(&self, own: &Directory) -> Result<Directory> {
        self.0.join_directory(own)
    }

    pub(super) fn whole_place(&self, own: &Position) -> Result<Position> {
        Ok(match own {
            Position::Key(key) => Position::Key(self.whole(key)?),
            Position::Directory(directory) => Position::Directory(self.whole_directory(directory)?),
        })
    }

    pub(super) fn whole_target(&self, own: &Target) -> Result<Target> {
        Ok(match own {
            Target::Key(key) => Target::Key(self.whole(key)?),
            Target::Tree(directory) => Target::Tree(self.whole_directory(directory)?),
            Target::Holder(lock) => Target::Holder(self.whole(lock)?),
        })
    }

    /// Returns the own name of a key or lock that the store below named.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) for one that does not lie in the directory.
    pub(super) fn own(&self, whole: &Key) -> Result<Key> {
        self.0.strip(whole).ok_or_else(|| self.elsewhere(whole.as_str()))
    }

    pub(super) fn own_entry(&self, mut whole: Entry) -> Result<Entry> {
        whole.key = self.own(&whole.key)?;
        Ok(whole)
    }

    pub(super) fn own_item(&self, whole: Item) -> Result<Item> {
        Ok(match whole {
            Item::Entry(entry) => Item::Entry(self.own_entry(entry)?),
            Item::Key(key, version) => Item::Key(self.own(&key)?, version),
            Item::Directory(directory) => {
                let own = self.0.strip_directory(&directory);
                Item::Directory(own.ok_or_else(|| self.elsewhere(directory.as_str()))?)
            }
        })
    }

    pub(super) fn own_event(&self, whole: WatchEvent) -> Result<WatchEvent> {
        Ok(match whole {
            WatchEvent::Put(entry) => WatchEvent::Put(self.own_entry(entry)?),
            WatchEvent::Delete { key, version } => WatchEvent::Delete { key: self.own(&key)?, version },
            WatchEvent::Synced => WatchEvent::Synced,
        })
    }

    #[cold]
    fn elsewhere(&self, name: &str) -> Error {
        let why = format!(
            "the store answered with {name:?}, which does not lie in {:?}; this is a fault of the store",
            self.0
        );
        Error::new(ErrorKind::Corrupt, why)
    }
}
