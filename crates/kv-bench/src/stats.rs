//! Statistics of rounds.

/// A median, with the least and the greatest of what it is the median of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// Returns the spread of some numbers; `None` without numbers.
    pub(crate) fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<_> = numbers.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let half = sorted.len() / 2;
        let median = match sorted.len().is_multiple_of(2) {
            true => f64::midpoint(sorted[half - 1], sorted[half]),
            false => sorted[half],
        };
        Some(Self { median, least, most })
    }

    /// Returns the spread of the ratios of one side to another, round by round: both sides of a ratio
    /// met the same machine.
    pub(crate) fn of_ratios(these: &[f64], others: &[f64]) -> Option<Self> {
        Self::of(
            these.iter().zip(others).filter(|(_, other)| **other > 0.0).map(|(this, other)| this / other),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_median_and_ends() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([3.0]), Some(Spread { median: 3.0, least: 3.0, most: 3.0 }));
        assert_eq!(Spread::of([5.0, 1.0, 2.0]), Some(Spread { median: 2.0, least: 1.0, most: 5.0 }));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 9.0]), Some(Spread { median: 3.0, least: 1.0, most: 9.0 }));
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        // The machine was twice as slow in the second round, for both.
        let ratio = Spread::of_ratios(&[90.0, 45.0, 80.0], &[100.0, 50.0, 100.0]).unwrap();
        assert_eq!(ratio, Spread { median: 0.9, least: 0.8, most: 0.9 });
        assert_eq!(Spread::of_ratios(&[1.0], &[0.0]), None);
        assert_eq!(Spread::of_ratios(&[1.0, 2.0], &[2.0]).map(|ratio| ratio.median), Some(0.5));
    }
}
