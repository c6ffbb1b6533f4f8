//! The plan of a round.

use super::stroke::Stroke;
use std::time::Duration;

/// The plan of a round.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The number that decides chance.
    pub seed: u64,
    /// The time for which strokes fall.
    pub time: Duration,
    /// The strokes that may fall.
    pub strokes: Vec<Stroke>,
    /// The shortest and longest time between two strokes, in milliseconds.
    pub calm: (u64, u64),
    /// The names of the workloads that run.
    pub workloads: Vec<&'static str>,
}
