//! The state behind one commit, which all reads share until the next one.

use super::{
    disk::{Open, Residence},
    format::{CHANGES, DATA, LARGE, LOCKS, Row},
};
use kv_core::Error;
use redb::{ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, TableError};
use std::sync::Arc;

/// The reason why a read failed.
#[derive(Debug)]
pub(crate) enum Reading {
    Failed(redb::Error),
    Refused(Error),
    /// It takes longer than a thread that others need can give it.
    Long,
}

impl<E: Into<redb::Error>> From<E> for Reading {
    fn from(e: E) -> Self {
        Self::Failed(e.into())
    }
}

pub(super) type Read<T> = std::result::Result<T, Reading>;

/// The state behind one commit. The writer makes it, so that a read begins without a word to redb,
/// which may keep the locks that it would need for as long as the disk takes.
pub(super) struct Fixed {
    pub(super) read: ReadTransaction,
    pub(super) data: ReadOnlyTable<&'static str, Row<'static>>,
    pub(super) large: ReadOnlyTable<u64, &'static [u8]>,
    /// The number of commits that it is behind, as a [`Moment`](super::moment::Moment) counts them.
    pub(super) commits: u64,
    pub(super) residence: Arc<Residence>,
}

impl Fixed {
    pub(super) fn new(open: &Open, commits: u64) -> Result<Self, redb::Error> {
        let read = open.database.begin_read()?;
        let (data, large) = (read.open_table(DATA)?, read.open_table(LARGE)?);
        Ok(Self { read, data, large, commits, residence: open.residence.clone() })
    }

    /// Reads all pages that reads need, so that they are in redb's cache.
    pub(super) fn touch(&self) -> Result<(), redb::Error> {
        for row in self.data.iter()? {
            row?;
        }
        for row in self.large.iter()? {
            row?;
        }
        for row in self.read.open_table(LOCKS)?.iter()? {
            row?;
        }
        match self.read.open_table(CHANGES) {
            Ok(changes) => changes.iter()?.try_for_each(|row| row.map(drop))?,
            Err(TableError::TableDoesNotExist(_)) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }
}
