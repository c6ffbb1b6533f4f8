//! The state that the clients, the reads and the writer of one open file share.

use super::{
    asking::Asking,
    batch::{Batch, Done},
    disk::{Kept, Open},
    event::{Event, View},
    file::Identity,
    fixed::Fixed,
    format::Stored,
    job::{self, Queued},
    options::Options,
    state::{Shared, State},
    time::Time,
};
use crate::error;
use kv_core::{
    Error, ErrorKind, Result,
    backend::{Hub, Instant, Mutex, Permits, unique},
    driver::Deadline,
};
use std::{
    future::ready,
    path::PathBuf,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::{Notify, mpsc, watch};

/// The number of jobs that the queue takes of each runtime; callers wait while it has as many.
const QUEUE: usize = 1_024;

/// The file, or the error that tells why it cannot be used now.
type Slot = Result<Open>;

/// Counts of what was done since the file was opened, by all clients of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Counts the commits, each with one flush to the disk.
    pub commits: u64,
    /// Counts the keys that the commits put or deleted, expiry included.
    pub writes: u64,
    /// Counts how often the file had to be opened again after an error of its disk.
    pub reopened: u64,
    /// Counts the reads that went to a thread of the runtime's pool, since not all of the file was
    /// in memory, or since they take long.
    pub aside: u64,
}

/// One open file.
pub(crate) struct Engine {
    pub(crate) path: PathBuf,
    file: Identity,
    /// Keeps the file's lock, until the writer has ended.
    pub(super) kept: Arc<Kept>,
    pub(crate) time: Time,
    pub(super) cache_size: usize,
    pub(super) quick_repair: bool,
    database: RwLock<Slot>,
    /// The state that reads see; `None` while the file is opened again.
    pub(super) fixed: RwLock<Option<Arc<Fixed>>>,
    /// Wakes the writer to see whether the file still serves.
    pub(super) look: Notify,
    /// Counts how often the writer has looked whether the file still serves.
    pub(super) looked: watch::Sender<u64>,
    /// Limits the reads on threads of the pool that run at the same time.
    pub(super) readers: Permits,
    /// Limits the jobs in the queue.
    places: Permits,
    jobs: mpsc::UnboundedSender<Queued>,
    pub(super) living: Shared,
    pub(super) stop: Notify,
    pub(super) gone: watch::Sender<bool>,
    views: Mutex<Vec<Weak<View>>>,
    ids: AtomicU64,
    /// The mark of this opening, without which no lease and no proof of a lock is believed: other
    /// files and earlier openings count alike.
    mark: u64,
    pub(super) commits: AtomicU64,
    pub(super) writes: AtomicU64,
    /// Counts how often the file was opened again after a failure.
    pub(super) reopened: AtomicU64,
    /// Counts the reads on threads of the pool.
    pub(super) aside: AtomicU64,
}

impl Engine {
    /// Makes the engine of a file that was just opened. The queue of jobs and the state are for
    /// its writer.
    pub(super) fn new(
        path: PathBuf,
        file: Identity,
        database: Open,
        stored: Stored,
        options: &Options,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Queued>, State) {
        let time = Time::new(options.clock.clone(), stored.seen);
        let last = stored.leases.iter().map(|(lease, _)| *lease).max().unwrap_or(0).max(stored.counter);
        let state = State::new(stored, &time);
        let (jobs, queue) = mpsc::unbounded_channel();
        let readers = 2 * std::thread::available_parallelism().map_or(2, |cores| cores.get()).max(2);
        let engine = Arc::new(Self {
            kept: database.kept.clone(),
            time,
            cache_size: options.cache_size,
            quick_repair: options.quick_repair,
            fixed: RwLock::new(Fixed::new(&database, 0).ok().map(Arc::new)),
            database: RwLock::new(Ok(database)),
            look: Notify::new(),
            looked: watch::Sender::new(0),
            readers: Permits::new(readers),
            places: Permits::new(QUEUE),
            jobs,
            living: state.shared(),
            stop: Notify::new(),
            gone: watch::Sender::new(false),
            views: Mutex::default(),
            ids: AtomicU64::new(last),
            mark: unique(),
            commits: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            reopened: AtomicU64::new(0),
            aside: AtomicU64::new(0),
            file,
            path,
        });
        (engine, queue, state)
    }

    /// Refuses to go on when the file is no longer at its path: what is written then is lost with
    /// the last store of the file. It asks the system for a name, and reads nothing.
    pub(crate) fn check_place(&self) -> Result<()> {
        self.file.check(&self.path)
    }

