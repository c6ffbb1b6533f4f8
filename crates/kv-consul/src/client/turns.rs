//! Limits how many requests are under way at once at one agent.

use super::request::Purpose;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Limits how many calls of one process are under way at once at one agent. The count is of a
/// runtime, which is all of a process but in rare ones.
pub(crate) const CALLS: usize = 24;
/// Limits in the same way the requests that give locks and sessions back.
pub(crate) const RELEASES: usize = 16;
/// Limits in the same way the renewals of the sessions that locks and leases hang on.
const SESSIONS: usize = 8;
/// Limits in the same way all polls; `LOOKS` limits what is read as they begin. Two processes with
/// everything in use fit into what an agent takes by default.
const POLLS: usize = 40;
const LOOKS: usize = 8;

/// The limits of what may be under way from one runtime: a runtime that stands still must not hold
/// up others of the process.
pub(crate) struct Turns {
    calls: Turn,
    releases: Turn,
    sessions: Turn,
    polls: Semaphore,
    looks: Semaphore,
    /// Counts the polls that wait for their turn.
    waiting: AtomicUsize,
}

/// The turns of one kind of call.
pub(crate) struct Turn {
    most: usize,
    all: Arc<Semaphore>,
    /// Counts those that may be had by calls that their callers poll. A caller may poll something
    /// else meanwhile, for long: the others are for calls that are tasks of their own, so that
    /// there is always one that goes on.
    at_once: Arc<Semaphore>,
}

/// The turn of a call that needs no task, held as long as this lives.
pub(crate) struct AtOnce {
    _turn: OwnedSemaphorePermit,
    _at_once: OwnedSemaphorePermit,
}

impl Turn {
    fn new(most: usize) -> Self {
        Self { most, all: Arc::new(Semaphore::new(most)), at_once: Arc::new(Semaphore::new(most / 2)) }
    }

    /// Returns how many calls may be under way at once.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Returns the right to have a call under way that is no task of its own; `None` where the
    /// call has to be one, and to wait.
    pub(crate) fn at_once(&self) -> Option<AtOnce> {
        let at_once = self.at_once.clone().try_acquire_owned().ok()?;
        Some(AtOnce { _turn: self.all.clone().try_acquire_owned().ok()?, _at_once: at_once })
    }

    /// Waits for the right to have a call under way, which is a task of its own.
    pub(crate) async fn wait(&self) -> Option<SemaphorePermit<'_>> {
        self.all.acquire().await.ok()
    }
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self {
            calls: Turn::new(CALLS),
            releases: Turn::new(RELEASES),
            sessions: Turn::new(SESSIONS),
            polls: Semaphore::new(POLLS),
            looks: Semaphore::new(LOOKS),
            waiting: AtomicUsize::default(),
        }
    }

    /// Returns the turns of calls of this purpose; `None` for the requests of watches, which are
    /// counted where they are made.
    pub(crate) fn of(&self, purpose: Purpose) -> Option<&Turn> {
        match purpose {
            Purpose::WatchRead | Purpose::BlockingQuery => None,
            Purpose::Release => Some(&self.releases),
            Purpose::Session => Some(&self.sessions),
            Purpose::Read | Purpose::Stale | Purpose::Write | Purpose::Repeatable => Some(&self.calls),
        }
    }

    /// Waits for the right to have a poll under way, in turns.
    pub(crate) async fn poll(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(turn) = self.polls.try_acquire() {
            return Some(turn);
        }
        let _waiting = Waiting::new(&self.waiting);
        self.polls.acquire().await.ok()
    }

    /// Waits for the right to read what a poll begins with.
    pub(crate) async fn look(&self) -> Option<SemaphorePermit<'_>> {
        self.looks.acquire().await.ok()
    }

    /// Tells whether polls wait for others to end.
    pub(crate) fn is_crowded(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
