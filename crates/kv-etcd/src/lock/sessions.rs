//! The sessions of locks: the leases that contenders hang on, and what is remembered of each.

use super::delete_watcher::DeleteWatcher;
use kv_core::{
    Error, ErrorKind, Result,
    backend::{self, Clock, Home, LetGo, Mutex, Tasks},
};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tokio::{
    runtime::{self, Handle},
    task::JoinSet,
};

/// A lease for locks, and what the contenders under it share.
#[derive(Clone, Debug)]
pub(crate) struct LockSession {
    pub(crate) lease: i64,
    /// Watches the names that contenders of the session wait for.
    pub(crate) watcher: Arc<DeleteWatcher>,
    pub(crate) floor: Arc<Floor>,
    pub(crate) let_go: LetGo,
}

/// The floor of a session. The acquisitions of one session are numbered. A key of the session
/// holds the greatest number that was given up while its request was under way; a request to enter
/// a queue is done only if its number is greater. So one key is enough for any number of requests
/// that may still arrive, and the key ends with the session.
#[derive(Debug, Default)]
pub(crate) struct Floor {
    last: AtomicU64,
    /// Tells whether the key exists: the first acquisition that enters a queue makes it.
    made: AtomicBool,
    /// Tells whether the key was seen to hold what this session never wrote.
    damaged: AtomicBool,
}

impl Floor {
    /// Returns the number of the next acquisition.
    pub(crate) fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Tells whether the key exists, as far as it is known.
    pub(crate) fn is_made(&self) -> bool {
        self.made.load(Ordering::Relaxed)
    }

    /// Notes whether the key exists.
    pub(crate) fn set_made(&self, made: bool) {
        self.made.store(made, Ordering::Relaxed);
    }

    /// Tells whether this session wrote what was found at the key: the number of an acquisition
    /// that there was. Notes it otherwise, since what another program wrote there may keep out all
    /// that come.
    pub(crate) fn check(&self, found: &[u8]) -> bool {
        let last = Self::spelt(self.last.load(Ordering::Relaxed));
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_ours = found.len() == last.len() && found.iter().all(is_digit) && found <= last.as_bytes();
        if !is_ours {
            self.damaged.store(true, Ordering::Relaxed);
        }
        is_ours
    }

    /// Tells whether the key was seen to hold what this session never wrote.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Spells a number as the key holds it: the order of the bytes is that of the numbers.
    pub(crate) fn spelt(number: u64) -> String {
        format!("{number:016x}")
    }
}

pub(crate) type Use = backend::Use<LockSession>;
type Here = backend::Sessions<LockSession>;
type ByRuntime = HashMap<runtime::Id, (Home, Arc<Here>)>;

/// The sessions of each runtime that takes locks: a runtime renews and watches its own, since
/// another one may end or stand still.
#[derive(Debug)]
pub(crate) struct Sessions {
    clock: Clock,
    /// Holds the sessions of each runtime; `None` once they have ended.
    all: Mutex<Option<ByRuntime>>,
}

impl Sessions {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, all: Mutex::new(Some(HashMap::new())) }
    }

    /// Returns the sessions of this runtime.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) once they have ended.
    pub(super) fn here(&self, tasks: &Tasks) -> Result<Arc<Here>> {
        let mut all = self.all.lock();
        let all = all.as_mut().ok_or_else(|| Error::new(ErrorKind::Closed, "the store was closed"))?;
        let here = Handle::current().id();
        if !all.contains_key(&here) {
            for (_, (_, gone)) in all.extract_if(|_, (home, _)| home.is_gone()) {
                // Nobody renews these sessions, so that whoever still has one has lost it.
                tasks.spawn(async move {
                    // What hangs on a session ends by itself.
                    let _ = gone.end().await;
                    Ok(())
                });
            }
        }
        let new = || (Home::here(), Arc::new(Here::new(self.clock.clone())));
        Ok(all.entry(here).or_insert_with(new).1.clone())
    }

    /// Gives this session to no new users.
    pub(crate) fn forget(&self, used: &Use) {
        let all = self.all.lock();
        all.iter().flat_map(HashMap::values).for_each(|(_, sessions)| sessions.forget(used));
    }

    /// Ends all sessions, and gives none from then on.
    ///
    /// # Errors
    /// The first failure among the sessions on which something still hangs.
    pub(crate) async fn end(&self) -> Result<()> {
        let all = self.all.lock().take();
        // The sessions end side by side, since a runtime may stand still.
        let mut ends = JoinSet::new();
        for (_, sessions) in all.into_iter().flat_map(HashMap::into_values) {
            ends.spawn(async move { sessions.end().await });
        }
        let mut ended = Ok(());
        while let Some(end) = ends.join_next().await {
            let gone = |e| Err(Error::new(ErrorKind::Closed, "the runtime has ended").with_cause(e));
            ended = ended.and(end.unwrap_or_else(gone));
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_holds_a_number_that_was_given() {
        let floor = Floor::default();
        for number in 1..=20 {
            assert_eq!(floor.next(), number);
            assert!(floor.check(Floor::spelt(number).as_bytes()) && floor.check(Floor::spelt(0).as_bytes()));
        }
        assert!(!floor.is_damaged());
        for junk in ["", "junk", "14", "+000000000000014", "000000000000000A", "0000000000000015"] {
            let floor = Floor { last: AtomicU64::new(20), ..Floor::default() };
            assert!(!floor.check(junk.as_bytes()) && floor.is_damaged(), "{junk:?}");
        }
    }

    #[tokio::test]
    async fn a_closed_store_gives_no_session() {
        let (sessions, tasks) = (Sessions::new(Clock::system()), Tasks::default());
        assert!(sessions.here(&tasks).is_ok());
        sessions.end().await.unwrap();
        assert_eq!(sessions.here(&tasks).map(drop).unwrap_err().kind(), ErrorKind::Closed);
    }
}
