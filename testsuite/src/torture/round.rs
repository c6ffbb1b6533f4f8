//! One round: workloads under fire, what they saw, and what is wrong with it.

use super::{
    field::{Blow, Field},
    nemesis::{self, Stroke},
    patience, picture,
};
use crate::{Failure, Harness};
use kv_core::{Capabilities, driver::async_trait};
use std::{fmt::Write as _, future::IntoFuture as _, path::Path, sync::Arc, time::Duration};

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

/// The results of a round.
#[derive(Debug)]
pub struct Report {
    /// The workloads, and what each saw.
    pub seen: Vec<(&'static str, Seen)>,
    /// The workloads that could not run, and why.
    pub unsuited: Vec<(&'static str, String)>,
    /// The strokes that fell.
    pub blows: Vec<Blow>,
}

/// Runs these workloads side by side under fire.
///
/// # Errors
/// A workload could not work, or its answers were too few to show anything.
pub async fn run(
    harness: Arc<dyn Harness>,
    prefix: String,
    workloads: &[Box<dyn Workload>],
    plan: &Plan,
) -> Result<Report, Failure> {
    let field = Field::new(harness, prefix, plan).await?;
    let (mut unsuited, mut suited) = (Vec::new(), Vec::new());
    for workload in workloads {
        match workload.unsuited(field.capabilities(), &plan.strokes) {
            Some(why) => unsuited.push((workload.name(), why)),
            None => suited.push(workload),
        }
    }
    let fire = async {
        let over = async {
            tokio::time::sleep(plan.time).await;
            field.end();
        };
        tokio::join!(over, nemesis::strike(&field, &plan.strokes, plan.calm));
        field.calmed();
    };
    let work = futures::future::try_join_all(suited.iter().map(async |workload| {
        let seen = workload.run(&field).await.map_err(|e| format!("{}: {e}", workload.name()))?;
        Ok::<_, Failure>((workload.name(), seen))
    }));
    let (seen, ()) = tokio::join!(work, fire);
    let seen = match (seen, field.spoilt()) {
        (_, Some(why)) => Err(why.into()),
        (seen, None) => seen,
    };
    // The strokes may tell the reason.
    let seen = seen.map_err(|e| format!("{e}\n{}", strokes(&field.blows())))?;
    for (name, _) in &seen {
        let observer = patience::observer(&field, name).await?;
        patience::until_done("emptying the store", || observer.delete_tree("").into_future()).await?;
        observer.close().await?;
    }
    Ok(Report { seen, unsuited, blows: field.blows() })
}

/// The number of microseconds in a second.
const SECOND: f64 = 1_000_000.0;

fn strokes(blows: &[Blow]) -> String {
    let mut text = String::new();
    for blow in blows {
        let (began, ended) = (blow.began as f64 / SECOND, blow.ended as f64 / SECOND);
        let _ = writeln!(text, "  {began:7.3} s to {ended:7.3} s  {}", blow.label);
    }
    text
}

impl Report {
    /// Returns the promises that were broken, each with its workload.
    pub fn violations(&self) -> impl Iterator<Item = (&'static str, &Violation)> {
        self.seen.iter().flat_map(|(name, seen)| seen.violations.iter().map(|violation| (*name, violation)))
    }

    /// Returns some lines: the strokes with their times, and what each workload saw.
    #[must_use]
    pub fn text(&self) -> String {
        let (mut text, second) = (strokes(&self.blows), SECOND);
        for (name, seen) in &self.seen {
            let Seen { answered, unknown, failed, undecided, violations } = seen;
            let _ = writeln!(
                text,
                "  {name}: {answered} calls answered, {unknown} of unknown outcome, {failed} failed; {undecided} groups \
                 undecided, {} violations",
                violations.len()
            );
        }
        for (name, why) in &self.unsuited {
            let _ = writeln!(text, "  {name}: not run, {why}");
        }
        for (name, violation) in self.violations() {
            let _ = writeln!(
                text,
                "VIOLATION of {name} at {:.3} s: {}",
                violation.at as f64 / second,
                violation.what
            );
            for bar in &violation.calls {
                let ended =
                    bar.ended.map_or_else(|| "?".into(), |ended| format!("{:.6}", ended as f64 / second));
                let _ = writeln!(
                    text,
                    "    {:.6} s to {ended} s  {}: {}",
                    bar.began as f64 / second,
                    bar.client,
                    bar.label
                );
            }
        }
        text
    }

    /// Draws each violation into a file of this folder; returns the files.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn draw(&self, folder: &Path, name: &str) -> Result<Vec<std::path::PathBuf>, Failure> {
        std::fs::create_dir_all(folder)?;
        let mut files = Vec::new();
        for (n, (workload, violation)) in self.violations().enumerate() {
            let file = folder.join(format!("{name}-{workload}-{n}.svg"));
            std::fs::write(&file, picture::draw(violation, &self.blows))?;
            files.push(file);
        }
        Ok(files)
    }
}
