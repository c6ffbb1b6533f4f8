//! The terminal, which belongs to one process group at a time: to the command's while that runs, so
//! that it can ask for a password, and to the program's before and behind it.

use super::starter::own;
use rustix::{
    fd::{AsFd, OwnedFd},
    process::{Pid, Signal, WaitOptions, getpgrp, kill_process, kill_process_group, waitpid},
    termios::{tcgetpgrp, tcsetpgrp},
};
use std::{
    ffi::OsString,
    fs::File,
    io::{self, IsTerminal},
    os::unix::{fs::FileTypeExt, process::CommandExt},
    process::Stdio,
};

/// The first argument, by which the program gives a terminal back. It is for the program alone.
pub(super) const WAY_BACK: &str = "--kv-terminal";

/// The terminal that is this program's standard input, and belongs to its process group.
#[derive(Debug)]
pub(super) struct Terminal {
    home: Pid,
}

impl Terminal {
    /// Returns the terminal that a command is to have; `None` where there is none, where it belongs
    /// to another group, and in a pipeline, whose other programs may need it themselves, as a pager
    /// does.
    pub(super) fn of_this_program() -> Option<Self> {
        let terminal = Self { home: getpgrp() };
        (io::stdin().is_terminal() && terminal.is_here() && !is_piped(&io::stdout())).then_some(terminal)
    }

    /// Returns the process group of this program.
    pub(super) fn home(&self) -> Pid {
        self.home
    }

    fn is_here(&self) -> bool {
        tcgetpgrp(io::stdin()).is_ok_and(|has| has == self.home)
    }

    /// Gives it to the command's group, if this program's has it.
    pub(super) fn give_to(&self, group: Pid) {
        if self.is_here() {
            // Without it the command runs in the background.
            let _ = tcsetpgrp(io::stdin(), group);
        }
    }

    /// Stops this program as its command was stopped by this signal, that of ^Z most often. Tells
    /// whether it did so: a command that lacks nothing but the terminal can go on where that is here.
    pub(super) fn stop_with(&self, signal: i32) -> bool {
        if lacks(signal) && self.is_here() {
            return false;
        }
        // It returns when this program goes on; at once where no shell could say so.
        let _ = kill_process_group(self.home, Signal::TSTP);
        true
    }
}

/// Tells whether this signal stops what wants the terminal and does not have it.
pub(super) fn lacks(signal: i32) -> bool {
    [Signal::TTIN, Signal::TTOU].map(Signal::as_raw).contains(&signal)
}

fn is_piped(output: &impl AsFd) -> bool {
    let kind = output.as_fd().try_clone_to_owned().and_then(|file| File::from(file).metadata());
    kind.is_ok_and(|kind| kind.file_type().is_fifo() || kind.file_type().is_socket())
}

/// The way of a terminal from the command's group back to the program's.
#[derive(Debug)]
pub(super) struct WayBack {
    terminal: OwnedFd,
    home: Pid,
}

impl WayBack {
    /// Returns the way back to this group.
    pub(super) fn to(home: Pid, terminal: &OwnedFd) -> io::Result<Self> {
        Ok(Self { terminal: terminal.try_clone()?, home })
    }

    /// Gives the terminal back, if the command's group has it.
    pub(super) fn go(&self, group: Pid) {
        if tcgetpgrp(&self.terminal).is_ok_and(|has| has == group) {
            // The command has what it has; nobody else can do anything about it.
            let _ = self.send(group);
        }
    }

    /// Has a process of the command's group give it back: any other would be stopped for it.
    fn send(&self, group: Pid) -> io::Result<()> {
        let mut gives = own()?;
        gives.arg(WAY_BACK).arg(self.home.as_raw_pid().to_string());
        gives.stdin(Stdio::from(self.terminal.try_clone()?)).stdout(Stdio::null()).stderr(Stdio::null());
        let gives = Pid::from_child(&gives.process_group(group.as_raw_pid()).spawn()?);
        // Another ^Z stops it too.
        while let Ok(Some((_, status))) = waitpid(Some(gives), WaitOptions::UNTRACED) {
            if !status.stopped() {
                break;
            }
            let _ = kill_process(gives, Signal::CONT);
        }
        Ok(())
    }
}

/// Runs as the process that gives the terminal, its standard input, to a group.
pub(super) fn give_back(mut arguments: impl Iterator<Item = OsString>) -> io::Result<()> {
    let home = arguments.next().and_then(|word| word.to_str()?.parse().ok()).and_then(Pid::from_raw);
    let home = home.ok_or_else(|| io::Error::other("it is for the program alone"))?;
    tcsetpgrp(io::stdin(), home)?;
    Ok(())
}