    /// Has the writer do this in its next batch, and waits until the batch is committed. A job
    /// that is still queued when the deadline passes, or when the future is dropped, is never
    /// done.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        deadline: Deadline,
        size: usize,
        work: impl FnOnce(&mut Batch<'_>) -> Done<T> + Send + 'static,
    ) -> Result<T> {
        let (job, ticket, answer) = job::job(size, work);
        let queued = |place| Queued { job, place: Some(place) };
        let sent = match self.places.at_once() {
            Some(place) => Some(self.jobs.send(queued(place)).is_ok()),
            None => {
                // Whoever gets a place has to use it: the caller may poll something else.
                let jobs = self.jobs.clone();
                let send = move |place| ready(Ok(jobs.send(queued(place)).is_ok()));
                self.places.apart(deadline, send).await?
            }
        };
        match sent {
            Some(true) => {}
            Some(false) => return Err(self.why_ended()),
            None => return Err(error::not_begun(deadline)),
        }
        match deadline.limit(answer).await {
            Some(Ok(answer)) => answer,
            Some(Err(_)) if ticket.leave() => Err(self.why_ended()),
            None if ticket.leave() => Err(error::not_begun(deadline)),
            Some(Err(_)) | None => Err(error::committing(deadline)),
        }
    }

    /// Returns why the writer takes no more jobs.
    fn why_ended(&self) -> Error {
        self.database().as_ref().err().cloned().unwrap_or_else(error::closed)
    }

    /// Has the writer do this, without waiting for it, so that a drop can call it where no runtime
    /// is left. `false` when the file is closed. It is for giving back, so that no more is ordered
    /// than is held: it takes no place in the queue.
    pub(crate) fn order(&self, work: impl FnOnce(&mut Batch<'_>) -> Done<bool> + Send + 'static) -> bool {
        self.jobs.send(Queued { job: job::order(work), place: None }).is_ok()
    }

    /// Counts an acquisition among those who wait for the lock, until the answer is dropped.
    pub(crate) fn asking(&self, name: &Arc<str>, id: u64) -> Asking {
        Asking::new(&self.living, name, id)
    }

    /// Renews a lease, in memory alone; returns the moment from which its TTL counts now. While the
    /// file is not at its path nothing is renewed: another process may have opened the one that is
    /// there by now, and grant there what lives here.
    pub(crate) fn renew_lease(&self, lease: u64) -> Result<Instant> {
        self.check_place()?;
        let mut living = self.living.lock();
        // The time is read under the lock: a lease that the writer found to be over before is over
        // at this moment too.
        let now = self.time.now();
        let over = || Error::new(ErrorKind::LeaseLost, "it was revoked, or its TTL passed");
        living.renew_lease(lease, now).then(|| self.time.instant(now)).ok_or_else(over)
    }

    /// Does the same as [`renew_lease`](Self::renew_lease) for the lock that this acquisition
    /// holds.
    pub(crate) fn renew_lock(&self, name: &Arc<str>, id: u64) -> Result<Instant> {
        self.check_place()?;
        let mut living = self.living.lock();
        let now = self.time.now();
        let over = || Error::new(ErrorKind::LockLost, "it was released, or its TTL passed");
        living.renew_lock(name, id, now).then(|| self.time.instant(now)).ok_or_else(over)
    }

    /// Returns the mark of this opening, which leases and proofs of locks bear.
    pub(crate) fn mark(&self) -> u64 {
        self.mark
    }

    /// Returns a number that no other acquisition or lease of this opening has.
    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Returns counts of what was done since the file was opened.
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            commits: self.commits.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
            reopened: self.reopened.load(Ordering::Relaxed),
            aside: self.aside.load(Ordering::Relaxed),
        }
    }

    pub(super) fn database(&self) -> RwLockReadGuard<'_, Slot> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn database_mut(&self) -> RwLockWriteGuard<'_, Slot> {
        self.database.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the view of this prefix: the one that other clients of the prefix have, or a new
    /// one.
    pub(crate) fn view(&self, prefix: &str) -> Arc<View> {
        let mut views = self.views.lock();
        views.retain(|view| view.strong_count() > 0);
        if let Some(view) = views.iter().filter_map(Weak::upgrade).find(|view| &*view.prefix == prefix) {
            return view;
        }
        let view = Arc::new(View { prefix: prefix.into(), hub: Hub::new() });
        views.push(Arc::downgrade(&view));
        view
    }

    fn views(&self) -> Vec<Arc<View>> {
        self.views.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// Tells whether anybody watches anything.
    pub(super) fn is_watched(&self) -> bool {
        self.views().iter().any(|view| view.hub.subscribers() > 0)
    }

    /// Tells the watches of all prefixes what a commit has changed. Whoever began to watch after
    /// some of it was done without events reads everything again.
    pub(super) fn tell(&self, events: &[Event], untold: bool) {
        let views = self.views();
        if untold {
            views.iter().for_each(|view| view.hub.missed());
        }
        for event in events {
            for view in &views {
                view.tell(event);
            }
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("path", &self.path)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
