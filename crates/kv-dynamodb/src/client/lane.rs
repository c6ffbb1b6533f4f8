//! The lanes in which requests wait for their places.

use kv_core::backend::Mutex;
use std::{pin::pin, time::Duration};
use tokio::{
    sync::{AcquireError, Semaphore, SemaphorePermit},
    time::{Instant, sleep_until},
};

/// The most requests of each lane that are under way at once in one runtime; each has a connection
/// of its own.
const MAX_CALLS: usize = 64;
const MAX_KEEP_ALIVES: usize = 16;
const MAX_LEASE_KEYS: usize = 32;
/// A lane in which for this time no request has come or gone stands still: its requests have no
/// answer, or nobody polls them.
const STILL: Duration = Duration::from_millis(250);

/// The queues in which requests wait for their connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Requests of calls.
    Calls,
    /// Requests that renew a lock or lease, or give it back: they never wait behind calls.
    KeepAlive,
    /// Requests for the keys of large leases, behind which no lock waits.
    LeaseKeys,
}

/// The lanes of one runtime: requests of another one that stands still would keep their places.
pub(super) struct Lanes {
    calls: Places,
    keep_alives: Places,
    lease_keys: Places,
}

impl Lanes {
    pub(super) fn new() -> Self {
        Self {
            calls: Places::new(MAX_CALLS),
            keep_alives: Places::new(MAX_KEEP_ALIVES),
            lease_keys: Places::new(MAX_LEASE_KEYS),
        }
    }

    pub(super) fn of(&self, lane: Lane) -> &Places {
        match lane {
            Lane::Calls => &self.calls,
            Lane::KeepAlive => &self.keep_alives,
            Lane::LeaseKeys => &self.lease_keys,
        }
    }

    /// Refuses all requests that still wait.
    pub(super) fn close(&self) {
        [&self.calls, &self.keep_alives, &self.lease_keys].into_iter().for_each(|lane| lane.free.close());
    }
}

/// The places of one lane, which are given to whoever waits longest. Where the lane stands still,
/// whoever still asks gets one beyond them: a program that works on one answer polls none of the
/// requests that it has under way or in line, and may depend on another one.
pub(super) struct Places {
    free: Semaphore,
    state: Mutex<State>,
}

struct State {
    /// The time at which a request came or went last.
    moved: Instant,
    /// The number of free places beyond the lane's own, as long as those are all taken.
    spare: usize,
}

/// One place, until it is dropped.
pub(super) struct Place<'a> {
    places: &'a Places,
    /// Holds a place of the lane's own.
    own: Option<SemaphorePermit<'a>>,
}

impl Places {
    fn new(most: usize) -> Self {
        Self { free: Semaphore::new(most), state: Mutex::new(State { moved: Instant::now(), spare: 0 }) }
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// The lane is closed.
    pub(super) async fn wait(&self) -> Result<Place<'_>, AcquireError> {
        if let Ok(own) = self.free.try_acquire() {
            return Ok(self.own(own));
        }
        let mut next = pin!(self.free.acquire());
        loop {
            let still = match self.beyond() {
                Ok(place) => return Ok(place),
                Err(still) => still,
            };
            tokio::select! {
                biased;
                own = &mut next => return Ok(self.own(own?)),
                () = sleep_until(still) => {}
            }
        }
    }

    fn own<'a>(&'a self, own: SemaphorePermit<'a>) -> Place<'a> {
        self.state.lock().moved = Instant::now();
        Place { places: self, own: Some(own) }
    }

    /// Returns a place beyond the lane's own, all of which are taken: a spare one, or a new one
    /// where the lane stands still. Else it returns when the lane will.
    fn beyond(&self) -> Result<Place<'_>, Instant> {
        let mut state = self.state.lock();
        let (now, still) = (Instant::now(), state.moved + STILL);
        if state.spare == 0 && now < still {
            return Err(still);
        }
        (state.moved, state.spare) = (now, state.spare.saturating_sub(1));
        Ok(Place { places: self, own: None })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let (is_beyond, mut state) = (self.own.is_none(), self.places.state.lock());
        state.moved = Instant::now();
        match self.places.free.available_permits() {
            0 if is_beyond => state.spare += 1,
            0 => {}
            _ => state.spare = 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt, future::join_all};

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_gets_a_place_where_nobody_polls_those_who_have_them() {
        let lane = Places::new(2);
        let began = Instant::now();
        let held = join_all([lane.wait(), lane.wait()]).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        let mut in_line: Vec<_> = (0..5).map(|_| Box::pin(lane.wait())).collect();
        assert!(in_line.iter_mut().all(|waits| waits.now_or_never().is_none()));
        drop(lane.wait().await);
        assert!(began.elapsed() >= STILL);
        // It is spare as long as the lane is full.
        let began = Instant::now();
        drop(lane.wait().await);
        assert_eq!(began.elapsed(), Duration::ZERO);
        drop(in_line);
        drop(held);
        let state = lane.state.lock();
        assert_eq!((lane.free.available_permits(), state.spare), (2, 0));
    }
}
