//! Copies what was written to one store into the other.

use super::leases::Leases;
use futures::{StreamExt, stream};
use kv_core::{
    Bytes, Directory, Entry, Error, ErrorKind, Item, Key, LeaseId, Result, Version,
    backend::{Mutex, Outage, Tasks},
    driver::{Deadline, Expect, ListOptions, PutOptions, ReadOptions, Store, WriteOptions},
};
use std::{mem, sync::Arc, thread, time::Duration};
use tokio::{runtime::Handle, sync::oneshot};

/// The time that one key, or one page of keys, has to be copied.
const TIME: Duration = Duration::from_secs(5);

/// The keys of a deleted directory that are looked for at a time.
const PAGE: usize = 100;

/// The keys of one write, or of one deletion of a directory, that are copied at the same time.
pub(super) const AT_ONCE: usize = 8;

/// Hears of what could not be copied: the name, and why.
pub(super) type Tell = dyn Fn(&str, &Error) + Send + Sync;

/// One write through the layer, which is to be copied.
pub(super) struct Mine {
    key: Key,
    /// The value and the options of a put; `None` for a deletion.
    put: Option<(Bytes, PutOptions)>,
    /// The version that the put was given; `None` where the answer was lost.
    version: Option<Version>,
}

impl Mine {
    pub(super) fn put(key: &Key, value: &Bytes, options: &PutOptions) -> Self {
        Self { key: key.clone(), put: Some((value.clone(), options.clone())), version: None }
    }

    pub(super) fn delete(key: &Key) -> Self {
        Self { key: key.clone(), put: None, version: None }
    }

    /// Makes the write of a key whose newest version stands under this lease.
    pub(super) fn under(key: &Key, lease: &LeaseId, version: Version) -> Self {
        let options = PutOptions::default().lease(Some(lease.clone()));
        // The value is read where it is written.
        Self { key: key.clone(), put: Some((Bytes::new(), options)), version: Some(version) }
    }

    /// Tells whether this entry is what the write left.
    fn left(&self, found: &Entry) -> bool {
        match (&self.put, self.version) {
            (Some(_), Some(version)) => found.version == version,
            (Some((value, _)), None) => found.value == *value,
            (None, _) => false,
        }
    }
}

/// Returns what a listing has of a key.
fn found(item: Item) -> Option<(Key, Version)> {
    match item {
        Item::Entry(entry) => Some((entry.key, entry.version)),
        Item::Key(key, version) => Some((key, version)),
        Item::Directory(_) => None,
    }
}

/// Copies from one store to another.
pub(super) struct Copier {
    pub(super) from: Arc<dyn Store>,
    pub(super) to: Arc<dyn Store>,
    pub(super) tasks: Tasks,
    /// The time for which a write waits for its copy.
    pub(super) patience: Duration,
    pub(super) tell: Arc<Tell>,
    pub(super) leases: Leases,
    /// The copies that were cut off by the end of their runtime.
    pub(super) cut: Mutex<Vec<Job>>,
    pub(super) outage: Mutex<Outage>,
}

/// The writes and the deletion of a directory that are copied in one go.
#[derive(Default)]
pub(super) struct Job {
    writes: Vec<Mine>,
    /// The directory that was deleted.
    tree: Option<Directory>,
}

impl Job {
    pub(super) fn of(writes: Vec<Mine>) -> Self {
        Self { writes, tree: None }
    }

    fn is_nothing(&self) -> bool {
        self.writes.is_empty() && self.tree.is_none()
    }

    /// Returns what it is about, for whoever is told of failures.
    fn names(&self) -> impl Iterator<Item = &str> {
        let keys = self.writes.iter().map(|mine| mine.key.as_str());
        keys.chain(self.tree.as_ref().map(Directory::as_str))
    }
}

/// A copy that is being made. Dropped before its end, as by the end of its runtime, it is left to
/// the next one: made twice, or late, a copy does no harm.
struct Running {
    copier: Arc<Copier>,
    job: Job,
}

impl Running {
    async fn run(mut self) {
        self.copier.make(&self.job).await;
        self.job = Job::default();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let job = mem::take(&mut self.job);
        // What panicked would do so again.
        if !job.is_nothing() && !thread::panicking() {
            self.copier.cut.lock().push(job);
        }
    }
}

