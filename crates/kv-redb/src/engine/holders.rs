//! Reads of locks: who holds one, and all that are held.

use super::{
    fixed::{Read, Reading},
    format::{CHANGES, LOCKS},
    snapshot::Snapshot,
};
use crate::names;
use kv_core::{Directory, HeldLock, Holder, driver::LockPage};
use redb::{ReadOnlyTable, TableError};
use std::ops::Bound;

/// The most locks of one page of a listing.
const LISTED: usize = 256;
/// A page takes no further lock when its values are this many bytes already.
const BYTES: usize = 1 << 20;
/// The most rows, and bytes of values, of a listing on its caller's thread.
const ROWS_HERE: usize = 4_096;
const BYTES_HERE: usize = 256 << 10;

impl Snapshot<'_> {
    pub(crate) fn holder(&self, name: &str) -> Read<Option<Holder>> {
        let locks = self.fixed.read.open_table(LOCKS)?;
        let Some(held) = locks.get(name)? else { return Ok(None) };
        let (token, _, value) = held.value();
        if self.has_lost(name, token)? {
            return Ok(None);
        }
        let changes = count(self.changes()?.as_ref(), name)?;
        Ok(Some(Holder::new(token, self.value(token, value)?).with_changes(changes)))
    }

    /// Returns the table of changes of holders' values. A file of an earlier version has none
    /// before its first commit.
    fn changes(&self) -> Read<Option<ReadOnlyTable<&'static str, u64>>> {
        match self.fixed.read.open_table(CHANGES) {
            Ok(changes) => Ok(Some(changes)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Returns a page of the locks that are held below a directory, of the store of this prefix:
    /// those whose names come behind this one.
    pub(crate) fn held(&self, prefix: &str, directory: &Directory, behind: Option<&str>) -> Read<LockPage> {
        let (locks, changes) = (self.fixed.read.open_table(LOCKS)?, self.changes()?);
        let (base, mut page) = (directory.start(), LockPage::default());
        let (mut rows, mut bytes) = (0, 0);
        let from = behind.map_or(Bound::Included(&*base), Bound::Excluded);
        for row in locks.range::<&str>((from, Bound::Unbounded))? {
            rows += 1;
            if self.is_here && (rows > ROWS_HERE || bytes > BYTES_HERE) {
                return Err(Reading::Long);
            }
            let (name, row) = row?;
            let (name, (token, _, value)) = (name.value(), row.value());
            if !name.starts_with(&base) {
                break;
            }
            let lock = names::lock_key(prefix, name).filter(|lock| lock.is_below(directory));
            let Some(lock) = lock else { continue };
            if self.has_lost(name, token)? {
                continue;
            }
            if page.locks.len() >= LISTED || bytes >= BYTES {
                page.next = page.locks.last().map(|last| LockPage::behind(&last.name));
                break;
            }
            let value = self.value(token, value)?;
            bytes += value.len();
            let holder = Holder::new(token, value).with_changes(count(changes.as_ref(), name)?);
            page.locks.push(HeldLock::new(lock, holder, Some(self.waiters(name) as u64)));
        }
        Ok(page)
    }
}

/// Returns how often the holder of a lock has changed its value.
fn count(changes: Option<&ReadOnlyTable<&'static str, u64>>, name: &str) -> Read<u64> {
    Ok(match changes {
        Some(changes) => changes.get(name)?.map_or(0, |changes| changes.value()),
        None => 0,
    })
}
