//! The reaper: a small process between the program and a command that runs under a lock. It is the
//! command's parent, and ends the command, and all that it began in its session, in time by itself.
//! So the command does not outlive the lock when the program is stopped or killed.

use super::{
    signals::Signals,
    starter::{Beginning, Ready},
    terminal::WayBack,
    tree::Tree,
    wire::{BEGIN, Report, Until, now, receive_file},
};
use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpid, wait, waitid},
};
use std::{
    ffi::OsString,
    io::{self, BufRead, BufReader, Write},
    os::{
        fd::AsFd,
        unix::{net::UnixStream, process::ExitStatusExt},
    },
    process::ExitStatus,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};
use tokio::runtime::{Builder, Runtime};

/// The first argument, by which the program is its own reaper. It is for the program alone.
pub(super) const REAPER: &str = "--kv-reaper";
/// The longest nap: timers stand still while the machine is suspended, and the clock does not.
const NAP: Duration = Duration::from_millis(200);
/// The time between two looks at whether a command is gone, of which nothing tells.
const LOOK: Duration = Duration::from_millis(10);
/// The time that the system may take to end processes that were killed: only those that it cannot end
/// take so long.
const IS_KILLED: Duration = Duration::from_secs(10);

enum Event {
    Renewed(Until),
    /// The program knows of the command, which is to begin.
    Begin,
    /// The program is gone.
    Alone,
    Started,
    NotStarted(i32),
    Stopped(i32),
    Ended(ExitStatus),
}

/// Runs as a reaper.
pub(super) fn reap(mut arguments: impl Iterator<Item = OsString>) -> io::Result<()> {
    let _runtime = outlive_signals()?;
    let misuse = || io::Error::other("it is for the program alone");
    let mut word = || arguments.next().and_then(|word| word.into_string().ok());
    let (term, kill) = word().zip(word()).ok_or_else(misuse)?;
    let until = Until::parse(&term, &kill).ok_or_else(misuse)?;
    let home: i32 = word().and_then(|home| home.parse().ok()).ok_or_else(misuse)?;
    let program = arguments.next().ok_or_else(misuse)?;
    let control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // Others get the files only when this process has ended, and with it the command.
    let (input, _kept) = receive_file(&control)?;
    let way_back = Pid::from_raw(home).map(|home| WayBack::to(home, &input)).transpose()?;

    let tell = |report: Report| (&control).write_all(report.line().as_bytes());
    if now() >= until.term {
        return tell(Report::Late);
    }
    // What the command leaves without a parent becomes a child of this process, and not of the
    // system's first one, which may be a container's command that looks after nobody.
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(getpid()))?;
    let ready = match Ready::make(program, arguments) {
        Ok(ready) => ready,
        Err(e) => return tell(Report::NotStarted(e.raw_os_error().unwrap_or(0))),
    };
    let (group, beginning) = (ready.group(), ready.beginning()?);
    // From here on nobody being there to be told is no reason to stop.
    let _ = tell(Report::Ready(group.as_raw_pid()));

    let (events, heard) = mpsc::channel();
    let (renewals, ends) = (events.clone(), events);
    let listens = control.try_clone()?;
    thread::spawn(move || {
        for line in BufReader::new(listens).lines().map_while(Result::ok) {
            let told =
                if line == BEGIN { Some(Event::Begin) } else { Until::of_line(&line).map(Event::Renewed) };
            if let Some(told) = told {
                let _ = renewals.send(told);
            }
        }
        let _ = renewals.send(Event::Alone);
    });
    thread::spawn(move || {
        begins(beginning, &ends);
        if let Some(way_back) = way_back {
            take_back(group, &way_back, &ends);
        }
        wait_for_all(group, &ends);
    });
    let mut ready = Some(ready);
    let begin = || {
        if let Some(ready) = ready.take() {
            ready.begin(&input);
        }
    };
    let told = |report| drop(tell(report));
    let tree = Tree::of(group, getpid());
    let (report, until) = watch(tree, until, &heard, begin, told)?;
    end_the_rest(tree, until);
    told(report);
    Ok(())
}

