//! One open file: its writer thread, its reads, its clients.

mod batch;
mod event;
mod file;
mod format;
mod job;
mod make;
mod past;
mod places;
mod read;
mod state;
#[cfg(test)]
mod tests;
mod time;
mod writer;

pub(crate) use batch::{Asked, Batch, Lives};
pub(crate) use event::View;
pub(crate) use job::Done;
pub(crate) use places::{Client, open, view};
pub(crate) use read::{Reading, Snapshot};

use crate::{config::Config, error};
use event::Event;
use file::{Identity, Opening};
use format::Refused;
use job::Job;
use kv_core::{
    Deadline, Error, ErrorKind, Result,
    backend::{Instant, Mutex},
};
use redb::Database;
use state::{Shared, State};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
        atomic::{AtomicU64, Ordering},
    },
};
use time::Time;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use writer::Writer;

/// How many jobs wait before callers wait to queue.
const QUEUE: usize = 1_024;

/// The file, or why it cannot be used now.
type Slot = Result<Database>;

pub(crate) struct Engine {
    pub(crate) path: PathBuf,
    file: Identity,
    pub(crate) time: Time,
    cache_size: usize,
    quick_repair: bool,
    database: RwLock<Slot>,
    /// Wakes the writer to see whether the file still serves.
    look: Notify,
    /// How often it has looked.
    looked: watch::Sender<u64>,
    /// How many reads are on threads of their own at a time.
    readers: Arc<Semaphore>,
    jobs: mpsc::Sender<Box<dyn Job>>,
    living: Shared,
    stop: Notify,
    gone: watch::Sender<bool>,
    views: Mutex<Vec<Weak<View>>>,
    ids: AtomicU64,
    commits: AtomicU64,
    writes: AtomicU64,
    /// How often the file was opened again after a failure.
    reopened: AtomicU64,
}

impl Engine {
    /// Opens the file and starts its writer. Blocks.
    fn start(path: PathBuf, config: &Config) -> Result<Arc<Self>> {
        let (database, stored) = error::caught(&path, || {
            let database = file::open(&path, config.cache_size, Opening::First { verify: config.verify })?;
            let stored = format::load(&database).map_err(|refused| not_ours(&path, refused))?;
            Ok((database, stored))
        })?;
        let file = Identity::of_open(&path)?;
        let time = Time::new(config.clock.clone(), stored.seen);
        let last = stored.leases.iter().map(|(lease, _)| *lease).max().unwrap_or(0).max(stored.counter);
        let state = State::new(stored, &time);
        let (jobs, queue) = mpsc::channel(QUEUE);
        let readers = 2 * std::thread::available_parallelism().map_or(2, |cores| cores.get()).max(2);
        let engine = Arc::new(Self {
            time,
            cache_size: config.cache_size,
            quick_repair: config.quick_repair,
            database: RwLock::new(Ok(database)),
            look: Notify::new(),
            looked: watch::Sender::new(0),
            readers: Arc::new(Semaphore::new(readers)),
            jobs,
            living: state.shared(),
            stop: Notify::new(),
            gone: watch::Sender::new(false),
            views: Mutex::default(),
            ids: AtomicU64::new(last),
            commits: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            reopened: AtomicU64::new(0),
            file,
            path,
        });
        let writer =
            Writer { engine: engine.clone(), jobs: queue, state, doubt: None, pause: None, full: false };
        let no_thread = |e| {
            Error::new(ErrorKind::Other, "no thread for the writer; raise the limit of threads").with_cause(e)
        };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(no_thread)?;
        let thread = std::thread::Builder::new().name("kv-redb".into());
        thread.spawn(move || runtime.block_on(writer.run())).map_err(no_thread)?;
        Ok(engine)
    }

    /// Refuses to go on when the file is no longer at its path: what is written then is gone with the last store of it.
    pub(crate) fn check_place(&self) -> Result<()> {
        self.file.check(&self.path)
    }

    /// Has the writer do this in its next batch, and waits until that is committed. A job that still waits when the
    /// deadline passes, or when this is dropped, is never done.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        deadline: Deadline,
        size: usize,
        work: impl FnOnce(&mut Batch<'_>) -> Done<T> + Send + 'static,
    ) -> Result<T> {
        let (job, ticket, answer) = job::job(size, work);
        match deadline.limit(self.jobs.send(job)).await {
            Some(Ok(())) => {}
            Some(Err(_)) => return Err(error::closed()),
            None => return Err(error::not_begun(deadline)),
        }
        match deadline.limit(answer).await {
            Some(Ok(answer)) => answer,
            Some(Err(_)) if ticket.leave() => Err(error::closed()),
            None if ticket.leave() => Err(error::not_begun(deadline)),
            Some(Err(_)) | None => Err(error::committing(deadline)),
        }
    }

    /// Has the writer do this, without waiting for it: for who is dropped, perhaps where no runtime is left. `false` when
    /// the queue is full or the file is closed.
    pub(crate) fn order(&self, work: impl FnOnce(&mut Batch<'_>) -> Done<bool> + Send + 'static) -> bool {
        self.jobs.try_send(job::order(work)).is_ok()
    }

    /// Renews a lease, in memory alone; the moment from which its TTL counts now.
    pub(crate) fn renew_lease(&self, lease: u64) -> Result<Instant> {
        let mut living = self.living.lock();
        // Read under the lock: what the writer found to be over before is over at this moment too.
        let now = self.time.now();
        let over = || Error::new(ErrorKind::LeaseLost, "it was revoked, or its TTL passed");
        living.renew_lease(lease, now).then(|| self.time.instant(now)).ok_or_else(over)
    }

    /// As [`renew_lease`](Self::renew_lease), for the lock that this acquisition holds.
    pub(crate) fn renew_lock(&self, name: &Arc<str>, id: u64) -> Result<Instant> {
        let mut living = self.living.lock();
        let now = self.time.now();
        let over = || Error::new(ErrorKind::LockLost, "it was released, or its TTL passed");
        living.renew_lock(name, id, now).then(|| self.time.instant(now)).ok_or_else(over)
    }

    /// A number that no other acquisition or lease has.
    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn stats(&self) -> crate::Stats {
        crate::Stats {
            commits: self.commits.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
            reopened: self.reopened.load(Ordering::Relaxed),
        }
    }

    fn database(&self) -> RwLockReadGuard<'_, Slot> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn database_mut(&self) -> RwLockWriteGuard<'_, Slot> {
        self.database.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, events: &[Event]) {
        let views: Vec<_> = {
            let views = self.views.lock();
            views.iter().filter_map(Weak::upgrade).collect()
        };
        for event in events {
            for view in &views {
                view.tell(event);
            }
        }
    }
}

fn not_ours(path: &Path, refused: Refused) -> Error {
    let file = path.display();
    let why = match refused {
        Refused::Failed(e) => return error::failed(path, &e),
        Refused::Damaged(why) => return error::damaged(path, &why),
        Refused::Foreign(tables) => format!(
            "{file} is a redb file of another program (its tables: {tables}), and was left as it is; give another path"
        ),
        Refused::Format(found) => format!(
            "{file} is of format {found}, and this version of kv-redb reads format {}; open it with a newer version",
            format::VERSION
        ),
    };
    Error::new(ErrorKind::Corrupt, why)
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("path", &self.path)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
