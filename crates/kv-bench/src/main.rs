//! Measures calls through `Kv` beside the clients that they stand on, on real servers, and writes
//! `docs/performance.md`: `kv-bench --quick` or `kv-bench --full`, in the workspace's folder.

mod arguments;
mod backends;
mod built;
mod cell;
mod counts;
mod drive;
mod growth;
mod handle;
mod histogram;
mod machine;
mod report;
mod rounds;
mod side;
mod stats;

use arguments::Arguments;
use cell::Cell;
use machine::Machine;
use report::{Part, Report};
use rounds::Plan;
use side::Done;
use std::{path::PathBuf, process::ExitCode, time::Duration};

fn main() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("kv-bench: {e}");
            ExitCode::FAILURE
        }
    }
}

impl Plan {
    fn of(is_full: bool) -> Self {
        match is_full {
            true => Self { rounds: 9, time: Duration::from_millis(600), warm: Duration::from_millis(300) },
            false => Self { rounds: 4, time: Duration::from_millis(150), warm: Duration::from_millis(50) },
        }
    }
}

fn work() -> Done<()> {
    let arguments = Arguments::read(std::env::args().skip(1))?;
    let plan = Plan::of(arguments.is_full);
    let mut parts = Vec::new();
    for name in &arguments.backends {
        // A runtime for each: what one backend leaves running is gone before the next one.
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        parts.push(runtime.block_on(part(name, &arguments, plan)).map_err(|e| format!("{name}: {e}"))?);
        runtime.shutdown_timeout(Duration::from_secs(10));
    }
    let (mut handle, mut builds) = (Vec::new(), Vec::new());
    if !arguments.is_part {
        eprintln!("the handle");
        handle = handle::measure()?;
        if arguments.is_full {
            eprintln!("builds");
            builds = built::measure(&arguments.backends)?;
        }
    }
    let report = Report { machine: Machine::look(), is_full: arguments.is_full, plan, parts, handle, builds };
    match (arguments.out, arguments.is_part) {
        (None, true) => println!("{}", report.page()),
        (out, _) => {
            let folder = out.unwrap_or_else(|| PathBuf::from("docs"));
            report.write(&folder)?;
            println!("{} written", folder.join("performance.md").display());
        }
    }
    Ok(())
}

/// Starts a backend, and measures all that was asked for on it.
async fn part(name: &str, arguments: &Arguments, plan: Plan) -> Done<Part> {
    let found = backends::ALL.iter().find(|(known, _)| *known == name);
    let &(name, start) = found.ok_or("an unknown backend")?;
    let folder = match &arguments.data {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    eprintln!("{name}: starts");
    let backend = start(folder.path()).await?;
    let mut cells = Vec::new();
    let asked = |cell: &Cell| arguments.ops.contains(&cell.op) && cell.size <= backend.largest;
    for cell in Cell::all(arguments.is_full).into_iter().filter(asked) {
        eprintln!("{name}: {cell}");
        cells.push(rounds::measure(cell, &backend.sides, plan).await?);
    }
    let mut counted = None;
    if let Some(counter) = &backend.counter {
        eprintln!("{name}: requests");
        let counts = counts::count(counter.as_ref(), &backend.sides, &arguments.ops).await?;
        counted = Some((counter.name(), counts));
    }
    eprintln!("{name}: growth");
    let growth = growth::measure(&backend, &arguments.ops, arguments.is_full, plan.time * 2).await?;
    backend.kv.close().await?;
    drop(backend.keep);
    Ok(Part { name, version: backend.version, cells, counted, growth })
}
