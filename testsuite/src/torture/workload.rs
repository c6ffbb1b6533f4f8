//! A workload, and what it saw.

use super::{field::Field, stroke::Stroke};
use crate::Failure;
use kv_core::{Capabilities, driver::async_trait};

/// Clients that do one thing all the time, and the checker of what they saw.
#[async_trait]
pub trait Workload: Send + Sync {
    /// Returns its name, in one word.
    fn name(&self) -> &'static str;

    /// Returns why it cannot run with these capabilities, when these strokes fall; `None` where it
    /// can.
    fn unsuited(&self, capabilities: &Capabilities, strokes: &[Stroke]) -> Option<String>;

    /// Works until [`Field::is_over`], and, when all troubles are over, looks at what is left.
    ///
    /// # Errors
    /// It could not work, so that nothing was tried.
    async fn run(&self, field: &Field) -> Result<Seen, Failure>;
}

/// All that a workload saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// The number of calls whose answer is known.
    pub answered: u64,
    /// The number of calls whose outcome is unknown.
    pub unknown: u64,
    /// The number of calls that failed without an effect.
    pub failed: u64,
    /// The number of groups of calls that the checker gave up.
    pub undecided: u64,
    /// The promises that were broken.
    pub violations: Vec<Violation>,
}

impl Seen {
    /// Adds what another one saw.
    pub fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.unknown += other.unknown;
        self.failed += other.failed;
        self.undecided += other.undecided;
        self.violations.extend(other.violations);
    }
}

/// One promise that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// One sentence that says what must not be.
    pub what: String,
    /// The moment at which it was seen, in microseconds of the run.
    pub at: u64,
    /// The calls that show it.
    pub calls: Vec<Bar>,
}

/// A call, or another thing that takes time, as it is drawn.
#[derive(Clone, Debug)]
pub struct Bar {
    /// The name of the client.
    pub client: String,
    /// The call and its answer, in words.
    pub label: String,
    /// The moment at which it began, in microseconds of the run.
    pub began: u64,
    /// The moment at which it ended, in microseconds of the run; `None` when nobody knows.
    pub ended: Option<u64>,
}
