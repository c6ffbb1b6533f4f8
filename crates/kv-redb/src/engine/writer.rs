//! The one thread that writes: it takes all jobs that wait, does them in one transaction, commits
//! it, tells the watches, and answers the callers.

use super::{
    batch::{Batch, Trace},
    common::Engine,
    event::Event,
    fixed::Fixed,
    job::{Job, Queued},
    places,
    state::{Replaced, State},
};
use crate::error;
use kv_core::backend::Instant;
use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::sync::mpsc;

/// The most jobs of one batch.
const JOBS: usize = 1_024;
/// A batch takes no further job when it writes this many bytes already.
const BYTES: usize = 16 << 20;
/// The time that the writer waits after a failure before it tries again without a caller's job.
const PAUSE: Duration = Duration::from_secs(1);

type Jobs = VecDeque<Box<dyn Job>>;

pub(crate) struct Writer {
    pub(crate) engine: Arc<Engine>,
    pub(crate) jobs: mpsc::UnboundedReceiver<Queued>,
    pub(crate) state: State,
    /// Holds a batch of which it is not known whether it was committed.
    pub(crate) doubt: Option<Doubt>,
    /// Holds the moment before which nothing is tried that no caller asked for.
    pub(crate) pause: Option<Instant>,
    /// Holds states that reads saw before, while some read looks at them: redb lets go of one under
    /// its locks, which is for no thread that others need.
    pub(crate) retired: Vec<Arc<Fixed>>,
    /// Tells whether the last batch found no space. Then jobs that make room go first, and every
    /// other job is a batch of its own.
    pub(crate) full: bool,
    /// The last field: who waits for a job or a lock learns of the end before the file is free.
    pub(crate) _end: End,
}

/// Frees the file when its writer ends, by a panic as well: nobody waits for a writer that is gone.
pub(crate) struct End(pub(crate) Arc<Engine>);

impl Drop for End {
    fn drop(&mut self) {
        let engine = &self.0;
        let why = if std::thread::panicking() { error::panicked(&engine.path) } else { error::closed() };
        // redb may panic on what it writes when it ends a file.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            drop(engine.fix(None));
            *engine.database_mut() = Err(why);
        }));
        // Guards and leases may be left, as after a panic. Nobody renews them any more.
        engine.living.lock().end_all(engine.time.now());
        engine.kept.release();
        places::gone(&engine.path);
        engine.gone.send_replace(true);
    }
}

pub(crate) struct Doubt {
    /// The counter of the batch, if its commit may have begun.
    pub(crate) stamp: Option<u64>,
    pub(crate) events: Vec<Event>,
    pub(crate) untold: bool,
    pub(crate) replaced: Vec<Replaced>,
}

