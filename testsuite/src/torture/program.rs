//! The test program of a backend under fire.

use super::{
    bank::Bank,
    expiry::Expiry,
    instances::Instances,
    leaks::Leaks,
    locks::{self, Locks},
    model::Model,
    patience,
    plan::Plan,
    registers::Registers,
    round,
    shards::Members,
    stroke::{self, Stroke},
    tally,
    watches::Watches,
    workload::Workload,
};
use crate::{Failure, Harness};
use kv_core::Kv;
use libtest_mimic::{Arguments, Failed, Trial};
use std::{
    ffi::OsStr,
    future::Future,
    path::PathBuf,
    process,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// The name of the variable that sets the seed.
pub const SEED: &str = "KV_TORTURE_SEED";
/// The name of the variable that sets how many seconds each round lasts.
pub const SECONDS: &str = "KV_TORTURE_SECONDS";
/// The name of the variable that asks for the long form, which has a round for each kind of stroke
/// besides.
pub const LONG: &str = "KV_TORTURE_LONG";

/// The name of the variable that names the workloads that run, joined by commas; without it all
/// run.
pub const ONLY: &str = "KV_TORTURE_ONLY";

/// The workload that runs in a round of its own, and that round.
const LEAKS: &str = "leaks";
/// The round in which nothing is struck but processes that are candidates.
const CLIENTS: &str = "clients";
/// The round of recipes that keep something for many processes.
const RECIPES: &str = "recipes";
/// The number of those processes.
const CANDIDATES: usize = 5;

/// The number of processes that contend for locks.
const CHILDREN: usize = 2;

/// Runs the whole of a backend's `tests/torture.rs`, with `harness = false` in its `Cargo.toml`:
/// makes the harness, runs the rounds on it one after another, each with every workload but
/// `leaks`, which has a round of its own, and ends the program. Its arguments are those of a test
/// program.
///
/// `KV_TORTURE_SEED` is a number that decides chance; without it the clock does.
/// `KV_TORTURE_SECONDS` is the number of seconds that a round lasts. With `KV_TORTURE_LONG` there
/// is a round for each kind of stroke alone, and one for all together. `KV_TORTURE_ONLY` names the
/// workloads that run, joined by commas.
///
/// The second function opens a URL of the backend. The program runs itself as a client that is
/// killed and stopped. Such a process does nothing else: it opens the URL that `KV_TORTURE_CHILD`
/// names, and works until its input ends.
pub fn main<H, F, O>(make: impl FnOnce() -> F, open: impl Fn(String) -> O) -> !
where
    H: Harness,
    F: Future<Output = Result<H, Failure>> + Send + 'static,
    O: Future<Output = kv_core::Result<Kv>>,
{
    if let Ok(order) = std::env::var(locks::CHILD) {
        process::exit(match locks::child_main(&order, open) {
            Ok(()) => 0,
            Err(e) => {
                eprintln!("no contender: {e}");
                101
            }
        });
    }
    process::exit(match whole(make()) {
        Ok(true) => 0,
        Ok(false) => 101,
        Err(e) => {
            eprintln!("nothing was tried: {e}");
            101
        }
    })
}

/// Returns all workloads; so many processes besides contend for locks.
#[must_use]
pub fn workloads(children: usize) -> Vec<Box<dyn Workload>> {
    vec![
        Box::new(Registers::default()),
        Box::new(Bank::default()),
        Box::new(Model::default()),
        Box::new(Locks::with_children(children)),
        Box::new(Locks::elections(children)),
        Box::new(Watches::default()),
        Box::new(Expiry::default()),
        Box::new(Leaks::default()),
    ]
}

/// Returns the workloads of recipes that have a round of their own.
fn recipes(is_long: bool) -> Vec<Box<dyn Workload>> {
    match is_long {
        true => vec![Box::new(Instances::new(200)), Box::new(Members::new(256, 16))],
        false => vec![Box::new(Instances::new(12)), Box::new(Members::new(16, 4))],
    }
}

/// Returns the number that this variable sets, if it is set.
fn number(variable: &str) -> Result<Option<u64>, Failure> {
    std::env::var_os(variable).map(|given| read(variable, &given)).transpose()
}

fn read(variable: &str, given: &OsStr) -> Result<u64, Failure> {
    let number = given.to_str().and_then(|given| given.parse().ok());
    number.ok_or_else(|| {
        let most = u64::MAX;
        format!("{variable} is {given:?}; set it to a whole number from 0 to {most}, or leave it out").into()
    })
}

fn whole<H: Harness>(
    make: impl Future<Output = Result<H, Failure>> + Send + 'static,
) -> Result<bool, Failure> {
    let mut arguments = Arguments::from_args();
    // There is one server: its troubles are those of one round.
    arguments.test_threads = Some(1);
    let is_long = std::env::var_os(LONG).is_some();
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
    let seed = number(SEED)?.unwrap_or(u64::try_from(clock % 1_000_000_007)?);
    let time = Duration::from_secs(number(SECONDS)?.unwrap_or(if is_long { 30 } else { 15 }));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
    let harness: Arc<dyn Harness> = Arc::new(runtime.block_on(runtime.spawn(make))??);
    let backend = harness.name();
    let can = runtime.block_on(can_fall(&*harness))?;
    let has_processes = harness.address().is_some() && harness.url("torture/").is_some();
    let trials =
        plans(can, is_long, has_processes, seed, time).into_iter().enumerate().map(|(n, (name, plan))| {
            let (harness, runtime) = (harness.clone(), runtime.handle().clone());
            let backend = backend.clone();
            Trial::test(format!("{backend}::{name}"), move || {
                runtime
                    .block_on(one(harness, &backend, name, n, &plan))
                    .map_err(|e| Failed::from(e.to_string()))
            })
        });
    let trials = trials.collect();
    let failed = libtest_mimic::run(&arguments, trials).has_failed();
    // The harness may still need the runtime to stop its servers.
    let inside = runtime.enter();
    drop(harness);
    drop(inside);
    runtime.shutdown_timeout(Duration::from_secs(10));
    Ok(!failed)
}

/// Returns all strokes that can fall here, and whether each falls in rounds of its own: those that
/// suit fewer workloads, or take seconds to put right.
async fn can_fall(harness: &dyn Harness) -> Result<Vec<(Stroke, bool)>, Failure> {
    let kv = patience::until_done("opening the store", || harness.open("torture/")).await?;
    let durability = kv.capabilities().durability;
    kv.close().await?;
    // Not every server can be put back to an older copy.
    let is_saved = match harness.server() {
        Some(server) => server.save().await,
        None => false,
    };
    let all = stroke::ALL.iter().map(|(stroke, _)| *stroke);
    let can = all.filter(|&stroke| stroke.can_fall_on(harness) && (stroke != Stroke::Restore || is_saved));
    let is_apart = |stroke: Stroke| {
        let is_refused = stroke.denies() || stroke.damages();
        stroke.is_slow() || stroke.moves_time() || is_refused || stroke.may_lose(durability)
    };
    Ok(can.map(|stroke| (stroke, is_apart(stroke))).collect())
}

/// Returns the rounds, by name.
fn plans(
    can: Vec<(Stroke, bool)>,
    is_long: bool,
    has_processes: bool,
    seed: u64,
    time: Duration,
) -> Vec<(&'static str, Plan)> {
    let calm = (200, 1200);
    let (alone, together): (Vec<_>, Vec<_>) =
        workloads(CHILDREN).iter().map(|workload| workload.name()).partition(|name| *name == LEAKS);
    let plan = |strokes: Vec<Stroke>| Plan { seed, time, strokes, calm, workloads: together.clone() };
    let of =
        |apart: bool| can.iter().filter(move |(_, is_apart)| *is_apart == apart).map(|(stroke, _)| *stroke);
    let (apart, mixed): (Vec<Stroke>, Vec<Stroke>) = (of(true).collect(), of(false).collect());
    let mut plans = vec![(if can.is_empty() { "calm" } else { "all" }, plan(mixed.clone()))];
    for stroke in apart {
        // A server needs time to come back, and clients to find it.
        let calm = if stroke.is_slow() { (2000, 4000) } else { calm };
        plans.push((stroke.name(), Plan { calm, ..plan(vec![stroke]) }));
    }
    plans.push((LEAKS, Plan { seed, time, strokes: Vec::new(), calm, workloads: alone }));
    // Servers and links come back before the next stroke, so that what is in time is seen.
    let is_plain = |stroke: &Stroke| !stroke.is_answer() && !matches!(stroke, Stroke::Full | Stroke::Crowded);
    let strokes: Vec<_> = mixed.iter().copied().filter(is_plain).collect();
    let workloads = recipes(is_long).iter().map(|workload| workload.name()).collect();
    plans.push((RECIPES, Plan { seed, time, strokes, calm: (2000, 6000), workloads }));
    if has_processes {
        let time = if is_long { time * 4 } else { time };
        let plan = Plan { seed, time, strokes: Vec::new(), calm, workloads: vec!["election"] };
        plans.push((CLIENTS, plan));
    }
    if is_long {
        plans.extend(mixed.iter().map(|stroke| (stroke.name(), plan(vec![*stroke]))));
    }
    plans
}

/// Returns the folder for pictures and tallies.
#[must_use]
pub fn folder() -> PathBuf {
    // It is in Cargo's target folder: every program of a build lies in `target/debug/deps`, or one
    // folder above.
    let program = std::env::current_exe().unwrap_or_default();
    let build = program.ancestors().find(|folder| folder.join("deps").is_dir());
    build.and_then(|build| build.parent()).unwrap_or("target".as_ref()).join("torture")
}

async fn one(
    harness: Arc<dyn Harness>,
    backend: &str,
    name: &str,
    n: usize,
    plan: &Plan,
) -> Result<(), Failure> {
    let prefix = format!("torture-{:x}-{n}/", plan.seed);
    let mut workloads = match name {
        CLIENTS => vec![Box::new(Locks::elections(CANDIDATES).only_clients()) as Box<dyn Workload>],
        RECIPES => recipes(std::env::var_os(LONG).is_some()),
        _ => workloads(CHILDREN),
    };
    let only = std::env::var(ONLY).ok();
    let is_asked = |name: &str| only.as_ref().is_none_or(|only| only.split(',').any(|one| one == name));
    workloads.retain(|workload| plan.workloads.contains(&workload.name()) && is_asked(workload.name()));
    let report = round::run(harness, prefix, &workloads, plan).await?;
    let again = format!("{SEED}={} {SECONDS}={} and the filter {name}", plan.seed, plan.time.as_secs());
    println!("{backend}, {name}; again with {again}\n{}", report.text());
    tally::save(&folder(), backend, name, plan, &report)?;
    let wrong = report.violations().count();
    if wrong == 0 {
        return Ok(());
    }
    let files = report.draw(&folder(), &format!("{backend}-{name}-{}", plan.seed))?;
    let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    Err(format!("{wrong} violations, drawn in {}; again with {again}\n{}", files.join(", "), report.text())
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_is_no_number_is_shown() {
        assert_eq!(read(SEED, "7".as_ref()).expect("a number"), 7);
        for given in ["seven", "-7", "1.5", "", "18446744073709551616"] {
            let says = read(SECONDS, given.as_ref()).expect_err("no number").to_string();
            assert!(says.starts_with(&format!("{SECONDS} is {given:?}; set it to")), "{says}");
        }
    }
}
