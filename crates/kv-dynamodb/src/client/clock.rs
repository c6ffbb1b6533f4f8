//! Keeps the service's time, from the `Date` of its answers.
//!
//! A date has whole seconds, and tells the service's time at some moment between the request and
//! the answer. So one answer bounds the time from both sides, and many of them bound it closely.
//! An end is set by the latest time that it may be now, and is taken as passed by the earliest:
//! nothing ends early, whoever asks, and nothing depends on a client's own date.

use aws_smithy_async::time::TimeSource;
use kv_core::backend::{Clock, Instant, Mutex};
use std::{
    sync::{Arc, MutexGuard},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The drift of clocks: while two of them run, they differ by at most one part in so many.
const DRIFT: u64 = 100;
/// The uncertainty of one date, which has whole seconds.
const SECOND: Duration = Duration::from_secs(1);
const MILLI: u64 = 1_000_000;
/// The age at which bounds that no answer has renewed are too wide to tell an end by.
const STALE: Duration = Duration::from_secs(30);
/// The age at which they are too wide to make a version by.
const ROUGH: Duration = Duration::from_secs(60 * 60);

/// A moment of the service's time: milliseconds since 1970.
pub(crate) type Millis = u64;

/// The time at the service. Clones share one clock.
#[derive(Clone, Debug)]
pub(crate) struct ServiceTime {
    local: Clock,
    bounds: Arc<Mutex<Option<Bounds>>>,
}

/// Bounds of the service's time at one moment of this machine's clock, in nanoseconds since 1970,
/// so that the rounding at every answer does not add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    at: Instant,
    earliest: u64,
    latest: u64,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Bounds {
    /// Returns the bounds that an answer gives by its date, for a request that was sent at `sent`
    /// and answered at `answered`.
    fn of(date: Millis, sent: Instant, answered: Instant) -> Self {
        let earliest = date.saturating_mul(MILLI);
        Self { at: answered, earliest, latest: earliest.saturating_add(nanos(SECOND + answered.since(sent))) }
    }

    /// Returns the bounds at a later moment.
    fn later(self, now: Instant) -> Self {
        let passed = nanos(now.since(self.at));
        Self {
            at: now,
            earliest: self.earliest.saturating_add(passed - passed.div_ceil(DRIFT)),
            latest: self.latest.saturating_add(passed + passed.div_ceil(DRIFT)),
        }
    }

    /// Returns the earliest time that it may have been at this moment, before or after these bounds.
    fn earliest_at(self, at: Instant) -> u64 {
        if self.at <= at {
            return self.later(at).earliest;
        }
        let passed = nanos(self.at.since(at));
        self.earliest.saturating_sub(passed.saturating_add(passed.div_ceil(DRIFT)))
    }

    fn and(self, other: Self) -> Self {
        let earliest = self.earliest.max(other.earliest);
        let latest = self.latest.min(other.latest);
        if earliest <= latest {
            return Self { earliest, latest, ..other };
        }
        // One of the clocks was set, or the date of this answer is odd. Neither of them alone ends
        // anything; the next answer decides.
        Self { earliest: self.earliest.min(other.earliest), latest: self.latest.max(other.latest), ..other }
    }
}

impl ServiceTime {
    /// Makes a clock whose time is not known yet.
    pub(crate) fn new(local: Clock) -> Self {
        Self { local, bounds: Arc::default() }
    }

    /// Returns this machine's own clock, which counts no date.
    pub(crate) fn local(&self) -> &Clock {
        &self.local
    }

    fn bounds(&self) -> MutexGuard<'_, Option<Bounds>> {
        self.bounds.lock()
    }

    /// Notes that an answer had this date; its request was sent at `sent`.
    pub(crate) fn heard(&self, date: Millis, sent: Instant) {
        let mut bounds = self.bounds();
        let heard = Bounds::of(date, sent, self.local.now());
        *bounds = Some(bounds.map_or(heard, |known| known.later(heard.at).and(heard)));
    }

    /// Tells whether no answer has told the time for too long, or ever.
    pub(crate) fn is_stale(&self) -> bool {
        self.is_older_than(STALE)
    }

    /// Tells whether no answer has told the time for so long that versions would be far ahead.
    pub(crate) fn is_rough(&self) -> bool {
        self.is_older_than(ROUGH)
    }

    fn is_older_than(&self, age: Duration) -> bool {
        self.bounds().is_none_or(|known| self.local.now().since(known.at) > age)
    }

    /// Tells whether an answer has told the time.
    pub(crate) fn is_known(&self) -> bool {
        self.bounds().is_some()
    }

    fn now(&self) -> Option<Bounds> {
        self.bounds().map(|known| known.later(self.local.now()))
    }

    /// Returns the earliest time that it may be now. While the time is not known, it is 0, so that
    /// nothing has ended for certain.
    pub(crate) fn earliest(&self) -> Millis {
        self.now().map_or(0, |now| now.earliest / MILLI)
    }

    /// Returns the earliest time that it may have been at this moment of this machine's clock. What
    /// was heard since counts too.
    pub(crate) fn earliest_at(&self, at: Instant) -> Millis {
        self.bounds().map_or(0, |known| known.earliest_at(at) / MILLI)
    }

    /// Returns the latest time that it may be now.
    pub(crate) fn latest(&self) -> Millis {
        self.now().map_or(0, |now| now.latest.div_ceil(MILLI))
    }

    /// Returns the end of a life that begins now and lasts so long.
    pub(crate) fn end_of(&self, life: Duration) -> Millis {
        self.latest().saturating_add(Millis::try_from(life.as_millis()).unwrap_or(Millis::MAX))
    }

    /// Tells whether the end has passed for certain.
    pub(crate) fn is_over(&self, end: Millis) -> bool {
        end <= self.earliest()
    }

    /// Returns the time until the end will have passed for certain, unless an answer tells more by
    /// then.
    pub(crate) fn until(&self, end: Millis) -> Duration {
        let left = end.saturating_sub(self.earliest());
        Duration::from_millis(left.saturating_add(left.div_ceil(DRIFT - 1)))
    }
}

