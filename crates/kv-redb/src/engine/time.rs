//! Time on one scale: milliseconds of the wall clock as it was when the file was opened, counted
//! on from there by a clock that does not jump.

use kv_core::backend::{Clock, Instant};
use std::time::{Duration, SystemTime};

/// The time that is added to a key's TTL, so that its commit takes nothing from the TTL.
pub(crate) const SLACK: Duration = Duration::from_millis(100);

#[derive(Clone, Debug)]
pub(crate) struct Time {
    clock: Clock,
    start: Instant,
    wall: u64,
    /// The same moment in microseconds.
    micros: u64,
}

impl Time {
    /// Begins the scale now, but not before `seen`, the last time that the file knows, if the wall
    /// clock went back.
    pub(crate) fn new(clock: Clock, seen: u64) -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let micros = u64::try_from(wall.as_micros()).unwrap_or(u64::MAX).max(seen.saturating_mul(1_000));
        Self { start: clock.now(), wall: millis(wall).max(seen), micros, clock }
    }

    /// Returns the microseconds of the wall clock at which the scale begins.
    pub(crate) fn began(&self) -> u64 {
        self.micros
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn now(&self) -> u64 {
        self.wall.saturating_add(millis(self.clock.now().since(self.start)))
    }

    /// Returns the first moment at which [`now`](Self::now) is not before `at`.
    pub(crate) fn instant(&self, at: u64) -> Instant {
        self.start + Duration::from_millis(at.saturating_sub(self.wall))
    }
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
