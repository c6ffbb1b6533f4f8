//! Brings nodes up: starts those that do not run, and waits for all of them.

use super::{
    ports,
    process::{self, LOOK, State},
    spec::Spec,
};
use crate::{error::Error, named};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

const READY: Duration = Duration::from_secs(30);
const SHOWN: usize = 5;

/// The nodes that were started; they are ended when the rest fails.
struct Started(Vec<PathBuf>);

impl Drop for Started {
    fn drop(&mut self) {
        if let Err(e) = process::end_now(&self.0) {
            super::say(&e.to_string());
        }
    }
}

/// Starts those of these nodes that do not run; returns when all of them serve.
pub(super) fn bring_up(spec: &Spec, numbers: &[usize]) -> Result<(), Error> {
    let mut started = Started(Vec::new());
    for &number in numbers {
        let node = spec.node(number);
        match process::state_of(&node) {
            State::Running => {}
            State::Paused => {
                let name = &spec.name;
                return Err(Error::new(format!(
                    "{name}: node {number} is paused; to let it go on: ci/servers resume {name}"
                )));
            }
            State::Stopped | State::Ended => {
                make(spec, number)?;
                let command = named::of(spec.kind).command(spec, number)?;
                started.0.push(node.clone());
                process::spawn(&node, &command)?;
            }
        }
    }
    let deadline = Instant::now() + READY;
    for &number in numbers {
        serves(spec, number, deadline)?;
    }
    named::of(spec.kind).prepare(spec)?;
    started.0.clear();
    Ok(())
}

fn make(spec: &Spec, number: usize) -> Result<(), Error> {
    for nth in 0..named::of(spec.kind).ports() {
        let port = spec.address(number, nth).port();
        if ports::is_taken(port) {
            let name = &spec.name;
            return Err(Error::new(format!(
                "{name}: its port {port} is taken by another program; end that, or wipe {name}"
            )));
        }
    }
    let data = spec.data(number);
    let private = |at: &Path| fs::set_permissions(at, Permissions::from_mode(0o700));
    fs::create_dir_all(&data)
        .and_then(|()| private(&spec.node(number)))
        .map_err(|e| Error::file("made", &data, &e))
}

fn serves(spec: &Spec, number: usize, deadline: Instant) -> Result<(), Error> {
    let node = spec.node(number);
    let failed = |how: &str| {
        let log = node.join("log");
        let text = fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(SHOWN)..] {
            eprintln!("{line}");
        }
        Error::new(format!("{}: node {number} {how}; log: {}", spec.name, log.display()))
    };
    while !named::of(spec.kind).is_ready(spec, number) {
        if process::pid_of(&node).is_none() {
            return Err(failed("ended at once"));
        }
        if Instant::now() > deadline {
            return Err(failed(&format!("is not ready within {} s", READY.as_secs())));
        }
        thread::sleep(LOOK);
    }
    let pid = process::pid_of(&node).ok_or_else(|| failed("ended at once"))?;
    let beyond = ports::beyond_loopback(pid);
    match beyond.is_empty() {
        true => Ok(()),
        false => Err(failed(&format!("listens beyond loopback ({})", beyond.join(" ")))),
    }
}
