//! Runs cases, each in a task of its own, so that none takes another down.

use crate::{Case, Ended, Harness, Trial, Verdict, sites::Sites};
use futures::{StreamExt, future::join_all, stream};
use kv_core::Capabilities;
use std::{
    any::Any,
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Semaphore, time::Instant};

/// The outcome of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The promise held.
    Kept,
    /// The promise could not be tried, for this reason.
    Ignored(String),
    /// The promise was broken, in this way.
    Broken(String),
}

/// The options of a run of cases.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The number of cases that run at once; those that take a server away are beside it.
    pub at_once: usize,
    /// The time that each case may take, beyond what the backend's TTLs need; one that takes
    /// longer is broken.
    pub limit: Duration,
    /// The time of [`Trial::patience`].
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { at_once: 10, limit: Duration::from_secs(300), patience: Duration::from_secs(20) }
    }
}

impl Options {
    /// Sets how many cases run at once.
    #[must_use]
    pub fn at_once(mut self, at_once: usize) -> Self {
        self.at_once = at_once.max(1);
        self
    }

    /// Sets how long each case may take, beyond what the backend's TTLs need.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Sets how long a case waits for what must come.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

/// The outcomes of the cases on one backend.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The harness's name.
    pub backend: String,
    /// The capabilities of the backend.
    pub capabilities: Arc<Capabilities>,
    /// The cases, in their order, and the outcome of each.
    pub results: Vec<(Case, Outcome)>,
}

impl Report {
    /// Returns the outcome of the case of this name; `None` when it was not run.
    pub fn outcome(&self, case: &str) -> Option<&Outcome> {
        self.results.iter().find(|(c, _)| c.name == case).map(|(_, outcome)| outcome)
    }

    /// Returns the cases whose promise was broken, and how.
    pub fn broken(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.results.iter().filter_map(|(case, outcome)| match outcome {
            Outcome::Broken(why) => Some((case.name, why.as_str())),
            _ => None,
        })
    }
}

/// Runs these cases on the caller's runtime (a multi-threaded one) and prints nothing.
///
/// # Errors
/// The store could not be opened once, so that nothing was tried.
pub async fn run(harness: Arc<dyn Harness>, cases: &[Case], options: &Options) -> kv_core::Result<Report> {
    let runner = Runner::new(Arc::new(Sites::one(harness)), options.clone()).await?;
    let results = stream::iter(cases.iter().copied())
        .map(|case| {
            let runner = runner.clone();
            async move { (case, runner.one(case).await) }
        })
        .buffered(options.at_once)
        .collect()
        .await;
    Ok(runner.report(results))
}

/// Runs cases on the servers of a run, those that take a server away beside the others.
///
/// # Errors
/// Those of [`run`].
pub(crate) async fn on(sites: Arc<Sites>, cases: &[Case], options: &Options) -> kv_core::Result<Report> {
    let runner = Runner::new(sites, options.clone()).await?;
    let outcomes = join_all(cases.iter().map(|case| runner.one(*case))).await;
    Ok(runner.report(cases.iter().copied().zip(outcomes).collect()))
}

/// Runs cases on one backend, and holds what the runs share.
#[derive(Clone)]
pub(crate) struct Runner {
    sites: Arc<Sites>,
    capabilities: Arc<Capabilities>,
    options: Options,
    prefix: Arc<str>,
    next: Arc<AtomicU32>,
    at_once: Arc<Semaphore>,
}

impl Runner {
    pub(crate) async fn new(sites: Arc<Sites>, options: Options) -> kv_core::Result<Self> {
        let random = RandomState::new().hash_one(std::process::id());
        let prefix: Arc<str> = format!("kv-suite-{random:016x}").into();
        let kv = sites.harness().open(&format!("{prefix}/0/")).await?;
        let capabilities = Arc::new(kv.capabilities().clone());
        kv.close().await?;
        let at_once = Arc::new(Semaphore::new(options.at_once));
        Ok(Self { sites, capabilities, options, prefix, next: Arc::new(AtomicU32::new(1)), at_once })
    }

