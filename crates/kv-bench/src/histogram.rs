//! Latencies, counted in buckets that are a sixty-fourth wide: whatever the number of calls, they
//! take the same memory.

use std::time::Duration;

/// The bits of a bucket's number below its power of two.
const FINE: u32 = 6;
const BUCKETS: usize = (64 << FINE) as usize;

/// The latencies of some calls.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    calls: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], calls: 0 }
    }
}

impl Histogram {
    /// Counts a call that took this time.
    pub(crate) fn note(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)] += 1;
        self.calls += 1;
    }

    /// Adds the calls of another one.
    pub(crate) fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.calls += other.calls;
    }

    /// Returns the number of calls.
    pub(crate) fn calls(&self) -> u64 {
        self.calls
    }

    /// Returns the time within which this part of the calls ended, in nanoseconds; `None` without
    /// calls.
    pub(crate) fn quantile(&self, part: f64) -> Option<f64> {
        let wanted = ((self.calls as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        let at = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(middle(at))
    }
}

/// Returns the number of the bucket of a time.
fn bucket(nanos: u64) -> usize {
    let power = u64::BITS - 1 - (nanos | 1).leading_zeros();
    match power.checked_sub(FINE) {
        // Below, each nanosecond has a bucket of its own.
        None => nanos as usize,
        Some(shift) => (((shift + 1) as usize) << FINE) + ((nanos >> shift) as usize & ((1 << FINE) - 1)),
    }
}

/// Returns the middle of a bucket, in nanoseconds.
fn middle(bucket: usize) -> f64 {
    let (power, fine) = (bucket >> FINE, bucket & ((1 << FINE) - 1));
    match power.checked_sub(1) {
        None => fine as f64,
        Some(shift) => {
            let width = (1_u64 << shift) as f64;
            ((1 << FINE) + fine) as f64 * width + (width - 1.0) / 2.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_rise_and_are_narrow() {
        let mut last = 0;
        for nanos in (0..5_000).chain((0..600).map(|n| 5_000 + n * n * n * 97)) {
            let at = bucket(nanos);
            assert!(at >= last, "{nanos}");
            last = at;
            let off = (middle(at) - nanos as f64).abs();
            assert!(off <= nanos as f64 / 64.0, "{nanos} is counted as {}", middle(at));
        }
        assert!(bucket(u64::MAX) < BUCKETS);
    }

    #[test]
    fn quantiles_are_those_of_all_that_was_added() {
        let (mut all, mut more) = (Histogram::default(), Histogram::default());
        assert_eq!(all.quantile(0.5), None);
        for micros in 1..=500 {
            all.note(Duration::from_micros(micros));
            more.note(Duration::from_micros(500 + micros));
        }
        all.add(&more);
        assert_eq!(all.calls(), 1_000);
        for (part, micros) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1_000.0), (0.0, 1.0)] {
            let found = all.quantile(part).unwrap() / 1e3;
            assert!((found - micros).abs() <= micros / 64.0, "{part}: {found}");
        }
    }
}
