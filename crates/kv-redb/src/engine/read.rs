//! Reads: each a snapshot of its own, on a thread that may block.

use super::{
    blocking::blocking,
    common::Engine,
    format::{CHANGES, DATA, Inline, LARGE, LOCKS, Row},
    moment::Moment,
};
use crate::{error, names};
use kv_core::{
    Bytes, Directory, Entry, Error, Holder, Item, Key, Position, Result, Version,
    driver::{Deadline, ListOptions, Page},
};
use redb::{ReadOnlyTable, ReadTransaction, ReadableDatabase, TableError};
use std::{ops::Bound, sync::Arc};

/// The most items of one page.
const ITEMS: usize = 1_000;
/// A page takes no further entry when its values are this many bytes already.
const BYTES: usize = 1 << 20;

/// The reason why a read failed.
#[derive(Debug)]
pub(crate) enum Reading {
    Failed(redb::Error),
    Refused(Error),
}

impl<E: Into<redb::Error>> From<E> for Reading {
    fn from(e: E) -> Self {
        Self::Failed(e.into())
    }
}

type Read<T> = std::result::Result<T, Reading>;

impl Engine {
    /// Reads from one snapshot. A read that meets a failed disk waits until the writer has opened
    /// the file again.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        deadline: Deadline,
        work: impl Fn(&Snapshot) -> Read<T> + Send + Sync + 'static,
    ) -> Result<T> {
        let work = Arc::new(work);
        let read = async {
            let (mut looked, mut gone) = (self.looked.subscribe(), self.gone.subscribe());
            let mut again = true;
            loop {
                looked.borrow_and_update();
                let (engine, work) = (self.clone(), work.clone());
                let permit = self.readers.clone().acquire_owned().await;
                let once = move || {
                    // The permit is given back when the read has ended, also when its caller is
                    // gone.
                    let _permit = permit;
                    error::caught(&engine.path, || Ok(engine.snapshot().and_then(|s| work(&s))))
                };
                let failed = match blocking(once).await? {
                    Ok(value) => return Ok(value),
                    Err(Reading::Refused(e)) => return Err(e),
                    Err(Reading::Failed(e)) => e,
                };
                if !error::needs_reopening(&failed) || !std::mem::take(&mut again) {
                    return Err(error::failed(&self.path, &failed));
                }
                self.look.notify_one();
                tokio::select! {
                    _ = looked.changed() => {}
                    _ = gone.wait_for(|gone| *gone) => return Err(error::closed()),
                }
            }
        };
        deadline.limit(read).await.unwrap_or_else(|| Err(error::no_answer(deadline)))
    }

    fn snapshot(&self) -> Read<Snapshot> {
        let database = self.database();
        let database = database.as_ref().map_err(|e| Reading::Refused(e.clone()))?;
        loop {
            // The moment is before the snapshot, and no commit is between them, so that nothing in
            // the snapshot is judged by what came behind it.
            let at = Moment::new(&self.living, &self.time);
            let read = database.begin_read()?;
            if at.is_last() {
                return Ok(Snapshot { read, at });
            }
        }
    }
}

/// One moment of the store.
pub(crate) struct Snapshot {
    read: ReadTransaction,
    at: Moment,
}

type Data = ReadOnlyTable<&'static str, Row<'static>>;

impl Snapshot {
    fn data(&self) -> Read<Data> {
        Ok(self.read.open_table(DATA)?)
    }

    /// Returns the value of a row. A value that is not in the row is found by its version or
    /// token.
    fn value(&self, number: u64, inline: Inline<'_>) -> Read<Bytes> {
        if let Some(value) = inline {
            return Ok(Bytes::copy_from_slice(value));
        }
        let value = self.read.open_table(LARGE)?.get(number)?;
        let value = value.ok_or_else(|| redb::Error::Corrupted(format!("no value of version {number}")))?;
        Ok(Bytes::copy_from_slice(value.value()))
    }

    /// Tells whether a row is still there. A row whose end has come is gone at once, even before
    /// the writer has cleared it away.
    fn lives(&self, expiry: u64, lease: u64) -> bool {
        (expiry == 0 || expiry > self.at.now()) && (lease == 0 || !self.at.is_over(lease))
    }

