//! Opens the file again after an error of its disk, and settles what became of the last batch.

use super::{
    file::{self, Opening},
    format::{self, COUNTER, EXPIRY, META},
    writer::{Doubt, Writer},
};
use crate::error;
use redb::{Database, ReadableDatabase, ReadableTable};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::Ordering,
};

impl Writer {
    /// Opens the file again for a read that failed, if it is the file that fails.
    pub(super) fn look(&mut self) {
        let serves = match self.engine.database().as_ref() {
            Ok(database) => {
                let write = || database.begin_write().map_err(redb::Error::from).and_then(|w| Ok(w.abort()?));
                matches!(catch_unwind(AssertUnwindSafe(write)), Ok(Ok(())))
            }
            Err(_) => false,
        };
        if !serves {
            self.mend();
        }
        self.engine.looked.send_modify(|times| *times += 1);
    }

    /// Opens the file again after a failure, and settles what became of the last batch; returns
    /// whether it may have happened.
    ///
    /// redb serves nothing after an error of the disk until the file is opened anew, which finds
    /// the last commit that is whole. The file's lock is kept meanwhile. A counter that no commit
    /// of this writer has left is of another process, on a file system without locks, or of an
    /// earlier state: then all lives are over, as after a first opening.
    pub(super) fn mend(&mut self) -> bool {
        let before = self.engine.fix(None);
        self.retire(before);
        let engine = &self.engine;
        let stamp = self.doubt.as_ref().and_then(|doubt| doubt.stamp);
        // Reads wait here. The old database has to go first: it writes as it ends.
        let mut slot = engine.database_mut();
        *slot = Err(error::closed());
        let opened = error::caught(&engine.path, || {
            engine.check_place()?;
            let open = || file::open(&engine.path, engine.cache_size, Opening::Again(&engine.kept));
            let mut database = open()?;
            if self.full {
                // Closing it in order cuts off the pages that the failed batch had got, which
                // leaves room for deleting.
                drop(database);
                database = open()?;
            }
            let (counter, first) = stored(&database).map_err(|e| error::failed(&engine.path, &e))?;
            let theirs = if counter == self.state.committed || Some(counter) == stamp {
                None
            } else {
                Some(format::load(&database).map_err(|refused| refused.error(&engine.path))?)
            };
            Ok((database, counter, first, theirs))
        });
        let (database, counter, first_expiry, theirs) = match opened {
            Ok(opened) => opened,
            Err(e) => {
                *slot = Err(e);
                return stamp.is_some();
            }
        };
        *slot = Ok(database);
        drop(slot);
        engine.reopened.fetch_add(1, Ordering::Relaxed);
        if let Some(theirs) = theirs {
            if let Some(doubt) = self.doubt.take() {
                self.state.living().restore(doubt.replaced);
            }
            self.state.take_over(theirs, engine.time.now());
            self.fix_again();
            self.engine.tell(&[], true);
            return stamp.is_some();
        }
        self.state.first_expiry = first_expiry;
        let Some(Doubt { stamp, events, untold, replaced }) = self.doubt.take() else {
            self.fix_again();
            return false;
        };
        let happened = stamp == Some(counter);
        if happened {
            self.state.committed = counter;
            // Nobody was told what this batch grants, so no life begins now.
            self.begin(&[]);
            self.engine.tell(&events, untold);
        } else {
            self.state.living().restore(replaced);
            self.fix_again();
        }
        happened
    }

    /// Has reads see the last commit of a file that was opened again.
    fn fix_again(&mut self) {
        let fixed = self.fixed(0);
        let before = self.engine.fix(fixed);
        self.retire(before);
    }
}

/// Reads the counter and the first expiry.
fn stored(database: &Database) -> Result<(u64, Option<u64>), redb::Error> {
    let read = database.begin_read()?;
    let counter = read.open_table(META)?.get(COUNTER)?.map_or(0, |n| n.value());
    let first = read.open_table(EXPIRY)?.first()?.map(|(row, _)| row.value().0);
    Ok((counter, first))
}
