//! The suite's own proof: a store that breaks one promise on purpose makes the cases of that
//! promise red; and the same store without a fault is green.
//!
//! Every case that an answer of a `Store` can break is named by a fault in `fault.rs`, and those of
//! recipes by the faults that `ci/mutants` puts back; for the others `unproven.rs` says how each was
//! seen red. A case that is in none of them fails this program.
//!
//! `cargo test -p kv-testsuite --test proof -- NAME` runs the faults whose names hold `NAME`. With
//! `KV_PROOF_DISCOVER` set, each fault runs on every case, and the red ones are printed: the table
//! is made from that.

mod broken;
mod fault;
mod full;
mod lease;
mod lock;
mod server;
mod tree;
mod txn;
mod unproven;
mod watch;
#[path = "../wire/mod.rs"]
mod wire;

use fault::{FAULTS, Fault, NET_FAULTS};
use kv_testsuite::{Case, Options, Outcome, cases, run};
use libtest_mimic::{Arguments, Failed, Trial};
use server::Server;
use std::{collections::BTreeSet, fs, time::Duration};

/// Returns every server with a fault, what it does, and the cases that it must make red.
fn servers() -> Vec<(Server, &'static str, &'static [&'static str])> {
    let here = FAULTS.iter().map(|&(fault, does, names)| (Server::Here(fault), does, names));
    let there = NET_FAULTS.iter().map(|&(fault, does, names)| (Server::There(Some(fault)), does, names));
    here.chain(there).collect()
}

/// Returns the options of a run on a server with a fault: what is broken is waited for in vain. No
/// case takes as long as the limit by itself.
fn in_vain() -> Options {
    Options::default().patience(Duration::from_secs(3)).limit(Duration::from_secs(60))
}

/// Runs these cases on this server.
fn on(server: Server, cases: &[Case], options: &Options) -> Result<Vec<(&'static str, Outcome)>, Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let report = runtime.block_on(async { run(server.start().await, cases, options).await })?;
    runtime.shutdown_background();
    Ok(report.results.into_iter().map(|(case, outcome)| (case.name, outcome)).collect())
}

/// Checks that the cases of these names are red.
fn proves(server: Server, names: &'static [&'static str]) -> Result<(), Failed> {
    let named: Vec<Case> = cases::all().into_iter().filter(|case| names.contains(&case.name)).collect();
    if named.is_empty() || named.len() != names.len() {
        return Err(format!("names cases that are not there: {names:?}").into());
    }
    for (case, outcome) in on(server, &named, &in_vain())? {
        if !matches!(outcome, Outcome::Broken(_)) {
            return Err(format!("{case} did not notice: {outcome:?}").into());
        }
    }
    Ok(())
}

/// Checks that a server without a fault passes the cases that the faults of such servers prove.
fn control(server: Server) -> Result<(), Failed> {
    let alike = |other: Server| matches!(other, Server::Here(_)) == matches!(server, Server::Here(_));
    let proven = |case: &Case| servers().iter().any(|(s, _, names)| alike(*s) && names.contains(&case.name));
    let named: Vec<Case> = cases::all().into_iter().filter(proven).collect();
    for (case, outcome) in on(server, &named, &Options::default())? {
        // A store cannot break what it does not declare; the fault is to declare it.
        let undeclared = case == "list/one-moment" && matches!(outcome, Outcome::Ignored(_));
        if outcome != Outcome::Kept && !undeclared {
            return Err(format!("{case} is red, or was not tried, without a fault: {outcome:?}").into());
        }
    }
    Ok(())
}

/// Returns the cases that must be red when a fault of the folder `mutants` is put back.
fn put_back() -> Result<BTreeSet<String>, Failed> {
    let mut names = BTreeSet::new();
    for file in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/mutants"))? {
        let fault = fs::read_to_string(file?.path())?;
        let cases = fault.lines().find_map(|line| line.strip_prefix("cases: ")).unwrap_or_default();
        names.extend(cases.split(',').map(str::to_owned));
    }
    Ok(names)
}

/// Checks that every case is proven, or noted with the reason why not.
fn complete() -> Result<(), Failed> {
    let (mut wrong, put_back) = (Vec::new(), put_back()?);
    for case in cases::all() {
        let proven =
            servers().iter().any(|(.., names)| names.contains(&case.name)) || put_back.contains(case.name);
        let noted = unproven::NOTES.iter().any(|(names, _)| names.contains(&case.name));
        match (proven, noted) {
            (false, false) => wrong.push(format!("{} is neither proven nor noted", case.name)),
            (true, true) => wrong.push(format!("{} is proven, and noted as unproven", case.name)),
            _ => {}
        }
    }
    for name in unproven::NOTES.iter().flat_map(|(names, _)| *names) {
        if cases::all().iter().all(|case| case.name != *name) {
            wrong.push(format!("{name} is noted, and no case"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

fn discover(arguments: &Arguments) {
    let wanted = |server: Server| arguments.filter.as_ref().is_none_or(|f| server.name().contains(f));
    for (server, ..) in servers().into_iter().filter(|(server, ..)| wanted(*server)) {
        match on(server, &cases::all(), &in_vain()) {
            Ok(results) => {
                let red =
                    results.iter().filter(|(_, o)| matches!(o, Outcome::Broken(_))).map(|(name, _)| *name);
                println!("{}: {}", server.name(), red.collect::<Vec<_>>().join(" "));
            }
            Err(e) => println!("{}: {e:?}", server.name()),
        }
    }
}

fn main() {
    let mut arguments = Arguments::from_args();
    if std::env::var_os("KV_PROOF_DISCOVER").is_some() {
        return discover(&arguments);
    }
    arguments.test_threads.get_or_insert(8);
    let mut trials = vec![
        Trial::test("every case is proven or noted", complete),
        Trial::test("without a fault all is green", || control(Server::Here(Fault::None))),
        Trial::test("without a fault all is green over a network", || control(Server::There(None))),
    ];
    trials.extend(servers().into_iter().map(|(server, does, names)| {
        Trial::test(format!("{}: {does}", server.name()), move || proves(server, names))
    }));
    libtest_mimic::run(&arguments, trials).exit();
}
