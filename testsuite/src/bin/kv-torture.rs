//! Runs workloads under fire on every backend, or on some: `kv-torture [--long] [--seed N]
//! [--seeds N] [--seconds N] [--only WORKLOAD,...] [--write] [--last] [BACKEND...]`, in the
//! workspace's folder.
//!
//! The program runs each backend's `tests/torture.rs` as a test program, once for each seed. It
//! ends with a table of what was seen, and fails when there was a violation; `--write` puts the
//! table into `docs/torture.md`. `--last` runs nothing: the table is of the last run.

use kv_testsuite::{
    Failure,
    torture::{self, tally},
};
use std::{fs, process::Command, process::ExitCode, time::SystemTime};

/// The backends by name, each with its crate and test program.
const BACKENDS: &[(&str, &str, &str)] = &[
    ("memory", "kv-memory", "torture"),
    ("redb", "kv-redb", "torture"),
    ("etcd", "kv-etcd", "torture"),
    ("consul", "kv-consul", "torture"),
    ("zookeeper", "kv-zookeeper", "torture"),
    ("redis", "kv-redis", "torture"),
    ("dynamodb", "kv-dynamodb", "torture"),
    ("etcd-cluster", "kv-etcd", "torture_cluster"),
    ("consul-cluster", "kv-consul", "torture_cluster"),
    ("zookeeper-cluster", "kv-zookeeper", "torture_cluster"),
    ("redis-cluster", "kv-redis", "torture_cluster"),
    ("redis-spread", "kv-redis", "torture_spread"),
];
const USAGE: &str = "usage: kv-torture [--long] [--seed N] [--seeds N] [--seconds N] [--only WORKLOAD,...] [--write] \
                     [--last] [BACKEND...]";
const BEGIN: &str = "<!-- torture:begin -->\n";
const END: &str = "<!-- torture:end -->";

fn main() -> ExitCode {
    match work() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("kv-torture: {e}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Default)]
struct Asked {
    long: bool,
    write: bool,
    last: bool,
    seed: Option<u64>,
    seeds: Option<u64>,
    seconds: Option<u64>,
    only: Option<String>,
    backends: Vec<&'static (&'static str, &'static str, &'static str)>,
}

impl Asked {
    fn read(arguments: impl IntoIterator<Item = String>) -> Result<Self, Failure> {
        let (mut asked, mut arguments) = (Self::default(), arguments.into_iter());
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} lacks its value; {USAGE}"));
            let number = |text: String| text.parse().map_err(|e| format!("{argument} {text}: {e}; {USAGE}"));
            match argument.as_str() {
                "--long" => asked.long = true,
                "--write" => asked.write = true,
                "--last" => asked.last = true,
                "--seed" => asked.seed = Some(number(value()?)?),
                "--seeds" => asked.seeds = Some(number(value()?)?),
                "--seconds" => asked.seconds = Some(number(value()?)?),
                "--only" => asked.only = Some(value()?),
                name => match BACKENDS.iter().find(|(known, ..)| *known == name) {
                    Some(backend) => asked.backends.push(backend),
                    None => {
                        let known: Vec<_> = BACKENDS.iter().map(|(known, ..)| *known).collect();
                        let known = known.join(", ");
                        return Err(format!("unknown {name:?}; backends are {known}; {USAGE}").into());
                    }
                },
            }
        }
        if asked.backends.is_empty() {
            asked.backends = BACKENDS.iter().collect();
        }
        Ok(asked)
    }
}

fn work() -> Result<bool, Failure> {
    let asked = Asked::read(std::env::args().skip(1))?;
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let first = asked.seed.unwrap_or(clock);
    let folder = torture::folder();
    if folder.exists() && !asked.last {
        // The table is of this run alone.
        fs::remove_dir_all(&folder)?;
    }
    let (mut went_well, mut not_run) = (true, Vec::new());
    let runs = if asked.last { 0 } else { asked.seeds.unwrap_or(1) };
    for seed in first..first + runs {
        for (name, package, program) in &asked.backends {
            let mut test = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            test.args(["test", "--locked", "--quiet", "-p", package, "--test", program]);
            test.env(torture::SEED, seed.to_string());
            if let Some(seconds) = asked.seconds {
                test.env(torture::SECONDS, seconds.to_string());
            }
            if let Some(only) = &asked.only {
                test.env(torture::ONLY, only);
            }
            if asked.long {
                test.env(torture::LONG, "1");
            }
            match test.status()?.code() {
                Some(0) => {}
                // The program says so when this machine has no namespaces.
                Some(77) => not_run.push(*name),
                _ => went_well = false,
            }
        }
    }
    let table = tally::table(&tally::load(&folder)?);
    println!("{table}");
    if !not_run.is_empty() {
        println!("not run, for what this machine lacks: {}", not_run.join(", "));
    }
    if asked.write {
        let page = "docs/torture.md";
        let text = fs::read_to_string(page).map_err(|e| format!("{page}: {e}"))?;
        let (head, rest) = text.split_once(BEGIN).ok_or_else(|| format!("{page} lacks {BEGIN:?}"))?;
        let (_, tail) = rest.split_once(END).ok_or_else(|| format!("{page} lacks {END:?}"))?;
        fs::write(page, format!("{head}{BEGIN}{table}{END}{tail}"))?;
    }
    Ok(went_well)
}
