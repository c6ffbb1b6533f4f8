//! A command as the program sees it: the child of a reaper, which ends it in time.

use super::{
    reaper::REAPER,
    starter::own,
    terminal::{Terminal, lacks},
    tree::{Tree, stands_still},
    wire::{BEGIN, Report, Until, now, send_file},
};
use crate::{
    exit::{Exit, Failure, Run},
    file_turn,
    out::note,
};
use rustix::{
    net::{SendFlags, send},
    process::{Pid, Signal, kill_process, kill_process_group},
};
use std::{
    ffi::OsString,
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{self, ExitStatus, Stdio},
    thread,
    time::Duration,
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{Instant, timeout_at},
};

/// The time in which SIGCONT is here once it has this program go on.
const CONTINUED: Duration = Duration::from_millis(500);

/// The variables that a command has in its environment besides those of the program.
pub(crate) type Environment = Vec<(OsString, OsString)>;

/// A command in a process group of its own, which does not outlive the program.
pub(crate) struct Child {
    name: String,
    control: UnixStream,
    reports: UnboundedReceiver<Report>,
    reaper: Pid,
    /// The group of the command, from the moment on at which it is ready.
    group: Option<Pid>,
    has_begun: bool,
    /// The terminal that the command has while it runs.
    terminal: Option<Terminal>,
    /// The reaper has told that it asked the command to end.
    is_asked: bool,
    /// It was told that the command lacks the terminal.
    is_told: bool,
    /// Signals that came before the command.
    early: Vec<Signal>,
    /// This program was stopped with the command, and goes on. The SIGCONT that it had for that is passed
    /// on, and nothing else has the command go on: a second one could undo the next ^Z. Where this
    /// program could not be stopped none comes, and the command goes on at this moment.
    goes_on_by: Option<Instant>,
}

impl Child {
    /// Starts a command that nothing ends but the end of the program.
    pub(crate) fn start(command: &[OsString], environment: Environment) -> Run<Self> {
        Self::start_until(command, environment, Until::NEVER)
    }

    /// Starts a command that nothing ends but the end of the program, and that never has the
    /// terminal.
    pub(crate) fn start_unattended(command: &[OsString]) -> Run<Self> {
        Self::start_with(command, Vec::new(), Until::NEVER, None)
    }

    /// Starts a command that is ended at these moments, unless they are put off.
    pub(super) fn start_until(command: &[OsString], environment: Environment, until: Until) -> Run<Self> {
        Self::start_with(command, environment, until, Terminal::of_this_program())
    }

