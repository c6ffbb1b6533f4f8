//! The process that watches a command is killed at the worst moment.

use crate::program::{Place, until};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Waits until a process has a child, and returns its number. It does not sleep: the moment behind
/// that counts.
fn child_of(process: u32) -> u32 {
    let path = format!("/proc/{process}/task/{process}/children");
    let began = Instant::now();
    loop {
        let children = fs::read_to_string(&path).expect("it has ended before it had a child");
        if let Some(child) = children.split_whitespace().next() {
            return child.parse().unwrap();
        }
        let state = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        assert!(!state.contains(") Z "), "it has ended before it had a child: {state}");
        assert!(began.elapsed() < Duration::from_secs(60), "it has no child: {state}");
        thread::yield_now();
    }
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

/// Returns the process group of a process.
fn group_of(process: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let words = status.rsplit_once(") ").map(|(_, words)| words.split(' ').nth(2));
    words.flatten().and_then(|group| group.parse().ok()).unwrap_or_default()
}

/// Runs, under a lock, a command that has begun a job in a group of its own, of which SIGTERM ends
/// nothing where it is `stubborn`. Returns the program, and the job's processes. The command ends
/// when there is a file `go`.
fn with_a_job(place: &Place, stubborn: bool) -> (Child, [u32; 2]) {
    let trap = if stubborn { "trap '' TERM;" } else { "" };
    // `timeout` makes a group of its own, as a shell with job control does for each of its jobs.
    let job = format!("timeout 1000 sh -c \"{trap} echo \\$\\$ > job; while :; do sleep 0.1; done\"");
    let script = format!("{job} & until test -e go; do sleep 0.01; done");
    let mut command = place.command(&["lock", "a", "--ttl", "10s", "--", "sh", "-c", &script]);
    let running = command.stdout(Stdio::null()).spawn().unwrap();
    let mut job = None;
    until("the job", || {
        let told = fs::read_to_string(place.home().join("job")).unwrap_or_default();
        job = told.strip_suffix('\n').map(|job| job.parse().unwrap());
        job.is_some()
    });
    let job = job.unwrap();
    let timeout = group_of(job);
    assert_eq!(group_of(timeout), timeout, "the job is in a group of its own");
    assert_ne!(timeout, group_of(child_of(child_of(running.id()))), "which is not the command's");
    (running, [timeout, job])
}

#[test]
fn jobs_in_groups_of_their_own_are_gone_before_the_lock_is_released() {
    for stubborn in [false, true] {
        let place = Place::memory();
        let (mut held, job) = with_a_job(&place, stubborn);
        fs::write(place.home().join("go"), "").unwrap();
        assert!(held.wait().unwrap().success());
        assert_eq!(job.map(has_ended), [true; 2], "stubborn: {stubborn}");
    }
}

#[test]
fn jobs_in_groups_of_their_own_do_not_outlive_a_program_that_is_killed() {
    for stubborn in [false, true] {
        let place = Place::memory();
        let (mut held, job) = with_a_job(&place, stubborn);
        held.kill().unwrap();
        held.wait().unwrap();
        until("the end of the job", || job.map(has_ended) == [true; 2]);
    }
}
