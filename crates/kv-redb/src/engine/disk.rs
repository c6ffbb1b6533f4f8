//! The file as redb reads and writes it, and whether redb's cache has all that reads need of it.

use redb::{BackendError, Database, DatabaseError, StorageBackend, backends::FileBackend};
use std::{
    cell::Cell,
    fs::File,
    io,
    ops::{Bound, Deref},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// The number of reads that met the disk where none should, after which none is done there any
/// more.
const MISSES: u64 = 8;

thread_local! {
    /// Tells whether this thread is in a read that must not wait for the disk.
    static HERE: Cell<bool> = const { Cell::new(false) };
}

/// Does a read that must not wait for the disk, on a thread that others need.
pub(super) fn here<T>(read: impl FnOnce() -> T) -> T {
    struct Back;
    impl Drop for Back {
        fn drop(&mut self) {
            HERE.set(false);
        }
    }
    HERE.set(true);
    let _back = Back;
    read()
}

/// Tells whether redb's cache has all pages of the file that reads need.
///
/// redb drops no page from its cache while file and cache fit each other twice: what it has read
/// stays, and so does what a commit has written, until the page is written anew. So of a file of at
/// most half the cache's size every page is in memory once each has been read: the file is *warm*.
/// A larger file is never warm, and neither is one that has just been opened.
#[derive(Debug)]
pub(super) struct Residence {
    /// The most bytes that the file may have.
    most: u64,
    length: AtomicU64,
    /// Counts how often the file stopped being warm.
    cooled: AtomicU64,
    /// Holds the count at which all pages were read.
    warmed: AtomicU64,
    /// Tells whether somebody is reading all pages.
    is_warming: AtomicBool,
    /// Counts the reads that met the disk although the file was warm.
    missed: AtomicU64,
}

impl Residence {
    pub(super) fn new(cache_size: usize, length: u64) -> Arc<Self> {
        Arc::new(Self {
            most: cache_size as u64 / 2,
            length: AtomicU64::new(length),
            cooled: AtomicU64::new(1),
            warmed: AtomicU64::new(0),
            is_warming: AtomicBool::new(false),
            missed: AtomicU64::new(0),
        })
    }

    pub(super) fn is_warm(&self) -> bool {
        self.warmed.load(Ordering::Acquire) == self.cooled.load(Ordering::Acquire)
    }

    /// Counts the reads that met the disk although the file was warm.
    #[cfg(test)]
    pub(super) fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    fn cool(&self) {
        self.cooled.fetch_add(1, Ordering::AcqRel);
    }

    /// Returns the right to read all pages, if the file can be warm, is not, and nobody else does
    /// it.
    pub(super) fn warming(self: &Arc<Self>) -> Option<Warming> {
        let may = !self.is_warm()
            && self.length.load(Ordering::Acquire) <= self.most
            && self.missed.load(Ordering::Relaxed) < MISSES
            && !self.is_warming.swap(true, Ordering::AcqRel);
        may.then(|| Warming { of: self.clone(), at: self.cooled.load(Ordering::Acquire) })
    }
}

/// The right to read all pages. The next one may try when this one is dropped.
#[derive(Debug)]
pub(super) struct Warming {
    of: Arc<Residence>,
    at: u64,
}

impl Warming {
    /// Notes that all pages were read, or could not be.
    pub(super) fn end(self, all: bool) {
        if all {
            self.of.warmed.store(self.at, Ordering::Release);
        } else {
            self.of.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Warming {
    fn drop(&mut self) {
        self.of.is_warming.store(false, Ordering::Release);
    }
}

/// The file of an engine with the lock by which it is this process's: from the first opening to the
/// end of the engine, also while redb opens it again.
#[derive(Debug)]
pub(super) struct Kept(FileBackend);

impl Kept {
    pub(super) fn new(file: File) -> Result<Arc<Self>, DatabaseError> {
        FileBackend::new(file).map(Self).map(Arc::new)
    }

    /// Lets other processes have the file, also while a late read has it open.
    pub(super) fn release(&self) {
        // The lock goes with the open file at the latest.
        let _ = self.0.close();
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.release();
    }
}

/// An open file.
pub(super) struct Open {
    pub(super) database: Database,
    pub(super) residence: Arc<Residence>,
    pub(super) kept: Arc<Kept>,
}

impl Deref for Open {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.database
    }
}

/// The file below redb's cache.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) kept: Arc<Kept>,
    pub(super) residence: Arc<Residence>,
    /// Tells whether the lock is kept since an earlier opening.
    pub(super) is_locked: bool,
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.kept.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if HERE.get() {
            // The next reads go where they may wait, until all pages have been read again.
            self.residence.missed.fetch_add(1, Ordering::Relaxed);
            self.residence.cool();
        }
        self.kept.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.residence.length.store(len, Ordering::Release);
        if len > self.residence.most {
            self.residence.cool();
        }
        self.kept.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.kept.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.kept.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        // The engine releases the lock: it may open the file again.
        Ok(())
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        if self.is_locked { Ok(true) } else { self.kept.0.try_lock_range(start, end) }
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        if self.is_locked { Ok(true) } else { self.kept.0.try_lock_shared_range(start, end) }
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        if self.is_locked { Ok(()) } else { self.kept.0.lock_range(start, end) }
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        if self.is_locked { Ok(()) } else { self.kept.0.lock_shared_range(start, end) }
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        if self.is_locked { Ok(()) } else { self.kept.0.unlock_range(start, end) }
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.kept.0.query_lock_range(start, end)
    }
}
