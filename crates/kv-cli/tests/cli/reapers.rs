//! The process that watches a command is killed at the worst moment.

use crate::program::{Place, until};
use rustix::process::{Pid, Signal, kill_process};
use std::{fs, process::Stdio};

/// Waits until a process has a child, and returns its number. It does not sleep: the moment behind
/// that counts.
fn child_of(process: u32) -> u32 {
    let path = format!("/proc/{process}/task/{process}/children");
    let mut child = None;
    while child.is_none() {
        let children = fs::read_to_string(&path).expect("it has ended before it had a child");
        child = children.split_whitespace().next().map(|child| child.parse().unwrap());
    }
    child.unwrap()
}

/// Tells whether a process has ended, although nobody may have taken note of it.
fn has_ended(process: u32) -> bool {
    let state = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    state.is_empty() || state.contains(") Z ")
}

#[test]
fn no_command_is_left_when_what_watches_it_is_killed_in_its_first_moment() {
    let place = Place::memory();
    for arguments in [&["lock", "a"][..], &["run", "-e", "a"], &["semaphore", "a", "1"], &["elect", "a"]] {
        for _ in 0..5 {
            let mut command = place.command(&[arguments, &["--", "sleep", "1000"]].concat());
            let mut held = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let reaper = child_of(held.id());
            let sleep = child_of(reaper);
            kill_process(Pid::from_raw(reaper.cast_signed()).unwrap(), Signal::KILL).unwrap();
            let code = held.wait().unwrap().code();
            assert!(matches!(code, Some(4 | 8)), "{arguments:?}: {code:?}");
            until("the end of the command", || has_ended(sleep));
        }
    }
}

#[test]
fn no_command_is_left_when_all_that_could_end_it_is_killed() {
    let place = Place::memory();
    for arguments in [&["lock", "a"][..], &["lease"]] {
        let mut command = place.command(&[arguments, &["--", "sleep", "1000"]].concat());
        let mut held = command.stdout(Stdio::null()).spawn().unwrap();
        let reaper = child_of(held.id());
        let sleep = child_of(reaper);
        until("the command", || fs::read(format!("/proc/{sleep}/cmdline")).unwrap().starts_with(b"sleep"));
        // Stopped, neither of them does anything about the other's end.
        for (process, signal) in
            [(held.id(), Signal::STOP), (reaper, Signal::KILL), (held.id(), Signal::KILL)]
        {
            kill_process(Pid::from_raw(process.cast_signed()).unwrap(), signal).unwrap();
        }
        held.wait().unwrap();
        until("the end of the command", || has_ended(sleep));
    }
}
