//! Workloads under fire on servers of which one promise is broken: they see it, and blame nobody without a fault.
//!
//! `cargo test -p kv-testsuite --test torture_proof -- NAME` runs those whose names hold `NAME`. With `KV_PROOF_DISCOVER`
//! set, each workload runs on every server, and what it says is printed: how the table is made.

#![allow(dead_code, reason = "the servers have more than is used here")]

mod broken;
mod fault;
mod full;
mod lease;
mod lock;
mod server;
mod tree;
mod txn;
mod watch;
#[path = "../wire/mod.rs"]
mod wire;

use fault::{FAULTS, Fault, NET_FAULTS};
use kv_core::Durability;
use kv_testsuite::torture::{
    self,
    nemesis::{self, Stroke},
    round::{self, Plan, Report, Workload},
};
use libtest_mimic::{Arguments, Failed, Trial};
use server::Server;
use std::time::Duration;
use wire::Fault as Net;

/// How long each runs.
const TIME: Duration = Duration::from_secs(8);

const fn here(fault: Fault) -> Server {
    Server::Here(fault)
}

const fn there(fault: Net) -> Server {
    Server::There(Some(fault))
}

const RIGHT: &[&str] = &[];

/// A workload, a server, and what is said of it: one of these, or nothing.
const TRIED: &[(&str, Server, &[&str])] = &[
    ("locks", here(Fault::LetsTwoIn), &["when it was granted under"]),
    ("locks", here(Fault::IsReentrant), &["was granted twice"]),
    ("locks", here(Fault::RepeatsTokens), &["was granted twice"]),
    ("locks", here(Fault::TokensFall), &["after it had been granted under"]),
    ("locks", here(Fault::IgnoresFences), &["began after its release"]),
    ("locks", here(Fault::ForgetsToRelease), &["after its release", "was not got"]),
    ("locks", here(Fault::LeaksCancelled), &["was not got", "after its close"]),
    ("locks", here(Fault::NamesNoHolder), &["a read says otherwise"]),
    ("locks", here(Fault::HidesHolders), &["never told the last holder"]),
    ("locks", here(Fault::MissesTheEndOfHolding), &["says at the end that it is held"]),
];

/// The workloads that have a network to fail, or not.
const ALL: &[&str] = &["registers", "bank", "model", "locks", "watches", "expiry"];

fn workload(name: &str) -> Option<Box<dyn Workload>> {
    torture::workloads(0).into_iter().find(|workload| workload.name() == name)
}

fn run(name: &'static str, server: Server, strokes: Option<&[Stroke]>) -> Result<Report, Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let workloads: Vec<_> = workload(name).into_iter().collect();
    let report = runtime.block_on(async {
        let harness = server.start().await;
        let can = nemesis::ALL.iter().map(|(stroke, _)| *stroke);
        let can = can.filter(|stroke| stroke.can_fall_on(&*harness));
        let strokes = match strokes {
            Some(strokes) => strokes.to_vec(),
            None => can.filter(|stroke| !stroke.may_lose(Durability::MayLose)).collect(),
        };
        let plan = Plan { seed: 1, time: TIME, strokes, calm: (200, 1200), workloads: vec![name] };
        round::run(harness, format!("torture/{name}/"), &workloads, &plan).await
    });
    runtime.shutdown_background();
    Ok(report?)
}

/// Runs a workload on a server: one of these must be said, or nothing.
fn tries(name: &'static str, server: Server, says: &[&str]) -> Result<(), Failed> {
    let report = run(name, server, None)?;
    if !report.unsuited.is_empty() {
        return Err(report.text().into());
    }
    let wrong: Vec<&str> = report.violations().map(|(_, violation)| violation.what.as_str()).collect();
    let is_said = wrong.iter().any(|what| says.iter().any(|says| what.contains(says)));
    if is_said || says.is_empty() && wrong.is_empty() { Ok(()) } else { Err(report.text().into()) }
}

/// Prints what each workload says of each server.
fn discover(arguments: &Arguments) {
    let here = FAULTS.iter().map(|&(fault, ..)| Server::Here(fault));
    let there = NET_FAULTS.iter().map(|&(fault, ..)| Server::There(Some(fault)));
    for server in here.chain(there) {
        for name in ALL {
            let is_asked = |filter: &String| format!("{name} {}", server.name()).contains(filter.as_str());
            if !arguments.filter.as_ref().is_none_or(is_asked) {
                continue;
            }
            match run(name, server, None) {
                Ok(report) => {
                    for (_, violation) in report.violations().take(3) {
                        println!("{name} {}: {}", server.name(), violation.what);
                    }
                }
                Err(e) => {
                    println!("{name} {}: nothing was shown, {}", server.name(), e.message().unwrap_or(""))
                }
            }
        }
    }
}

fn main() {
    let mut arguments = Arguments::from_args();
    if std::env::var_os("KV_PROOF_DISCOVER").is_some() {
        return discover(&arguments);
    }
    arguments.test_threads.get_or_insert(4);
    let right = [Server::Here(Fault::None), Server::There(None)];
    let right = ALL.iter().flat_map(|&name| right.map(|server| (name, server, RIGHT)));
    let trials = right.chain(TRIED.iter().copied()).map(|(name, server, says)| {
        let does = if says.is_empty() { "blames nobody for" } else { "sees" };
        Trial::test(format!("the workload of {name} {does} {}", server.name()), move || {
            tries(name, server, says)
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}
