//! Workloads under fire on servers of which one promise is broken: they see it, and blame nobody
//! without a fault.
//!
//! `cargo test -p kv-testsuite --test torture_proof -- NAME` runs those whose names hold `NAME`.
//! With `KV_PROOF_DISCOVER` set, each workload runs on every server, and what it says is printed:
//! the table is made from that.

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
    self, nemesis,
    round::{self, Plan, Report, Workload},
};
use libtest_mimic::{Arguments, Failed, Trial};
use server::Server;
use std::time::Duration;
use wire::Fault as Net;

/// The time that each workload runs.
const TIME: Duration = Duration::from_secs(8);
/// The number of seeds that it may take to meet a fault.
const SEEDS: u64 = 10;

const fn here(fault: Fault) -> Server {
    Server::Here(fault)
}

const fn there(fault: Net) -> Server {
    Server::There(Some(fault))
}

const RIGHT: &[&str] = &[];

/// A workload, a server, and what must be said of it: one of these, or nothing.
const TRIED: &[(&str, Server, &[&str])] = &[
    // Registers
    ("registers", here(Fault::AnswersStale), &["no order of effects"]),
    ("registers", here(Fault::TearsReads), &["no order of effects"]),
    ("registers", here(Fault::ComparesThenWrites), &["no order of effects"]),
    ("registers", here(Fault::DeletesAnyVersion), &["no order of effects"]),
    ("registers", there(Net::RetriesBlindly), &["no order of effects"]),
    ("registers", there(Net::LostReplyIsConflict), &["no order of effects"]),
    ("registers", there(Net::LostReplyIsSuccess), &["no order of effects"]),
    ("registers", there(Net::VersionsAtSending), &["no order of effects"]),
    ("registers", there(Net::DownIsMissing), &["no order of effects"]),
    ("registers", there(Net::BelievesIntermediaries), &["an answer to another question"]),
    // Money
    ("bank", here(Fault::TransactChecksThenWrites), &["the accounts hold"]),
    ("bank", here(Fault::TearsTransactions), &["the accounts hold"]),
    // Random calls
    ("model", here(Fault::DeletesOneLevel), &["answered"]),
    ("model", here(Fault::MiscountsConditions), &["answered"]),
    ("model", here(Fault::ListsItself), &["answered"]),
    ("model", here(Fault::SkipsAtPageBorders), &["answered"]),
    ("model", there(Net::LostReplyIsConflict), &["answered"]),
    ("model", there(Net::LostReplyIsSuccess), &["answered"]),
    ("model", there(Net::DownIsMissing), &["answered"]),
    // Watches
    ("watches", here(Fault::DropsAChange), &["does not arrive"]),
    ("watches", here(Fault::TellsFalseEnds), &["which nobody can have deleted"]),
    ("watches", here(Fault::TellsOutOfOrder), &["does not arrive", "after"]),
    ("watches", there(Net::RetriesBlindly), &["a write that had failed"]),
    ("watches", there(Net::VersionsAtSending), &["but has"]),
    ("watches", there(Net::WatchForgetsOutage), &["does not arrive"]),
    ("watches", there(Net::WatchEndsAtCut), &["ended"]),
    ("watches", there(Net::WatchEndsAtSilence), &["ended"]),
    ("watches", there(Net::WatchNeedsTheServer), &["cannot watch"]),
    ("watches", there(Net::DropsEvents), &["does not arrive"]),
    // Expiry
    ("expiry", here(Fault::ExpiresSomeEarly), &["was not there, and must have been"]),
    ("expiry", here(Fault::SweepsEmptyLeases), &["was lost to a put"]),
    ("expiry", here(Fault::LeaseForgetsKeys), &["must have been gone"]),
    ("expiry", here(Fault::KeepsTheOldTtl), &["granted"]),
    ("expiry", there(Net::NeverEndsSessions), &["must have been gone"]),
    ("expiry", there(Net::AnswersForRepeats), &["says that it was over"]),
    ("expiry", there(Net::ReleaseIsAlwaysTrue), &["says that it was alive"]),
    // Locks
    ("locks", here(Fault::LetsTwoIn), &["when it was granted under"]),
    ("locks", here(Fault::IsReentrant), &["was granted twice"]),
    ("locks", here(Fault::RepeatsTokens), &["was granted twice"]),
    ("locks", here(Fault::TokensFall), &["after it had been granted under"]),
    ("locks", here(Fault::IgnoresFences), &["began after its release"]),
    ("locks", here(Fault::ForgetsToRelease), &["after its release", "was not got when all were closed"]),
    ("locks", here(Fault::LeaksCancelled), &["was not got when all were closed", "after its close"]),
    ("locks", here(Fault::LeavesItsPlace), &["was not got while its contenders were open"]),
    ("locks", here(Fault::NamesNoHolder), &["a read says otherwise"]),
    ("locks", here(Fault::HidesHolders), &["never told the last holder"]),
    ("locks", here(Fault::MissesTheEndOfHolding), &["says at the end that it is held"]),
    ("locks", there(Net::TakesOutagesForRefusals), &["the server takes nobody in"]),
    ("locks", there(Net::BelievesInLockForever), &["says is_held"]),
    ("locks", there(Net::IgnoresFences), &["lies over"]),
    ("locks", there(Net::AbandonsLocks), &["that it is held", "was not got when all were closed"]),
    ("locks", there(Net::NeverEndsSessions), &["that it is held", "was not got when all were closed"]),
    ("locks", there(Net::WatchEndsAtCut), &["ended"]),
    ("locks", there(Net::AnswersForRepeats), &["says that it was lost"]),
];

/// The workloads that run with a network that can fail, or without one.
const ALL: &[&str] = &["registers", "bank", "model", "locks", "watches", "expiry"];

fn workload(name: &str) -> Option<Box<dyn Workload>> {
    torture::workloads(0).into_iter().find(|workload| workload.name() == name)
}

fn run(name: &'static str, server: Server, seed: u64) -> Result<Report, Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let workloads: Vec<_> = workload(name).into_iter().collect();
    let report = runtime.block_on(async {
        let harness = server.start().await;
        let can = nemesis::ALL.iter().map(|(stroke, _)| *stroke);
        let can = can.filter(|stroke| stroke.can_fall_on(&*harness));
        let strokes = can.filter(|stroke| !stroke.may_lose(Durability::MayLose)).collect();
        let plan = Plan { seed, time: TIME, strokes, calm: (200, 1200), workloads: vec![name] };
        round::run(harness, format!("torture/{name}/"), &workloads, &plan).await
    });
    runtime.shutdown_background();
    Ok(report?)
}

/// Runs a workload on a server. If nothing is to be said, it runs with one seed; else one of these
/// must be said with one of some seeds.
fn tries(name: &'static str, server: Server, says: &[&str]) -> Result<(), Failed> {
    let mut last = String::new();
    for seed in 1..=if says.is_empty() { 1 } else { SEEDS } {
        let report = run(name, server, seed)?;
        let wrong: Vec<&str> = report.violations().map(|(_, violation)| violation.what.as_str()).collect();
        let is_said = wrong.iter().any(|what| says.iter().any(|says| what.contains(says)));
        if report.unsuited.is_empty() && (is_said || says.is_empty() && wrong.is_empty()) {
            return Ok(());
        }
        last = report.text();
    }
    Err(last.into())
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
            match run(name, server, 1) {
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