    pub(crate) fn report(&self, results: Vec<(Case, Outcome)>) -> Report {
        Report { backend: self.sites.harness().name(), capabilities: self.capabilities.clone(), results }
    }

    /// Returns the time that a case may take: the limit, and six times the slowest expiry of this
    /// backend, for a case may wait for several in a row.
    fn limit(&self) -> Duration {
        let c = &*self.capabilities;
        let ranges = [c.ttl.as_ref(), c.lease.as_ref(), c.lock.as_ref().map(|l| &l.ttl)];
        let slowest = ranges.into_iter().flatten().map(|r| r.least + r.lateness(r.least)).max();
        self.options.limit + slowest.unwrap_or_default() * 6
    }

    /// Runs one case, and cleans up behind it.
    pub(crate) async fn one(&self, case: Case) -> Outcome {
        if let Some(reason) = self.sites.harness().excused(case.name, &self.capabilities) {
            return Outcome::Ignored(reason);
        }
        let _one_of = match case.takes_server {
            true => None,
            false => self.at_once.acquire().await.ok(),
        };
        let turn = match self.sites.turn(case).await {
            Ok(turn) => turn,
            Err(e) => return Outcome::Broken(e.to_string()),
        };
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{}/{n}/", self.prefix);
        let trial = Trial::new(turn, prefix, self.capabilities.clone(), self.options.patience);
        let outcome = self.watched(case, &trial).await;
        let cleaned = async {
            trial.restore().await;
            self.clean(&trial).await
        };
        let cleaned = tokio::time::timeout(self.options.limit, cleaned).await;
        trial.end();
        let cleaned = cleaned.unwrap_or_else(|_| Err("cleaning up behind the case took too long".to_owned()));
        match (outcome, cleaned) {
            (Outcome::Broken(why), _) | (_, Err(why)) => Outcome::Broken(why),
            (outcome, Ok(())) => outcome,
        }
    }

    /// Runs the case in a task of its own, and aborts it when it takes longer than its limit.
    async fn watched(&self, case: Case, trial: &Trial) -> Outcome {
        let limit = self.limit();
        let mut task = tokio::spawn((case.run)(trial.clone()));
        loop {
            let (since, waits_for) = trial.noted();
            if since + limit <= Instant::now() {
                task.abort();
                return Outcome::Broken(format!("stuck for {limit:?}; it waited for {waits_for}"));
            }
            if let Ok(ended) = tokio::time::timeout_at(since + limit, &mut task).await {
                return match ended {
                    Ok(verdict) => outcome(verdict),
                    Err(e) => Outcome::Broken(e.try_into_panic().map_or_else(
                        |e| format!("the case's task ended early: {e}"),
                        |panic| format!("panicked: {}", text(&*panic)),
                    )),
                };
            }
        }
    }

    /// Deletes the case's keys, and checks that nothing of the library's own is left.
    async fn clean(&self, trial: &Trial) -> Result<(), String> {
        for prefix in trial.prefixes() {
            empty(trial, &prefix).await.map_err(|e| format!("cleaning up behind the case: {e}"))?;
            let patience = Instant::now() + self.options.patience;
            loop {
                // Giving back in the background may take a moment.
                let left = trial.harness().leftovers(&prefix).await;
                if left.is_empty() {
                    break;
                }
                if Instant::now() > patience {
                    return Err(format!("left behind on the server: {}", left.join(", ")));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }
}

async fn empty(trial: &Trial, prefix: &str) -> kv_core::Result<()> {
    let kv = trial.open_under(prefix).await?;
    kv.delete_tree("").await?;
    kv.close().await
}

fn outcome(verdict: Verdict) -> Outcome {
    match verdict {
        Ok(Ended::Kept) => Outcome::Kept,
        Ok(Ended::Ignored(reason)) => Outcome::Ignored(reason),
        Err(why) => Outcome::Broken(why.to_string()),
    }
}

pub(crate) fn text(panic: &(dyn Any + Send)) -> &str {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}