    pub(crate) fn get_many(&self, prefix: &str, keys: &[Key]) -> Read<Vec<Option<Entry>>> {
        let data = self.data()?;
        let one = |key: &Key| -> Read<Option<Entry>> {
            let Some(row) = data.get(&*format!("{prefix}{key}"))? else { return Ok(None) };
            let (version, expiry, lease, value) = row.value();
            if !self.lives(expiry, lease) {
                return Ok(None);
            }
            Ok(Some(Entry::new(key.clone(), self.value(version, value)?, Version::new(version, 0))))
        };
        keys.iter().map(one).collect()
    }

    pub(crate) fn get(&self, prefix: &str, key: &Key) -> Read<Option<Entry>> {
        Ok(self.get_many(prefix, std::slice::from_ref(key))?.pop().flatten())
    }

    pub(crate) fn exists(&self, prefix: &str, key: &Key) -> Read<bool> {
        let row = self.data()?.get(&*format!("{prefix}{key}"))?;
        Ok(row.is_some_and(|row| {
            let (_, expiry, lease, _) = row.value();
            self.lives(expiry, lease)
        }))
    }

    pub(crate) fn holder(&self, name: &str) -> Read<Option<Holder>> {
        let locks = self.read.open_table(LOCKS)?;
        let Some(held) = locks.get(name)? else { return Ok(None) };
        let (token, _, value) = held.value();
        if self.at.has_lost(name, token) {
            return Ok(None);
        }
        let changes = match self.read.open_table(CHANGES) {
            Ok(changes) => changes.get(name)?.map_or(0, |changes| changes.value()),
            // A file of an earlier version has none before its first commit.
            Err(TableError::TableDoesNotExist(_)) => 0,
            Err(e) => return Err(e.into()),
        };
        Ok(Some(Holder::new(token, self.value(token, value)?).with_changes(changes)))
    }

    /// Returns one page of what lies below the directory, behind this place.
    pub(crate) fn list(
        &self,
        prefix: &str,
        directory: &Directory,
        behind: Option<&Position>,
        options: &ListOptions,
    ) -> Read<Page> {
        let data = self.data()?;
        let base = format!("{prefix}{}", directory.start());
        let behind = behind.map(Position::start);
        let behind = behind.as_deref();
        let most = options.limit.unwrap_or(ITEMS).min(ITEMS);
        let (mut page, mut bytes, mut left_out) = (Page::default(), 0, Vec::new());
        let mut start = match behind.map(|place| format!("{prefix}{place}")) {
            Some(place) if place > base => Bound::Excluded(place),
            _ => Bound::Included(base.clone()),
        };
        // Each round ends with the directory, or at a child directory, which the next round jumps
        // over.
        'seek: loop {
            let from = start.as_ref().map(String::as_str);
            for row in data.range::<&str>((from, Bound::Unbounded))? {
                let (name, row) = row?;
                let name = name.value();
                if !name.starts_with(&base) {
                    break 'seek;
                }
                let (number, expiry, lease, value) = row.value();
                let Some(key) = names::key(&name[prefix.len()..]) else {
                    left_out.extend(options.left_out.is_wanted().then(|| name.to_owned()));
                    continue;
                };
                if key.is_internal() || !self.lives(expiry, lease) {
                    continue;
                }
                let child = if options.recursive { None } else { directory.child_of(&key) };
                let wanted =
                    child.as_ref().is_none_or(|c| behind.is_none_or(|b| format!("{c}").as_str() > b));
                if wanted && (page.items.len() >= most || bytes >= BYTES) {
                    page.next = page.items.last().map(|item| Page::behind(&item.position()));
                    break 'seek;
                }
                if let Some(child) = child {
                    start = Bound::Included(format!("{prefix}{}0", child.as_str()));
                    if wanted {
                        page.items.push(Item::Directory(child));
                    }
                    continue 'seek;
                }
                // What comes behind the last item is noted by the next page.
                left_out.drain(..).for_each(|name| options.left_out.note(name));
                let version = Version::new(number, 0);
                page.items.push(if options.keys_only {
                    Item::Key(key, version)
                } else {
                    let value = self.value(number, value)?;
                    bytes += value.len();
                    Item::Entry(Entry::new(key, value, version))
                });
            }
            break;
        }
        if page.next.is_none() {
            left_out.iter().for_each(|name| options.left_out.note(name));
        }
        Ok(page)
    }
}
