//! The starter: a process that is to become the command. It has the command's process group, and
//! waits for the word to begin, so that all who may have to end the group know of it before the
//! command does anything.

use super::wire::{receive_file, send_file};
use rustix::{
    fd::{AsFd, OwnedFd},
    process::Pid,
};
use std::{
    env,
    ffi::OsString,
    io::{self, Read, Write},
    os::unix::{net::UnixStream, process::CommandExt},
    path::PathBuf,
    process::{self, Command, Stdio},
};

/// The first argument, by which the program is a starter. It is for the program alone.
pub(super) const STARTER: &str = "--kv-starter";

/// A command that was made ready, and does not run yet.
#[derive(Debug)]
pub(super) struct Ready {
    control: UnixStream,
    group: Pid,
}

impl Ready {
    /// Makes a command ready, in a process group of its own.
    pub(super) fn make(program: OsString, arguments: impl Iterator<Item = OsString>) -> io::Result<Self> {
        let (control, theirs) = UnixStream::pair()?;
        let mut starter = own()?;
        starter.arg(STARTER).arg(process::id().to_string()).arg(program).args(arguments);
        let starter = starter.stdin(Stdio::from(OwnedFd::from(theirs))).process_group(0).spawn()?;
        Ok(Self { control, group: Pid::from_child(&starter) })
    }

    /// Returns the number of the command, which is that of its group.
    pub(super) fn group(&self) -> Pid {
        self.group
    }

    /// Returns what tells whether it has begun.
    pub(super) fn beginning(&self) -> io::Result<Beginning> {
        Ok(Beginning(self.control.try_clone()?))
    }

    /// Has it begin, with this standard input. One that was ended before does nothing.
    pub(super) fn begin(self, input: &OwnedFd) {
        let _ = send_file(&self.control, input, &[]);
    }
}

/// The beginning of a command.
#[derive(Debug)]
pub(super) struct Beginning(UnixStream);

impl Beginning {
    /// Waits until the command runs, or was ended before; returns the error of the system for one
    /// that cannot be run.
    pub(super) fn error(mut self) -> Option<i32> {
        let mut said = String::new();
        // The end of the stream comes with the command's first moment.
        self.0.read_to_string(&mut said).ok()?;
        said.trim().parse().ok()
    }
}

/// Runs as a starter: waits for the word, and becomes the command. It returns where that fails.
pub(super) fn start(mut arguments: impl Iterator<Item = OsString>) -> io::Result<()> {
    // Where nobody is left who watches the command, the system ends it.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let misuse = || io::Error::other("it is for the program alone");
    let parent = arguments.next().and_then(|parent| parent.to_str()?.parse().ok()).ok_or_else(misuse)?;
    // It may have ended before it could be watched.
    if rustix::process::getppid().map(Pid::as_raw_pid) != Some(parent) {
        return Err(io::Error::other("the process that watches the command has ended"));
    }
    let program = arguments.next().ok_or_else(misuse)?;
    let mut control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // It fails where the process that has the word is gone.
    let (input, _) = receive_file(&control)?;
    let why = Command::new(program).args(arguments).stdin(Stdio::from(input)).exec();
    control.write_all(why.raw_os_error().unwrap_or(0).to_string().as_bytes())
}

/// Returns this program, to be run in another of its parts.
pub(super) fn own() -> io::Result<Command> {
    let own = if cfg!(target_os = "linux") { PathBuf::from("/proc/self/exe") } else { env::current_exe()? };
    let mut own = Command::new(own);
    own.arg0("kv");
    Ok(own)
}
