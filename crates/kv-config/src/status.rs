//! The state of a roll-out: what the processes run.

use crate::{
    record::{Record, Rejects},
    snapshot::Generation,
    state::Origin,
};
use kv_core::{Error, IntoKey, Key, Kv, Result};
use std::{collections::BTreeMap, fmt};

/// Reads what the processes report in this directory: those that were opened with
/// [`report`](crate::OpenLive::report).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_config::{Source, live, status};
///
/// let kv = kv_memory::open("memory://").await?;
/// kv.put("app/config/limit", "5").await?;
///
/// #[derive(serde::Deserialize)]
/// struct Settings {
///     limit: u32,
/// }
/// let host_7 = live::<Settings>(&kv, "app/config").report("app/status/host-7").await?;
/// assert_eq!(host_7.get().limit, 5);
///
/// let stored = Source::tree(&kv, "app/config").snapshot().await?.generation();
/// while status(&kv, "app/status").await?.running(&stored) < 1 {
///     tokio::task::yield_now().await; // it reports in the background
/// }
/// println!("{}", status(&kv, "app/status").await?); // 1 process: 1 runs 5f0d…
/// # Ok(()) }
/// ```
///
/// # Errors
/// Those of [`Kv::list`]. A value that is no report is no error: it is in
/// [`unreadable`](Status::unreadable).
///
/// # Cancel safety
/// A future that is dropped leaves nothing behind.
pub async fn status(kv: &Kv, directory: impl IntoKey) -> Result<Status> {
    let directory = directory.into_directory();
    let directory = directory.map_err(|e| e.in_call("status", kv.capabilities().backend, None))?;
    let mut status = Status::default();
    for entry in kv.list(&directory).await? {
        let Some(name) = directory.strip(&entry.key) else { continue };
        match Record::read(&entry) {
            Ok(record) => status.reports.push(Report::new(name, record)),
            Err(e) => status.unreadable.push(e),
        }
    }
    Ok(status)
}

/// The settings that the processes run that report in one directory.
///
/// `Display` writes it in one line:
///
/// ```text
/// 10000 processes: 9998 run 17, 2 run 16; 2 reject 17: limits.requests: expected u32, found text
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Status {
    /// The reports, sorted by name.
    pub reports: Vec<Report>,
    /// A [`Corrupt`](kv_core::ErrorKind::Corrupt) for each key in the directory that is no report.
    pub unreadable: Vec<Error>,
}

impl Status {
    /// Counts the processes that run this generation.
    pub fn running(&self, generation: &Generation) -> usize {
        self.reports.iter().filter(|report| report.runs == *generation).count()
    }

    /// Counts the processes of each generation that is run.
    pub fn generations(&self) -> BTreeMap<&Generation, usize> {
        let mut counted = BTreeMap::<_, usize>::new();
        for report in &self.reports {
            *counted.entry(&report.runs).or_default() += 1;
        }
        counted
    }

    /// Returns the reports of the processes that reject what is stored.
    pub fn rejecting(&self) -> impl Iterator<Item = &Report> {
        self.reports.iter().filter(|report| report.rejects.is_some())
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.reports.len();
        write!(f, "{all} {}", if all == 1 { "process" } else { "processes" })?;
        let mut run: Vec<_> = self.generations().into_iter().collect();
        run.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        for (n, (generation, count)) in run.into_iter().enumerate() {
            let (before, verb) = (if n == 0 { ": " } else { ", " }, if count == 1 { "runs" } else { "run" });
            write!(f, "{before}{count} {verb} {generation}")?;
        }
        let mut rejected = BTreeMap::<_, usize>::new();
        for rejection in self.rejecting().filter_map(|report| report.rejects.as_ref()) {
            *rejected.entry((&rejection.generation, &*rejection.why)).or_default() += 1;
        }
        for ((generation, why), count) in rejected {
            let verb = if count == 1 { "rejects" } else { "reject" };
            write!(f, "; {count} {verb} {generation}: {why}")?;
        }
        match self.unreadable.len() {
            0 => Ok(()),
            1 => write!(f, "; 1 key is no report"),
            more => write!(f, "; {more} keys are no reports"),
        }
    }
}

/// The report of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The name of the process, below the directory.
    pub name: Key,
    /// The generation that it runs.
    pub runs: Generation,
    /// The source of the settings of that generation.
    pub origin: Origin,
    /// The generation that the process rejects; `None` where it rejects none.
    pub rejects: Option<Rejection>,
}

/// The generation that a process rejects.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejection {
    /// The generation.
    pub generation: Generation,
    /// The reason: where the fault is, and what it is. A process reports 500 characters at most.
    pub why: String,
}

impl Report {
    fn new(name: Key, record: Record) -> Self {
        let Record { runs, from: origin, rejects, .. } = record;
        let rejects = rejects.map(|Rejects { generation, why }| Rejection { generation, why });
        Self { name, runs, origin, rejects }
    }
}