impl Copier {
    /// Copies one write.
    ///
    /// The other store is read before the own one, and written on condition that it has not
    /// changed since. So a copy that is late does no harm: either it read the newest entry, or
    /// another copy was written meanwhile, and it looks again. Who made the newest write copies
    /// last. Only a key that is missing can be missing once more, after it was made and deleted:
    /// so the own store is read again behind a put.
    async fn copy(&self, mine: &Mine) -> Result<()> {
        let deadline = Deadline::after(TIME);
        let (read, write) =
            (ReadOptions::default().deadline(deadline), WriteOptions::default().deadline(deadline));
        if let (Some((_, options)), Some(version)) = (&mine.put, mine.version) {
            // Also where the other store is away: it is copied once the lease is granted there.
            self.leases.note(&mine.key, version, options.lease.as_ref());
        }
        loop {
            let there = self.to.as_ref().get(&mine.key, &read).await?;
            let noted = self.leases.noted(&mine.key);
            let here = self.from.as_ref().get(&mine.key, &read).await?;
            if here.is_none() {
                self.leases.gone(&mine.key, noted);
            }
            let expect = there.map_or(Expect::Missing, |there| Expect::Version(there.version));
            let copied = match (&here, &mine.put) {
                (None, _) if expect == Expect::Missing => return Ok(()),
                (None, _) => self.to.as_ref().delete(&mine.key, expect, &write).await.map(drop),
                (Some(here), Some((_, options))) if mine.left(here) => {
                    self.leases.note(&mine.key, here.version, options.lease.as_ref());
                    let put = self.put(&mine.key, here.value.clone(), expect, options, deadline).await;
                    if put.is_ok() {
                        let now = self.from.as_ref().get(&mine.key, &read).await?;
                        if now.is_none_or(|now| now.version != here.version) {
                            continue;
                        }
                    }
                    put
                }
                // A newer write, which whoever made it copies.
                (Some(_), _) => return Ok(()),
            };
            match copied {
                Err(e) if e.is_conflict() && !deadline.has_passed() => {}
                answer => return answer,
            }
        }
    }

    async fn put(
        &self,
        key: &Key,
        value: Bytes,
        expect: Expect,
        options: &PutOptions,
        deadline: Deadline,
    ) -> Result<()> {
        let can = self.to.as_ref().capabilities();
        if value.len() > can.max_value {
            let why =
                format!("a value of {} bytes; the other store takes at most {}", value.len(), can.max_value);
            return Err(Error::new(ErrorKind::TooLarge, why));
        }
        let ttl = options.ttl.map(|ttl| can.key_ttl(ttl)).transpose()?;
        let lease = options.lease.as_ref().map(|lease| self.leases.name(lease)).transpose()?;
        let options = PutOptions::default().ttl(ttl).lease(lease).deadline(deadline);
        self.to.as_ref().put(key, value, expect, &options).await.map(drop)
    }

    /// Deletes, in the other store, what lies below the directory and is not in the own one.
    async fn sweep(&self, directory: &Directory) -> Result<()> {
        let mut from = None;
        loop {
            let read = ReadOptions::default().deadline(Deadline::after(TIME));
            let list = ListOptions::default().keys_only(true).limit(Some(PAGE)).read(read.clone());
            // The other store is read first, as by `copy`.
            let page = self.to.as_ref().list(directory, from.as_ref(), &list).await?;
            let (keys, versions): (Vec<_>, Vec<_>) = page.items.into_iter().filter_map(found).unzip();
            let noted: Vec<_> = keys.iter().map(|key| self.leases.noted(key)).collect();
            let here = self.from.as_ref().get_many(&keys, &read).await?;
            let gone = keys.iter().zip(noted).zip(versions).zip(here).filter(|(_, here)| here.is_none());
            let gone: Vec<_> = gone.map(|(gone, _)| gone).collect();
            gone.iter().for_each(|((key, noted), _)| self.leases.gone(key, *noted));
            let remove = async |((key, _), version): ((&Key, _), Version)| {
                self.note(key.as_str(), self.remove(key, version).await);
            };
            stream::iter(gone).for_each_concurrent(AT_ONCE, remove).await;
            from = page.next;
            if from.is_none() {
                return Ok(());
            }
        }
    }

