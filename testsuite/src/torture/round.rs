//! One round: workloads under fire, what they saw, and what is wrong with it.

use super::{
    field::{Blow, Field},
    nemesis, patience, picture,
};
use crate::{Failure, Harness};
use std::{fmt::Write as _, future::IntoFuture as _, path::Path, sync::Arc};

pub use super::{
    plan::Plan,
    workload::{Bar, Seen, Violation, Workload},
};

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
        let observer = field.observer(name).await?;
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
