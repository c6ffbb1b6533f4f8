//! Pauses between tries.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// The pauses between tries of one who goes on until it succeeds: each is chosen at random between nothing and a bound
/// that doubles with every try (full jitter), so that many clients that lost one server do not come back together.
///
/// ```
/// use kv_core::backend::Backoff;
/// use std::time::Duration;
///
/// let (least, most) = (Duration::from_millis(20), Duration::from_secs(1));
/// let mut backoff = Backoff::new(least, most);
/// assert!(backoff.delay() <= least);
/// assert!(backoff.delay() <= 2 * least);
/// for _ in 0..100 {
///     assert!(backoff.delay() <= most);
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Backoff {
    least: Duration,
    most: Duration,
    bound: Duration,
}

impl Backoff {
    /// The first pause lasts `least` at the longest, the later ones up to `most`.
    #[must_use]
    pub fn new(least: Duration, most: Duration) -> Self {
        Self { least, most, bound: least }
    }

    /// How long to pause now; the next pause may be twice as long.
    pub fn delay(&mut self) -> Duration {
        let bound = self.bound.min(self.most);
        self.bound = (bound * 2).min(self.most);
        // Keys differ with every `RandomState`, and the hash spreads them evenly.
        let random = RandomState::new().hash_one(0_u8) >> 11;
        bound.mul_f64(random as f64 / (1_u64 << 53) as f64)
    }

    /// Sleeps for [`delay`](Self::delay). Cancel safe.
    pub async fn pause(&mut self) {
        tokio::time::sleep(self.delay()).await;
    }

    /// Begins anew, after a success.
    pub fn reset(&mut self) {
        self.bound = self.least;
    }
}

impl Default for Backoff {
    /// From 50 ms to two seconds.
    fn default() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_spread_over_the_whole_of_their_bound() {
        let bound = Duration::from_millis(64);
        let delays: Vec<_> = (0..2000).map(|_| Backoff::new(bound, bound).delay()).collect();
        for eighth in 0..8 {
            let (from, to) = (bound * eighth / 8, bound * (eighth + 1) / 8);
            let among = delays.iter().filter(|d| (from..to).contains(d)).count();
            assert!((150..350).contains(&among), "{among} of 2000 between {from:?} and {to:?}");
        }
    }

    #[test]
    fn a_bound_doubles_to_the_greatest_and_begins_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(35));
        let bounds: Vec<_> = (0..4)
            .map(|_| {
                let bound = backoff.bound.as_millis();
                backoff.delay();
                bound
            })
            .collect();
        assert_eq!(bounds, [10, 20, 35, 35]);
        backoff.reset();
        assert_eq!(backoff.bound.as_millis(), 10);
    }
}