    fn start_with(
        command: &[OsString],
        environment: Environment,
        until: Until,
        terminal: Option<Terminal>,
    ) -> Run<Self> {
        let failed = |e: io::Error| Failure::here(format!("the command cannot be watched: {e}"));
        let (control, theirs) = UnixStream::pair().map_err(failed)?;
        let home = terminal.as_ref().map(Terminal::home);
        let reaper = spawn(command, environment, until, home, theirs.into()).map_err(failed)?;
        // A command under a lock in a file has the file as long as it runs.
        let kept = if until == Until::NEVER { Vec::new() } else { file_turn::taken().map_err(failed)? };
        let sent = if terminal.is_none() && io::stdin().is_terminal() {
            // It would be stopped for reading a terminal that another group has.
            File::open("/dev/null").and_then(|nothing| send_file(&control, nothing, &kept))
        } else {
            send_file(&control, io::stdin(), &kept)
        };
        sent.map_err(failed)?;
        let number = Pid::from_child(&reaper);
        let reports = listen(control.try_clone().map_err(failed)?, reaper).map_err(failed)?;
        let name = command.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self::new(name, control, reports, number, terminal))
    }

    /// Makes the child of this reaper, of which nothing is told yet.
    fn new(
        name: String,
        control: UnixStream,
        reports: UnboundedReceiver<Report>,
        reaper: Pid,
        terminal: Option<Terminal>,
    ) -> Self {
        Self {
            name,
            control,
            reports,
            reaper,
            group: None,
            has_begun: false,
            terminal,
            is_asked: false,
            is_told: false,
            early: Vec::new(),
            goes_on_by: None,
        }
    }

    /// Waits for the end of the command, of which nothing is left then. Cancel safe.
    pub(super) async fn ended(&mut self) -> Run<Report> {
        loop {
            let report = match self.goes_on_by {
                None => self.reports.recv().await,
                Some(moment) => {
                    let Ok(report) = timeout_at(moment, self.reports.recv()).await else {
                        self.pass_on(Signal::CONT);
                        continue;
                    };
                    report
                }
            };
            match report {
                Some(Report::Ready(group)) => {
                    self.group = Pid::from_raw(group);
                    if let Some((terminal, group)) = self.terminal.as_ref().zip(self.group) {
                        terminal.give_to(group);
                    }
                    // If the reaper is gone, its reports end too.
                    self.tell(&format!("{BEGIN}\n"));
                }
                Some(Report::Started) => {
                    self.has_begun = true;
                    for signal in std::mem::take(&mut self.early) {
                        self.pass_on(signal);
                    }
                }
                Some(Report::Stopped(signal)) => {
                    if let Some(terminal) = &self.terminal {
                        if terminal.stop_with(signal) {
                            self.goes_on_by = Some(Instant::now() + CONTINUED);
                        } else {
                            self.pass_on(Signal::CONT);
                        }
                    } else if lacks(signal) && !self.is_told {
                        self.is_told = true;
                        note(&format!(
                            "{} stands still: it wants the terminal, which it has not here",
                            self.name
                        ));
                    }
                }
                Some(Report::Asked) => self.is_asked = true,
                Some(Report::NotStarted(error)) => return Err(self.not_started(error)),
                Some(report) => return Ok(report),
                None => return Err(self.is_alone()),
            }
        }
    }

    /// Waits as [`ended`](Self::ended) does, and returns the exit code. Cancel safe.
    pub(crate) async fn exit(&mut self) -> Run {
        self.status().await.map(Exit::of_child)
    }

    /// Waits as [`ended`](Self::ended) does, and returns how it ended. Cancel safe.
    pub(crate) async fn status(&mut self) -> Run<ExitStatus> {
        match self.ended().await? {
            Report::Ended { status, .. } => Ok(status),
            other => Err(Failure::here(format!("{} was not watched: {other:?}", self.name))),
        }
    }

    /// Tells the reaper new moments. If it is gone, its reports end too. One that is stopped reads
    /// nothing, and nobody waits for that: this program has the lock to renew.
    pub(super) fn put_off(&mut self, until: Until) {
        self.tell(&until.line());
    }

    fn tell(&self, line: &str) {
        let _ = send(&self.control, line.as_bytes(), SendFlags::DONTWAIT);
    }

    /// Asks the command to end, and has it killed if it did not within this time.
    pub(crate) fn ask_to_end(&mut self, grace: Duration) {
        self.put_off(Until { term: Duration::ZERO, kill: now() + grace });
    }

    /// Tells whether the reaper was stopped, or has ended.
    pub(super) fn reaper_stands_still(&self) -> bool {
        stands_still(self.reaper)
    }

    /// Asks the command to end where the reaper has not done so, as one that was stopped.
    pub(super) fn ask_in_place_of_the_reaper(&mut self) {
        if let Some(group) = self.group.filter(|_| !self.is_asked) {
            self.is_asked = true;
            self.tree(group).ask_to_end();
        }
    }

    /// Tells whether the command was made ready, and may run.
    pub(super) fn is_ready(&self) -> bool {
        self.group.is_some()
    }

    /// Kills the command.
    pub(super) fn kill(&self) {
        if let Some(group) = self.group {
            self.tree(group).signal(Signal::KILL);
        }
    }

    fn tree(&self, group: Pid) -> Tree {
        Tree::of(group, self.reaper)
    }

    /// Kills a reaper that does not tell of the end of its command. Its reports end with that.
    pub(super) fn kill_the_reaper(&self) {
        let _ = kill_process(self.reaper, Signal::KILL);
    }

    pub(crate) fn pass_on(&mut self, signal: Signal) {
        if signal == Signal::CONT {
            self.goes_on_by = None;
        }
        match self.group {
            Some(group) if self.has_begun => {
                if let Some(terminal) = self.terminal.as_ref().filter(|_| signal == Signal::CONT) {
                    terminal.give_to(group);
                }
                // A group that has ended needs no signal.
                let _ = kill_process_group(group, signal);
                if self.is_told {
                    // One that stands still would not hear of it.
                    let _ = kill_process_group(group, Signal::CONT);
                }
            }
            _ => self.early.push(signal),
        }
    }

    /// Kills the command of a reaper that is gone, since nobody else would.
    fn is_alone(&self) -> Failure {
        if !self.is_ready() {
            return Failure::here("the process that was to start the command was ended before it did");
        }
        self.kill();
        let why = "the process that watches the command was ended; the command was killed";
        Failure::Found(Exit::PARTLY, why.to_owned())
    }

    /// Returns the failure of a command that could not be started, with the exit code of shells.
    fn not_started(&self, error: i32) -> Failure {
        let why = io::Error::from_raw_os_error(error);
        let is_missing = why.kind() == io::ErrorKind::NotFound;
        let exit = if is_missing { Exit::NO_COMMAND } else { Exit::NOT_RUN };
        Failure::Found(exit, format!("{} cannot be started: {why}", self.name))
    }
}

/// Starts the reaper, which starts the command.
fn spawn(
    command: &[OsString],
    environment: Environment,
    until: Until,
    home: Option<Pid>,
    control: OwnedFd,
) -> io::Result<process::Child> {
    let home = home.map_or(0, Pid::as_raw_pid).to_string();
    let mut reaper = own()?;
    reaper.arg(REAPER).args(until.words()).arg(home).args(command).envs(environment);
    reaper.stdin(Stdio::from(control)).process_group(0).spawn()
}

/// Hands on what the reaper tells. The end of it says that the reaper is gone.
fn listen(control: UnixStream, mut reaper: process::Child) -> io::Result<UnboundedReceiver<Report>> {
    let (tell, reports) = unbounded_channel();
    let listens = thread::Builder::new().name("kv-reaper".into());
    listens.spawn(move || {
        for line in BufReader::new(control).lines().map_while(Result::ok) {
            if let Some(report) = Report::of_line(&line) {
                let _ = tell.send(report);
            }
        }
        let _ = reaper.wait();
    })?;
    Ok(reports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reaper_that_is_stopped_and_reads_nothing_keeps_nobody() {
        let (control, _theirs) = UnixStream::pair().unwrap();
        let (_tell, reports) = unbounded_channel();
        let mut child = Child::new(String::new(), control, reports, rustix::process::getpid(), None);
        for _ in 0..10_000 {
            child.put_off(Until::NEVER);
        }
    }
}
