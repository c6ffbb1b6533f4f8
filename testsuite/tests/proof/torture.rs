//! Workloads under fire on servers of which one promise is broken: they see it, and blame nobody without a fault.

use crate::{Server, fault::Fault};
use kv_core::Durability;
use kv_testsuite::torture::{
    locks::Locks,
    nemesis,
    round::{self, Plan, Workload},
};
use libtest_mimic::Failed;
use std::time::Duration;

/// A server, and what is said of its locks: one of these, or nothing.
const LOCKS: &[(Server, &[&str])] = &[
    (Server::Here(Fault::None), &[]),
    (Server::There(None), &[]),
    (Server::Here(Fault::LetsTwoIn), &["when it was granted under"]),
    (Server::Here(Fault::IsReentrant), &["was granted twice"]),
    (Server::Here(Fault::RepeatsTokens), &["was granted twice"]),
    (Server::Here(Fault::TokensFall), &["after it had been granted under"]),
    (Server::Here(Fault::IgnoresFences), &["began after its release"]),
    (Server::Here(Fault::ForgetsToRelease), &["after its release", "was not got"]),
    (Server::Here(Fault::LeaksCancelled), &["was not got", "after its close"]),
    (Server::Here(Fault::NamesNoHolder), &["a read says otherwise"]),
    (Server::Here(Fault::HidesHolders), &["never told the last holder"]),
    (Server::Here(Fault::MissesTheEndOfHolding), &["says at the end that it is held"]),
];

/// What is tried, by name.
pub(crate) fn trials() -> impl Iterator<Item = (String, impl FnOnce() -> Result<(), Failed> + Send + 'static)>
{
    LOCKS.iter().map(|&(server, says)| {
        let does = if says.is_empty() { "blames nobody for" } else { "sees" };
        (format!("the workload of locks {does} {}", server.name()), move || locks(server, says))
    })
}

fn locks(server: Server, says: &[&str]) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let workloads: [Box<dyn Workload>; 1] = [Box::new(Locks::default())];
    let report = runtime.block_on(async {
        let harness = server.start().await;
        let can = nemesis::ALL.iter().copied().filter(|stroke| stroke.can_fall_on(&*harness));
        let plan = Plan {
            seed: 1,
            time: Duration::from_secs(8),
            strokes: can.filter(|stroke| !stroke.may_lose(Durability::MayLose)).collect(),
            calm: (200, 1200),
            workloads: vec!["locks"],
        };
        round::run(harness, "torture/locks/".into(), &workloads, &plan).await
    })?;
    runtime.shutdown_background();
    if !report.unsuited.is_empty() {
        return Err(report.text().into());
    }
    let wrong: Vec<&str> = report.violations().map(|(_, violation)| violation.what.as_str()).collect();
    let is_said = wrong.iter().any(|what| says.iter().any(|says| what.contains(says)));
    if is_said || says.is_empty() && wrong.is_empty() { Ok(()) } else { Err(report.text().into()) }
}