/// Dates the SDK's signatures, so that the service accepts those of a machine whose own clock is
/// wrong.
impl TimeSource for ServiceTime {
    fn now(&self) -> SystemTime {
        let known = ServiceTime::now(self);
        known.map_or_else(SystemTime::now, |now| {
            UNIX_EPOCH + Duration::from_nanos(now.earliest + (now.latest - now.earliest) / 2)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn nothing_is_over_before_the_time_is_known() {
        let time = ServiceTime::new(Clock::manual());
        assert!(!time.is_known() && time.is_stale());
        assert!(!time.is_over(1));
    }

    #[test]
    fn the_truth_lies_between_the_bounds_and_answers_narrow_them() {
        let local = Clock::manual();
        let time = ServiceTime::new(local.clone());
        let mut truth = 1_000_000_731_u64;
        let mut width = u64::MAX;
        for n in 0..200 {
            let sent = local.now();
            let there = n % 7;
            local.advance(MS * u32::try_from(there).unwrap());
            truth += there;
            let date = truth / 1000 * 1000;
            local.advance(MS * 5);
            truth += 5;
            time.heard(date, sent);
            assert!(time.earliest() <= truth && truth <= time.latest(), "{time:?}, in truth {truth}");
            assert!(
                time.earliest_at(sent) <= truth - 5 - there
                    && time.earliest_at(local.now()) == time.earliest()
            );
            width = width.min(time.latest() - time.earliest());
            local.advance(MS * 37);
            truth += 37;
        }
        assert!(width < 100, "{width} ms are left open");
    }

    #[test]
    fn a_clock_within_one_percent_never_leaves_the_bounds() {
        for speed in [99, 101] {
            let local = Clock::manual();
            let time = ServiceTime::new(local.clone());
            time.heard(50_000, local.now());
            local.advance(MS * 20_000);
            let truth = 50_500 + 200 * speed;
            assert!(time.earliest() <= truth && truth <= time.latest());
        }
    }

    #[test]
    fn a_life_is_over_only_when_it_is_for_every_client() {
        let (a, b) = (Clock::manual(), Clock::manual());
        let (early, late) = (ServiceTime::new(a.clone()), ServiceTime::new(b.clone()));
        // One client hears the first moment of a second, the other the last: in truth it is 7,999.
        early.heard(7_000, a.now());
        a.advance(MS * 999);
        late.heard(7_000, b.now());
        let end = early.end_of(MS * 1_000);
        assert!(end >= 8_999);
        b.advance(MS * 900);
        assert!(!late.is_over(end));
        b.advance(MS * 3_000);
        assert!(late.is_over(end));
    }

    #[test]
    fn a_service_whose_clock_is_set_is_followed() {
        let local = Clock::manual();
        let time = ServiceTime::new(local.clone());
        time.heard(9_000_000, local.now());
        local.advance(MS * 1_000);
        time.heard(1_000_000, local.now());
        time.heard(1_000_000, local.now());
        assert!(time.latest() < 1_002_000);
        time.heard(5_000_000, local.now());
        time.heard(5_000_000, local.now());
        assert!(time.earliest() >= 5_000_000);
    }

    #[test]
    fn one_odd_date_ends_nothing() {
        let local = Clock::manual();
        let time = ServiceTime::new(local.clone());
        time.heard(1_000_000, local.now());
        for odd in [9_000_000, 7_000] {
            time.heard(odd, local.now());
            assert!(!time.is_over(1_000_500));
            time.heard(1_000_000, local.now());
            assert!(!time.is_over(1_000_500) && time.latest() < 1_002_000);
        }
    }

    #[test]
    fn bounds_that_no_answer_renews_are_stale() {
        let local = Clock::manual();
        let time = ServiceTime::new(local.clone());
        time.heard(1_000, local.now());
        assert!(!time.is_stale());
        local.advance(STALE + MS);
        assert!(time.is_stale());
        assert!(time.until(200_000) >= Duration::from_millis(200_000 - 1_000 - 30_001));
    }
}