    /// Deletes, in the other store, a key of this version there that the own store did not have
    /// behind that.
    async fn remove(&self, key: &Key, version: Version) -> Result<()> {
        let write = WriteOptions::default().deadline(Deadline::after(TIME));
        match self.to.as_ref().delete(key, Expect::Version(version), &write).await {
            Err(e) if e.is_conflict() => self.copy(&Mine::delete(key)).await,
            deleted => deleted.map(drop),
        }
    }

    /// Notes how a copy ended.
    pub(super) fn note(&self, name: &str, ended: Result<()>) {
        match ended {
            Ok(()) => self.outage.lock().over(),
            Err(e) => {
                self.outage.lock().failed(&e);
                (self.tell)(name, &e);
            }
        }
    }

    async fn make(&self, job: &Job) {
        let copy = async |mine: &Mine| self.note(mine.key.as_str(), self.copy(mine).await);
        stream::iter(&job.writes).for_each_concurrent(AT_ONCE, copy).await;
        if let Some(directory) = &job.tree {
            self.note(directory.as_str(), self.sweep(directory).await);
        }
    }

    /// Begins a copy in the background, and returns what ends when that is done.
    pub(super) fn begin(self: &Arc<Self>, job: Job) -> oneshot::Receiver<()> {
        let (running, (copied, done)) = (Running { copier: self.clone(), job }, oneshot::channel());
        self.tasks.spawn(async move {
            running.run().await;
            drop(copied);
            Ok(())
        });
        done
    }

    /// Begins anew, in this runtime, what was cut off by the end of another one.
    pub(super) fn resume(self: &Arc<Self>) {
        // It is begun outside of the lock: what is cut off at once comes back.
        let cut = mem::take(&mut *self.cut.lock());
        cut.into_iter().for_each(|job| drop(self.begin(job)));
    }
}

/// Writes that are to be copied when the store has answered. When this is dropped before, nobody
/// knows whether they were made, and they are looked for.
pub(super) struct Pending {
    copier: Arc<Copier>,
    job: Job,
}

impl Pending {
    pub(super) fn new(copier: &Arc<Copier>, writes: Vec<Mine>) -> Self {
        Self { copier: copier.clone(), job: Job::of(writes) }
    }

    pub(super) fn tree(copier: &Arc<Copier>, directory: &Directory) -> Self {
        Self { copier: copier.clone(), job: Job { writes: Vec::new(), tree: Some(directory.clone()) } }
    }

    /// Ends this by the answer to the writes, of which `versions` gives those of the puts.
    pub(super) async fn answered<T>(
        mut self,
        answer: &Result<T>,
        deadline: Deadline,
        versions: impl Fn(&T, usize) -> Option<Version>,
    ) {
        match answer {
            Ok(answer) => {
                for (at, mine) in self.job.writes.iter_mut().enumerate() {
                    mine.version = versions(answer, at);
                }
            }
            // It may have been made.
            Err(e) if e.kind() == ErrorKind::OutcomeUnknown => {}
            Err(_) => return self.forget(),
        }
        if let Some(done) = self.begin() {
            // The copy goes on when the call has no more time to wait for it.
            let wait = Deadline::after(deadline.remaining().min(self.copier.patience));
            let _ = wait.limit(done).await;
        }
    }

    /// Ends this without a copy: nothing was written.
    pub(super) fn forget(mut self) {
        self.job = Job::default();
    }

    /// Begins to copy in the background, and returns what ends when that is done.
    fn begin(&mut self) -> Option<oneshot::Receiver<()>> {
        let job = mem::take(&mut self.job);
        if job.is_nothing() {
            return None;
        }
        if Handle::try_current().is_err() {
            for name in job.names() {
                let why = "there is no runtime in which it could be copied";
                self.copier.note(name, Err(Error::new(ErrorKind::Closed, why)));
            }
            return None;
        }
        self.copier.resume();
        Some(self.copier.begin(job))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        drop(self.begin());
    }
}
