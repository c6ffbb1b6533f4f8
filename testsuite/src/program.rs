//! The test program of a backend.

use crate::{
    Failure, Harness, Options, Outcome, cases,
    lateness::Lateness,
    matrix,
    run::{Runner, text},
    sites::{Make, Sites},
};
use futures::FutureExt;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use std::{
    future::Future,
    process,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Does all that a backend's `tests/conformance.rs` has to do, with `harness = false` in its
/// `Cargo.toml`: makes the harness, runs every case on it as a test program does
/// (`cargo test -p kv-mine -- ttl --test-threads 1`), one line a case, drops the harness, and
/// ends the program. Where the harness has a server that can be taken away, it makes one more, so
/// that the cases that take it away are tried beside the others.
///
/// A run without a filter ends with a matrix, clause by clause, which is written to a file too:
/// see [`matrix`].
///
/// The program says why and fails when the harness cannot be made; it never skips.
pub fn main<H, F>(make: impl Fn() -> F + Send + Sync + 'static) -> !
where
    H: Harness,
    F: Future<Output = Result<H, Failure>> + Send + 'static,
{
    let make: Make = Box::new(move || make().map(|made| Ok(Arc::new(made?) as Arc<dyn Harness>)).boxed());
    process::exit(i32::from(whole(make)))
}

const FAILED: u8 = 101;

fn whole(make: Make) -> u8 {
    let mut arguments = Arguments::from_args();
    let cases = cases::all();
    // Most cases wait most of the time; those that take a server away wait for their turn first.
    let at_once = arguments.test_threads.unwrap_or(Options::default().at_once);
    let alone = cases.iter().filter(|case| case.takes_server).count();
    arguments.test_threads.get_or_insert(at_once + alone);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(4, |n| n.get().max(4)))
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => return failed("a runtime could not be started", &e),
    };
    let ready = runtime.block_on(runtime.spawn(async move {
        let sites = Arc::new(Sites::several(make).await?);
        let runner = Runner::new(sites.clone(), Options::default().at_once(at_once)).await;
        Ok::<_, Failure>((sites, runner))
    }));
    let code = match ready {
        Ok(Ok((sites, runner))) => {
            let code = match runner {
                Ok(runner) => all(&arguments, &**sites.harness(), runner, runtime.handle()),
                Err(e) => failed("the store to be tested could not be opened", &e),
            };
            // The harnesses are dropped here, where they may still need the runtime to stop their
            // servers.
            let _inside = runtime.enter();
            drop(sites);
            code
        }
        Ok(Err(e)) => failed("the store to be tested could not be opened", &*e),
        Err(e) => match e.try_into_panic() {
            Ok(panic) => failed("the store to be tested could not be opened", &text(&*panic)),
            Err(e) => failed("the store to be tested could not be opened", &e),
        },
    };
    runtime.shutdown_timeout(Duration::from_secs(10));
    code
}

fn failed(what: &str, why: &dyn std::fmt::Display) -> u8 {
    eprintln!("{what}: {why}");
    FAILED
}

fn all(arguments: &Arguments, harness: &dyn Harness, runner: Runner, runtime: &tokio::runtime::Handle) -> u8 {
    let (backend, results) = (harness.name(), Arc::new(Mutex::new(Vec::new())));
    let lateness = {
        let _inside = runtime.enter();
        Lateness::watch()
    };
    let mut cases: Vec<_> = cases::all().into_iter().enumerate().collect();
    // Few of them run at once: whoever waited for them at the end would wait long.
    cases.sort_by_key(|(_, case)| !case.takes_server);
    let trials = cases.into_iter().map(|(at, case)| {
        let (runner, runtime, results) = (runner.clone(), runtime.clone(), results.clone());
        let lateness = lateness.clone();
        Trial::ignorable_test(format!("{backend}::{}", case.name), move || {
            let began = Instant::now();
            let outcome = runtime.block_on(runner.one(case));
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            results.push((at, case, outcome.clone()));
            match outcome {
                Outcome::Kept => Ok(Completion::Completed),
                Outcome::Ignored(reason) => Ok(Completion::ignored_with(reason)),
                Outcome::Broken(why) => {
                    let late = lateness.since(began).map(|late| format!("\n{late}"));
                    Err(Failed::from(format!("{}\n{why}{}", case.promise, late.unwrap_or_default())))
                }
            }
        })
    });
    let conclusion = libtest_mimic::run(arguments, trials.collect());
    let mut results = std::mem::take(&mut *results.lock().unwrap_or_else(PoisonError::into_inner));
    if results.len() == cases::all().len() {
        results.sort_by_key(|(at, ..)| *at);
        let results = results.into_iter().map(|(_, case, outcome)| (case, outcome)).collect();
        let column = matrix::Column::from(&runner.report(results));
        println!("{}", column.summary());
        if harness.is_documented()
            && let Err(e) = matrix::folder().and_then(|folder| column.save(&folder))
        {
            return failed("the matrix could not be written", &e);
        }
    }
    if conclusion.has_failed() { FAILED } else { 0 }
}
