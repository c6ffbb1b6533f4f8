//! The reaper: a small process between the program and a command that runs under a lock. It is the
//! command's parent, and ends the command's whole process group in time by itself. So the command
//! does not outlive the lock when the program is stopped or killed.

use super::{
    signals::Signals,
    wire::{Report, Until, now, receive_file},
};
use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitOptions, kill_process_group, test_kill_process_group, wait},
};
use std::{
    env,
    ffi::OsString,
    io::{self, BufRead, BufReader, Write},
    os::{
        fd::AsFd,
        unix::{
            net::UnixStream,
            process::{CommandExt, ExitStatusExt},
        },
    },
    process::{Command, ExitCode, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};
use tokio::runtime::{Builder, Runtime};

/// The first argument, by which the program is its own reaper. It is for the program alone.
pub(super) const REAPER: &str = "--kv-reaper";
/// The longest nap: timers stand still while the machine is suspended, and the clock does not.
const NAP: Duration = Duration::from_millis(200);
/// The time between two looks at whether a group is gone, of which nothing tells.
const LOOK: Duration = Duration::from_millis(10);
/// The time that the system may take to end processes that were killed.
const IS_KILLED: Duration = Duration::from_secs(1);

/// Tells whether the program was called as a reaper, and if so runs as one.
pub(crate) fn called() -> Option<ExitCode> {
    let mut arguments = env::args_os().skip(1);
    if arguments.next()? != REAPER {
        return None;
    }
    Some(match reap(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        // The program sees the end of the stream.
        Err(_) => ExitCode::FAILURE,
    })
}

enum Event {
    Renewed(Until),
    /// The program is gone.
    Alone,
    Ended(ExitStatus),
}

fn reap(mut arguments: impl Iterator<Item = OsString>) -> io::Result<()> {
    let _runtime = outlive_signals()?;
    let misuse = || io::Error::other("it is for the program alone");
    let mut moment = || arguments.next().and_then(|word| word.into_string().ok());
    let (term, kill) = moment().zip(moment()).ok_or_else(misuse)?;
    let until = Until::parse(&term, &kill).ok_or_else(misuse)?;
    let program = arguments.next().ok_or_else(misuse)?;
    let mut control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let input = receive_file(&control)?;

    let mut tell = |report: Report| control.write_all(report.line().as_bytes());
    if now() >= until.term {
        return tell(Report::Late);
    }
    // What the command leaves without a parent becomes a child of this process, and not of the
    // system's first one, which may be a container's command that looks after nobody.
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let started = Command::new(program).args(arguments).stdin(Stdio::from(input)).process_group(0).spawn();
    let group = match started {
        Ok(child) => Pid::from_child(&child),
        Err(e) => return tell(Report::NotStarted(e.raw_os_error().unwrap_or(0))),
    };
    // From here on nobody being there to be told is no reason to stop.
    let _ = tell(Report::Started(group.as_raw_pid()));

    let (events, heard) = mpsc::channel();
    let (renewals, ends) = (events.clone(), events);
    let listens = control.try_clone()?;
    thread::spawn(move || {
        for line in BufReader::new(listens).lines().map_while(Result::ok) {
            if let Some(until) = Until::of_line(&line) {
                let _ = renewals.send(Event::Renewed(until));
            }
        }
        let _ = renewals.send(Event::Alone);
    });
    thread::spawn(move || wait_for_all(group, &ends));
    let asks = || {
        ask_to_end(group);
        let _ = (&control).write_all(Report::Asked.line().as_bytes());
    };
    let (status, asked, until) = watch(group, until, &heard, asks)?;
    end_the_rest(group, until);
    let _ = control.write_all(Report::Ended { status, asked }.line().as_bytes());
    Ok(())
}

/// Has the signals that are passed on to a command not end this process: whoever ends all processes
/// of a service at once sends them to this one too, which still has to watch the command. They are
/// handled and not ignored, for a command would inherit that.
fn outlive_signals() -> io::Result<Runtime> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    {
        let _entered = runtime.enter();
        Signals::catch().map_err(|_| io::Error::other("signals cannot be caught"))?;
    }
    Ok(runtime)
}

/// Waits for all children, and tells of the end of the command.
fn wait_for_all(command: Pid, ends: &Sender<Event>) {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((child, status))) if child == command => {
                let _ = ends.send(Event::Ended(ExitStatus::from_raw(status.as_raw())));
            }
            Ok(_) | Err(Errno::INTR) => {}
            // There is none left.
            Err(_) => return,
        }
    }
}

/// Waits for the end of the command, and when its time is over asks it to end by `asks`, and kills it
/// in the end. Returns how it ended, whether it was asked to, and its last moments.
fn watch(
    group: Pid,
    mut until: Until,
    heard: &Receiver<Event>,
    asks: impl Fn(),
) -> io::Result<(ExitStatus, bool, Until)> {
    let (mut asked, mut killed) = (false, false);
    loop {
        let now = now();
        if now >= until.term && !asked {
            asked = true;
            asks();
        }
        if now >= until.kill && !killed {
            killed = true;
            signal(group, Signal::KILL);
        }
        let next = match (asked, killed) {
            (false, _) => until.term.min(until.kill),
            (true, false) => until.kill,
            (true, true) => Duration::MAX,
        };
        match heard.recv_timeout(next.saturating_sub(now).min(NAP)) {
            // What was asked to end does not go on.
            Ok(Event::Renewed(new)) if asked => until.kill = until.kill.min(new.kill),
            Ok(Event::Renewed(new)) => until = new,
            Ok(Event::Alone) => {
                let grace = until.kill.saturating_sub(until.term);
                until = Until { term: Duration::ZERO, kill: until.kill.min(now + grace) };
            }
            Ok(Event::Ended(status)) => return Ok((status, asked, until)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                signal(group, Signal::KILL);
                return Err(io::Error::other("nothing tells of the command any more"));
            }
        }
    }
}

/// Ends what a command has left behind in its group: without it, the lock is for nothing.
fn end_the_rest(group: Pid, until: Until) {
    if is_gone(group) {
        return;
    }
    ask_to_end(group);
    let grace = until.kill.saturating_sub(until.term.max(now()));
    if !is_gone_by(group, now() + grace) {
        signal(group, Signal::KILL);
        is_gone_by(group, now() + IS_KILLED);
    }
}

fn is_gone_by(group: Pid, moment: Duration) -> bool {
    while !is_gone(group) {
        if now() >= moment {
            return false;
        }
        thread::sleep(LOOK);
    }
    true
}

fn is_gone(group: Pid) -> bool {
    test_kill_process_group(group) == Err(Errno::SRCH)
}

/// Asks a group to end, those of it too that were stopped.
pub(super) fn ask_to_end(group: Pid) {
    signal(group, Signal::TERM);
    signal(group, Signal::CONT);
}

/// Sends a signal to a group. One that is gone needs none.
fn signal(group: Pid, signal: Signal) {
    let _ = kill_process_group(group, signal);
}
