//! Processes, known by a file `PID START` in the node's folder: by the time of its start a process
//! is told from another that was given its pid.

use super::{APART, say};
use crate::{Stat, error::Error};
use rustix::process::{Pid, Signal, kill_process, setsid};
use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::{Read, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The time between two looks at what is awaited.
pub(crate) const LOOK: Duration = Duration::from_millis(20);
/// The time that a process that was asked to end may take: a Redis that writes its first file
/// refuses to end.
const ENDS: Duration = Duration::from_secs(5);
const IS_KILLED: Duration = Duration::from_secs(10);

/// The state of a node's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    Paused,
    Stopped,
    /// Ended by a kill, or by itself.
    Ended,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Ended => "ended",
        }
    }
}

/// Returns what is said of a process; `None` when it is gone, or dead and only not yet reaped.
fn stat(pid: i32) -> Option<Stat> {
    let stat = Stat::read(Path::new(&format!("/proc/{pid}")))?;
    // The first thread may be dead before the others, which keep its sockets open.
    let is_dead = ["Z", "X"].contains(&&*stat.state) && ["0", "1"].contains(&&*stat.threads);
    (!is_dead).then_some(stat)
}

/// Returns the process that runs in a node's folder.
pub(crate) fn pid_of(node: &Path) -> Option<Pid> {
    let file = fs::read_to_string(node.join("pid")).ok()?;
    let (pid, start) = file.trim_end().split_once(' ')?;
    let pid = pid.parse().ok()?;
    (stat(pid)?.start == start).then(|| Pid::from_raw(pid))?
}

pub(crate) fn state_of(node: &Path) -> State {
    match pid_of(node).map(|pid| stat(pid.as_raw_pid())) {
        Some(Some(stat)) if stat.state == "T" => State::Paused,
        Some(_) => State::Running,
        None if node.join("pid").exists() => State::Ended,
        None => State::Stopped,
    }
}

/// Starts the command in a session of its own, so that it outlives the terminal; what it prints
/// goes to the node's log.
pub(crate) fn spawn(node: &Path, command: &Command) -> Result<(), Error> {
    let own = env::current_exe().map_err(|e| Error::new(format!("this program cannot find itself: {e}")))?;
    let log = node.join("log");
    let open = || File::options().create(true).append(true).open(&log);
    let (out, err) =
        open().and_then(|out| Ok((out, open()?))).map_err(|e| Error::file("written", &log, &e))?;
    let mut apart = Command::new(own);
    apart.arg(APART).arg(command.get_program()).args(command.get_args());
    apart.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let child = without_settings(&mut apart).stdin(Stdio::null()).stdout(out).stderr(err).spawn();
    let child = child.map_err(|e| Error::new(format!("{command:?} cannot be started: {e}")))?;
    let pid = i32::try_from(child.id()).unwrap_or_default();
    let start = stat(pid).map(|stat| stat.start).unwrap_or_default();
    let file = node.join("pid");
    fs::write(&file, format!("{pid} {start}\n")).map_err(|e| Error::file("written", &file, &e))
}

/// Becomes this command, in a session of its own; returns only when that fails.
pub(crate) fn become_apart(command: &[String]) -> Error {
    let Some((program, arguments)) = command.split_first() else {
        return Error::misuse(format!("{APART} COMMAND…"));
    };
    if let Err(e) = setsid() {
        return Error::new(format!("no session of its own for {program}: {e}"));
    }
    let e = Command::new(program).args(arguments).exec();
    Error::new(format!("{program} cannot be started: {e}"))
}

/// Keeps settings of the caller's own servers from leaking into these.
pub(crate) fn without_settings(command: &mut Command) -> &mut Command {
    let is_foreign = |name: &OsString| {
        let name = name.to_string_lossy();
        name.starts_with("ETCD") || name.starts_with("CONSUL_") || name == "REDISCLI_AUTH"
    };
    let own: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
    let foreign = env::vars_os().map(|(name, _)| name).filter(|name| is_foreign(name) && !own.contains(name));
    for name in foreign {
        command.env_remove(name);
    }
    command
}

pub(crate) fn signal(node: &Path, signal: Signal) {
    if let Some(pid) = pid_of(node) {
        // The process may have ended meanwhile.
        let _ = kill_process(pid, signal);
    }
}

fn are_gone_within(patience: Duration, nodes: &[PathBuf]) -> bool {
    let deadline = Instant::now() + patience;
    for node in nodes {
        while pid_of(node).is_some() {
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(LOOK);
        }
    }
    true
}

/// Ends the nodes' processes one after another, so that a cluster's leader still has somebody to
/// hand over to.
pub(crate) fn end(nodes: &[PathBuf]) -> Result<(), Error> {
    for node in nodes {
        signal(node, Signal::TERM);
        signal(node, Signal::CONT);
        if !are_gone_within(ENDS, std::slice::from_ref(node)) {
            let (at, patience) = (node.display(), ENDS.as_secs());
            say(&format!("{at}: not ended by SIGTERM within {patience} s; SIGKILL"));
            end_now(std::slice::from_ref(node))?;
        }
        let _ = fs::remove_file(node.join("pid"));
    }
    Ok(())
}

pub(crate) fn end_now(nodes: &[PathBuf]) -> Result<(), Error> {
    for node in nodes {
        signal(node, Signal::KILL);
    }
    match are_gone_within(IS_KILLED, nodes) {
        true => Ok(()),
        false => Err(Error::new("a process outlived SIGKILL: see ci/servers status")),
    }
}

/// The output of a command, and whether it succeeded.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) is_success: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Runs the command with this as its input, and kills it when it takes longer than this.
    pub(crate) fn by(command: &mut Command, input: &str, patience: Duration) -> Self {
        let piped = without_settings(command).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = match piped.stderr(Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(e) => {
                let err = format!("{:?}: {e}", command.get_program());
                return Self { is_success: false, out: String::new(), err };
            }
        };
        let (out, err) = (reader(child.stdout.take()), reader(child.stderr.take()));
        if let Some(mut stdin) = child.stdin.take() {
            // The command need not read all of its input.
            let _ = stdin.write_all(input.as_bytes());
        }
        let deadline = Instant::now() + patience;
        let status = loop {
            match child.try_wait() {
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
                Ok(Some(status)) => break Some(status),
                _ => {
                    let _ = child.kill();
                    let _ = child.wait();
                    break None;
                }
            }
        };
        let text = |reader: thread::JoinHandle<String>| reader.join().unwrap_or_default();
        Self { is_success: status.is_some_and(|it| it.success()), out: text(out), err: text(err) }
    }

    /// Returns all of the output, or its last line as an error.
    pub(crate) fn ok(self) -> Result<String, Error> {
        match self.is_success {
            true => Ok(self.out),
            false => Err(Error::new(self.last_line())),
        }
    }

    pub(crate) fn last_line(&self) -> String {
        let both = [self.out.trim_end(), self.err.trim_end()].join("\n");
        both.lines().next_back().unwrap_or_default().to_owned()
    }
}

fn reader(from: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut all = Vec::new();
        if let Some(mut from) = from {
            let _ = from.read_to_end(&mut all);
        }
        String::from_utf8_lossy(&all).into_owned()
    })
}
