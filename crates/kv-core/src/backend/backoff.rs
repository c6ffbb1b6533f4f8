//! Pauses between attempts.

use super::unique;
use std::time::Duration;

/// The pauses between attempts at one thing, with exponential backoff and full jitter.
///
/// Each pause is chosen at random between nothing and a ceiling that doubles with every pause, so
/// that many clients that lost one server do not come back together. A client that reconnects
/// pauses before the first attempt as well, since all that were connected notice the loss at once,
/// and calls [`reset`](Self::reset) once it succeeded.
///
/// ```
/// use kv_core::backend::Backoff;
/// use std::time::Duration;
///
/// let (min, max) = (Duration::from_millis(20), Duration::from_secs(1));
/// let mut backoff = Backoff::new(min, max);
/// assert!(backoff.delay() <= min);
/// assert!(backoff.delay() <= 2 * min);
/// for _ in 0..100 {
///     assert!(backoff.delay() <= max);
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    ceiling: Duration,
}

impl Backoff {
    /// Makes a backoff whose first pause lasts `min` at the longest, and whose later ones last up
    /// to `max`. Where `max` is the shorter one, it counts for all.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        let min = min.min(max);
        Self { min, max, ceiling: min }
    }

    /// Returns how long the next pause lasts at the longest.
    #[must_use]
    pub fn ceiling(&self) -> Duration {
        self.ceiling
    }

    /// Returns how long to pause now, and doubles the ceiling of the next pause.
    pub fn delay(&mut self) -> Duration {
        self.delay_within(Duration::MAX)
    }

    /// Does the same as [`delay`](Self::delay), with a pause that lasts `limit` at the longest. It
    /// is as random as any other: clients that have little time left do not all come back at one
    /// moment.
    pub fn delay_within(&mut self, limit: Duration) -> Duration {
        let ceiling = self.ceiling.min(limit);
        self.ceiling = self.ceiling.saturating_mul(2).min(self.max);
        random_below(ceiling)
    }

    /// Sleeps for [`delay`](Self::delay). Cancel safe: the ceiling has doubled then, and nothing
    /// else is done.
    pub async fn pause(&mut self) {
        tokio::time::sleep(self.delay()).await;
    }

    /// Sets the ceiling back to the first one, after a success.
    pub fn reset(&mut self) {
        self.ceiling = self.min;
    }
}

impl Default for Backoff {
    /// Makes a backoff for reconnects: from 50 ms to two seconds.
    fn default() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(2))
    }
}

/// Returns a random time below the ceiling; a ceiling above 584 years counts as 584 years.
fn random_below(ceiling: Duration) -> Duration {
    let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(((u128::from(nanos) * u128::from(unique())) >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::Backoff;
    use std::time::Duration;

    fn assert_spread(bound: Duration, delay: impl Fn() -> Duration) {
        let delays: Vec<_> = (0..2000).map(|_| delay()).collect();
        for eighth in 0..8 {
            let (from, to) = (bound * eighth / 8, bound * (eighth + 1) / 8);
            let among = delays.iter().filter(|d| (from..to).contains(d)).count();
            assert!((150..350).contains(&among), "{among} of 2000 between {from:?} and {to:?}");
        }
    }

    #[test]
    fn pauses_spread_over_the_whole_of_their_ceiling() {
        let ceiling = Duration::from_millis(64);
        assert_spread(ceiling, || Backoff::new(ceiling, ceiling).delay());
    }

    #[test]
    fn pauses_spread_over_the_whole_of_what_is_left() {
        let left = Duration::from_millis(3);
        assert_spread(left, || Backoff::default().delay_within(left));
    }

    #[test]
    fn a_ceiling_doubles_to_the_greatest_and_begins_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(35));
        let ceilings: Vec<_> = (0..4)
            .map(|_| {
                let ceiling = backoff.ceiling().as_millis();
                backoff.delay();
                ceiling
            })
            .collect();
        assert_eq!(ceilings, [10, 20, 35, 35]);
        backoff.reset();
        assert_eq!(backoff.ceiling().as_millis(), 10);
    }

    #[test]
    fn a_limit_bounds_the_pause_and_not_the_later_ones() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
        assert_eq!(backoff.delay_within(Duration::ZERO), Duration::ZERO);
        assert_eq!(backoff.ceiling(), Duration::from_millis(20));
    }

    #[test]
    fn the_greatest_ceilings_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::MAX, Duration::MAX);
        assert!(backoff.delay() < Duration::MAX);
        assert_eq!(backoff.ceiling(), Duration::MAX);
        assert_eq!(Backoff::new(Duration::MAX, Duration::from_millis(1)).ceiling().as_millis(), 1);
    }
}
