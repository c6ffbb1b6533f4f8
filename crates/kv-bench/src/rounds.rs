//! The rounds of a cell: all sides in turn, so that what the machine does meanwhile meets all alike.

use crate::{
    cell::Cell,
    drive::{Opened, Round, Sample},
    histogram::Histogram,
    side::Done,
    stats::Spread,
};
use std::time::Duration;

/// The rounds that are run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) time: Duration,
    /// The time of the first round of a side, which is not counted.
    pub(crate) warm: Duration,
}

/// The result of a side in a cell.
#[derive(Clone, Debug)]
pub(crate) struct Result {
    pub(crate) side: &'static str,
    /// The calls a second of each round.
    pub(crate) rates: Vec<f64>,
    /// The median latency of each round, in nanoseconds.
    pub(crate) medians: Vec<f64>,
    /// The latencies of all rounds.
    pub(crate) latencies: Histogram,
}

/// The results of the sides in a cell; sides without such a call are not there.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) cell: Cell,
    pub(crate) sides: Vec<Result>,
}

impl Measured {
    /// Returns the result of a side.
    pub(crate) fn side(&self, name: &str) -> Option<&Result> {
        self.sides.iter().find(|result| result.side == name)
    }

    /// Returns the ratio of our speed to that of a side, round by round; above one we are faster.
    pub(crate) fn ratio(&self, other: &str) -> Option<Spread> {
        let (ours, other) = (self.side("ours")?, self.side(other)?);
        match self.cell.op.has_rate() {
            true => Spread::of_ratios(&ours.rates, &other.rates),
            false => Spread::of_ratios(&other.medians, &ours.medians),
        }
    }
}

/// Runs the rounds of a cell. Each round begins with another side.
///
/// # Errors
/// A call failed.
pub(crate) async fn measure(cell: Cell, sides: &[Box<dyn Opened>], plan: Plan) -> Done<Measured> {
    let mut prepared: Vec<(Result, Box<dyn Round>)> = Vec::new();
    for side in sides {
        let Some(mut round) = side.prepare(cell).await? else { continue };
        round.run(plan.warm).await.map_err(|e| format!("{cell} of {}: {e}", side.name()))?;
        let (rates, medians, latencies) = Default::default();
        prepared.push((Result { side: side.name(), rates, medians, latencies }, round));
    }
    let count = prepared.len();
    for round in 0..plan.rounds {
        for at in order(round, count) {
            let (result, round) = &mut prepared[at];
            let sample = round.run(plan.time).await.map_err(|e| format!("{cell} of {}: {e}", result.side))?;
            result.add(&sample);
        }
    }
    Ok(Measured { cell, sides: prepared.into_iter().map(|(result, _)| result).collect() })
}

impl Result {
    fn add(&mut self, sample: &Sample) {
        self.rates.push(sample.rate());
        self.medians.push(sample.latencies.quantile(0.5).unwrap_or_default());
        self.latencies.add(&sample.latencies);
    }
}

/// Returns the order of the sides in a round: the next one begins, and every other time they go
/// backwards, so that each side comes behind each other one.
fn order(round: usize, sides: usize) -> Vec<usize> {
    let turn = (0..sides).map(|at| (at + round / 2) % sides);
    match round.is_multiple_of(2) {
        true => turn.collect(),
        false => turn.rev().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_has_each_place() {
        assert_eq!(order(0, 3), [0, 1, 2]);
        assert_eq!(order(1, 3), [2, 1, 0]);
        assert_eq!(order(2, 3), [1, 2, 0]);
        let mut firsts: Vec<_> = (0..6).map(|round| order(round, 3)[0]).collect();
        firsts.sort_unstable();
        assert_eq!(firsts, [0, 0, 1, 1, 2, 2]);
        assert!(order(5, 0).is_empty());
    }
}