impl Writer {
    /// Runs until the engine is stopped. Jobs that are queued then are done first.
    pub(crate) async fn run(mut self) {
        let engine = self.engine.clone();
        let mut waiting = Vec::with_capacity(JOBS);
        loop {
            let due = self.state.due().map(|at| engine.time.instant(at));
            let due = due.map(|at| self.pause.map_or(at, |pause| at.max(pause)));
            let end = async {
                match due {
                    Some(at) => engine.time.clock().sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = engine.stop.notified() => break,
                () = engine.look.notified() => self.look(),
                _ = self.jobs.recv_many(&mut waiting, JOBS) => {}
                () = end => {}
            }
            if waiting.is_empty() {
                self.clear();
                // Between two yields tokio hands out only a limited number of messages: without a
                // yield the queue would seem empty.
                tokio::task::yield_now().await;
            } else {
                self.turn(waiting.drain(..).map(|queued: Queued| queued.job).collect());
            }
        }
        self.jobs.close();
        while let Ok(job) = self.jobs.try_recv() {
            waiting.push(job);
        }
        self.turn(waiting.into_iter().map(|queued| queued.job).collect());
    }

    /// Does some of what is due. The rest is left for the next turns, so that jobs never wait for
    /// more than one batch.
    fn clear(&mut self) {
        let due = self.state.due().is_some_and(|at| at <= self.engine.time.now());
        if due && !self.is_pausing() && self.ready().is_ok() {
            self.batch(Vec::new());
        }
    }

    /// Does these jobs, in as many batches as their size asks for. Until its batch begins a job can
    /// be taken back.
    fn turn(&mut self, mut jobs: Jobs) {
        if self.full {
            jobs.make_contiguous().sort_by_key(|job| job.size() > 0);
        }
        while !jobs.is_empty() {
            if let Err(why) = self.ready() {
                jobs.into_iter().for_each(|job| job.answer(Err(why.clone())));
                return;
            }
            let mut batch: Vec<Box<dyn Job>> = Vec::new();
            let mut bytes = 0;
            let alone = |job: &dyn Job| self.full && job.size() > 0;
            while bytes < BYTES
                && !jobs.front().is_some_and(|job| alone(&**job) && !batch.is_empty())
                && let Some(job) = jobs.pop_front()
            {
                if job.take_up() {
                    bytes += job.size();
                    batch.push(job);
                }
            }
            if !batch.is_empty() {
                self.batch(batch);
            }
        }
    }

    /// Sees whether the file can be written, and opens it again where it failed before.
    fn ready(&mut self) -> kv_core::Result<()> {
        let ready = self.engine.check_place().and_then(|()| {
            if self.engine.database().is_err() {
                self.mend();
            }
            self.engine.database().as_ref().map(|_| ()).map_err(Clone::clone)
        });
        if ready.is_err() {
            self.pause = Some(self.engine.time.clock().now() + PAUSE);
        }
        ready
    }

    fn is_pausing(&self) -> bool {
        self.pause.is_some_and(|pause| self.engine.time.clock().now() < pause)
    }

    fn batch(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        self.retire(None);
        let grows = jobs.iter().any(|job| job.size() > 0);
        let mut trace = Trace::default();
        let tried = catch_unwind(AssertUnwindSafe(|| self.attempt(&mut jobs, &mut trace)));
        let tried =
            tried.unwrap_or_else(|_| Err(redb::Error::Corrupted("redb panicked on what it read".into())));
        let Trace { events, untold, replaced, owed, stamp, writes, .. } = trace;
        let Err(failed) = tried else {
            self.pause = None;
            self.full &= !grows;
            if let Some(stamp) = stamp {
                self.state.committed = stamp;
                self.begin(&replaced);
                self.engine.commits.fetch_add(1, Ordering::Relaxed);
                self.engine.writes.fetch_add(writes, Ordering::Relaxed);
                self.engine.tell(&events, untold);
            }
            jobs.into_iter().for_each(|job| job.answer(Ok(())));
            for (granted, token) in owed {
                // A contender that is gone meanwhile gives the lock back itself.
                let _ = granted.send(Ok(token));
            }
            return;
        };
        self.pause = Some(self.engine.time.clock().now() + PAUSE);
        self.full = error::is_full(&failed);
        self.doubt = Some(Doubt { stamp, events, untold, replaced });
        let may_have_happened = self.mend();
        let error = error::write_failed(&self.engine.path, &failed, may_have_happened);
        jobs.into_iter().for_each(|job| job.answer(Err(error.clone())));
        for (granted, _) in owed {
            let _ = granted.send(Err(error.clone()));
        }
    }

    fn attempt(&mut self, jobs: &mut [Box<dyn Job>], trace: &mut Trace) -> Result<(), redb::Error> {
        let database = self.engine.database();
        let Ok(database) = database.as_ref() else { return Err(redb::Error::DatabaseClosed) };
        let mut write = database.begin_write()?;
        write.set_quick_repair(self.engine.quick_repair);
        {
            let mut batch =
                Batch::open(&write, &mut self.state, trace, self.engine.is_watched(), &self.engine.time)?;
            batch.sweep()?;
            for job in jobs {
                job.run(&mut batch)?;
            }
            batch.finish()?;
        }
        if trace.stamp.is_some() { Ok(write.commit()?) } else { Ok(write.abort()?) }
    }

    /// Counts a commit, lets the lives that it granted begin, and has reads see it.
    pub(super) fn begin(&mut self, replaced: &[Replaced]) {
        let fixed = self.fixed(1);
        let before = {
            let mut living = self.state.living();
            living.begin(replaced, self.engine.time.now());
            // Under the lock: a read that asks which commit is the last one finds this one.
            self.engine.fix(fixed)
        };
        self.retire(before);
    }

    /// Makes the state that reads see when so many commits more are counted. Without one they look
    /// for it themselves.
    pub(super) fn fixed(&self, more: u64) -> Option<Arc<Fixed>> {
        let commits = self.state.living().past.commits() + more;
        let database = self.engine.database();
        let fixed = || Fixed::new(database.as_ref().ok()?, commits).ok().map(Arc::new);
        catch_unwind(AssertUnwindSafe(fixed)).ok().flatten()
    }

    /// Lets go of what no read sees any more.
    pub(super) fn retire(&mut self, before: Option<Arc<Fixed>>) {
        self.retired.extend(before);
        self.retired.retain(|fixed| Arc::strong_count(fixed) > 1);
    }
}