/// Waits for the beginning of the command, and tells of it.
fn begins(beginning: Beginning, events: &Sender<Event>) {
    let _ = events.send(match beginning.error() {
        Some(error) => Event::NotStarted(error),
        None => Event::Started,
    });
}

/// Waits for the end of the command, which has a terminal, and takes that back then, and when it is
/// stopped.
fn take_back(command: Pid, way_back: &WayBack, events: &Sender<Event>) {
    let (id, stops) = (WaitId::Pid(command), WaitIdOptions::STOPPED);
    loop {
        match waitid(id.clone(), stops | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Ok(Some(status)) if status.stopped() => {
                way_back.go(command);
                // The next stop is another one.
                let _ = waitid(id.clone(), stops | WaitIdOptions::NOHANG);
                let _ = events.send(Event::Stopped(status.stopping_signal().unwrap_or(0)));
            }
            Err(Errno::INTR) => {}
            // Nobody has taken note of its end yet, so that it still has its group.
            _ => return way_back.go(command),
        }
    }
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
        match wait(WaitOptions::UNTRACED) {
            Ok(Some((child, status))) if child == command && status.stopped() => {
                let _ = ends.send(Event::Stopped(status.stopping_signal().unwrap_or(0)));
            }
            Ok(Some((child, status))) if child == command => {
                let _ = ends.send(Event::Ended(ExitStatus::from_raw(status.as_raw())));
            }
            Ok(_) | Err(Errno::INTR) => {}
            // There is none left.
            Err(_) => return,
        }
    }
}

/// Has the command begin when the program knows of it, waits for its end, and when its time is over
/// asks it to end, and kills it in the end. Returns how it ended, and its last moments.
fn watch(
    tree: Tree,
    mut until: Until,
    heard: &Receiver<Event>,
    mut begin: impl FnMut(),
    tell: impl Fn(Report),
) -> io::Result<(Report, Until)> {
    let (mut asked, mut killed) = (false, false);
    loop {
        let now = now();
        if now >= until.term && !asked {
            asked = true;
            tree.ask_to_end();
            tell(Report::Asked);
        }
        if now >= until.kill && !killed {
            killed = true;
            tree.signal(Signal::KILL);
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
            // Nor does it begin.
            Ok(Event::Begin) if asked || self::now() >= until.term => {}
            Ok(Event::Begin) => begin(),
            Ok(Event::Started) => tell(Report::Started),
            Ok(Event::Stopped(signal)) => tell(Report::Stopped(signal)),
            Ok(Event::NotStarted(error)) => return Ok((Report::NotStarted(error), until)),
            Ok(Event::Alone) => {
                let grace = until.kill.saturating_sub(until.term);
                until = Until { term: Duration::ZERO, kill: until.kill.min(now + grace) };
            }
            Ok(Event::Ended(status)) => return Ok((Report::Ended { status, asked }, until)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                tree.signal(Signal::KILL);
                return Err(io::Error::other("nothing tells of the command any more"));
            }
        }
    }
}

/// Ends what a command has left behind: without it, the lock is for nothing.
fn end_the_rest(tree: Tree, until: Until) {
    if tree.is_gone() {
        return;
    }
    tree.ask_to_end();
    let grace = until.kill.saturating_sub(until.term.max(now()));
    if !is_gone_by(now() + grace, || tree.is_gone()) {
        is_gone_by(now() + IS_KILLED, || {
            // Also what began while the others were killed.
            tree.signal(Signal::KILL);
            tree.is_gone()
        });
    }
}

fn is_gone_by(moment: Duration, is_gone: impl Fn() -> bool) -> bool {
    while !is_gone() {
        if now() >= moment {
            return false;
        }
        thread::sleep(LOOK);
    }
    true
}
