//! Chance that comes again with its seed.

use std::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

/// The step of the sequence: 2^64 divided by the golden ratio, and odd.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The dice of a chaos, with its switch and its counts; all clones of the layer share them.
pub(super) struct Dice {
    state: AtomicU64,
    is_calm: AtomicBool,
    pub(super) failed: AtomicU64,
    pub(super) lost_done: AtomicU64,
    pub(super) lost_undone: AtomicU64,
    pub(super) delayed: AtomicU64,
}

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        let count = AtomicU64::default;
        let (failed, lost_done, lost_undone, delayed) = (count(), count(), count(), count());
        let (state, is_calm) = (AtomicU64::new(seed), AtomicBool::new(false));
        Self { state, is_calm, failed, lost_done, lost_undone, delayed }
    }

    pub(super) fn set_calm(&self, is_calm: bool) {
        self.is_calm.store(is_calm, Ordering::Release);
    }

    /// Returns the next number of the sequence, of 53 bits, as a share: from 0 on, and below 1.
    pub(super) fn roll(&self) -> f64 {
        const SHARES: f64 = (1_u64 << 53) as f64;
        (mix(self.state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP)) >> 11) as f64 / SHARES
    }

    /// Tells whether that happens whose share of all calls is this. What never happens takes no
    /// number of the sequence, so that the others come as they would without it.
    pub(super) fn happens(&self, share: f64) -> bool {
        share > 0.0 && !self.is_calm.load(Ordering::Acquire) && self.roll() < share
    }
}

/// Mixes the bits of a number, as the generator SplitMix64 does.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl fmt::Debug for Dice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dice(at {:#018x})", self.state.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_that_of_the_seed() {
        let rolls = |seed| {
            let dice = Dice::new(seed);
            (0..8).map(|_| dice.roll().to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(rolls(1), rolls(1));
        assert_ne!(rolls(1), rolls(2));
    }

    #[test]
    fn shares_are_kept() {
        let dice = Dice::new(42);
        assert!((0..1000).all(|_| !dice.happens(0.0) && dice.happens(1.0)));
        let happened = (0..100_000).filter(|_| dice.happens(0.25)).count();
        assert!((24_000..26_000).contains(&happened), "{happened}");
        dice.set_calm(true);
        assert!(!dice.happens(1.0));
    }
}
