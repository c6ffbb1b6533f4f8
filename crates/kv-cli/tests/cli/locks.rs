//! `lock`, `elect`, `holder`.

use crate::program::{Ended, Place, end, line, until};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A command that tells its number, ignores that it is asked to end, and never ends by itself.
const STUBBORN: &str = "trap '' TERM; echo $$; while :; do sleep 0.02; done";

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Reads the number of a process that a command printed.
fn told(child: &mut Child) -> Pid {
    line(child).parse().ok().and_then(Pid::from_raw).unwrap()
}

fn is_gone(process: Pid) -> bool {
    test_kill_process(process).is_err()
}

#[test]
fn a_command_runs_under_a_lock_and_its_exit_code_is_the_programs() {
    let place = Place::memory();
    let script = "echo $KV_LOCK_NAME; test $KV_LOCK_TOKEN -gt 0 && exit 5";
    let ended = place.run(&["lock", "jobs/nightly", "--", "sh", "-c", script]);
    assert_eq!((ended.code, &*ended.out, &*ended.err), (5, "jobs/nightly\n", ""));
    assert_eq!(place.run(&["lock", "a", "--", "true"]).code, 0);
    assert_eq!(place.run(&["lock", "a", "--try", "--", "true"]).code, 0);
    assert_eq!(place.run(&["lock", "a", "--within", "1s", "--", "false"]).code, 1);
    assert_eq!(place.run(&["lock", "a", "--", "sh", "-c", "kill -KILL $$"]).code, 137);
}

#[test]
fn a_command_that_cannot_be_run_has_the_codes_of_shells() {
    let place = Place::memory();
    let missing = place.run(&["lock", "a", "--", "no-such-command"]);
    assert_eq!((missing.code, &*missing.out), (127, ""), "{missing:?}");
    assert!(missing.err.starts_with("kv: no-such-command cannot be started: "), "{missing:?}");
    fs::write(place.home().join("plain"), "").unwrap();
    assert_eq!(place.run(&["lock", "a", "--", "./plain"]).code, 126);
    for wrong in
        [&["lock", "a"][..], &["lock", "a", "true"], &["lock", "a", "--try", "--within", "1s", "--", "true"]]
    {
        assert_eq!(place.run(wrong).code, 2, "{wrong:?}");
    }
}

#[test]
fn a_grace_that_the_lock_has_no_time_for_is_refused_with_the_ttl_that_it_needs() {
    let place = Place::memory();
    let refused = place.run(&["lock", "a", "--ttl", "15s", "--grace", "10s", "--", "true"]);
    assert_eq!((refused.code, &*refused.out), (2, ""), "{refused:?}");
    let why = "kv: a grace of 10s needs a TTL of 126s, and it is 15s; give --ttl 126s\n";
    assert_eq!(refused.err, why);
    assert_eq!(place.run(&["lock", "a", "--ttl", "126s", "--grace", "10s", "--", "true"]).code, 0);
}

#[test]
fn the_command_has_the_programs_own_input_and_output() {
    let place = Place::memory();
    let output = place.run_with(&["lock", "a", "--", "cat"], b"in\xff");
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"in\xff"[..]));
}

#[test]
fn signals_are_passed_on() {
    let place = Place::memory();
    // The shell would tell of a command in its foreground that the signal ended.
    let idle = "(trap '' TERM INT USR1; exec sleep 100) & echo ready; wait";
    for (signal, script, code) in [
        (Signal::TERM, format!("trap 'exit 9' TERM; {idle}"), 9),
        (Signal::USR1, format!("trap 'exit 8' USR1; {idle}"), 8),
        (Signal::INT, format!("trap 'exit 4' INT; {idle}"), 4),
        (Signal::TERM, "echo ready; exec sleep 100".to_owned(), 143),
    ] {
        let mut lock = place.command(&["lock", "a", "--", "sh", "-c", &script]).spawn().unwrap();
        assert_eq!(line(&mut lock), "ready");
        kill_process(pid(&lock), signal).unwrap();
        let ended = end(lock);
        assert_eq!((ended.code, &*ended.err), (code, ""), "{script}");
    }
}

#[test]
fn a_signal_to_all_processes_at_once_leaves_the_command_its_time() {
    let place = Place::memory();
    let script = "trap 'echo asked; read line; echo clean; exit 9' TERM HUP; echo $PPID; echo $$
        while :; do sleep 0.02; done";
    // As a supervisor ends what it has started: the signal comes to the program, to the process
    // between the two, and to the command.
    for (arguments, signal) in [(&["lock", "a"][..], Signal::TERM), (&["run", "-e", "app"], Signal::HUP)] {
        let mut command = place.command(&[arguments, &["--", "sh", "-c", script]].concat());
        let mut held = command.stdin(Stdio::piped()).spawn().unwrap();
        let (between, command) = (told(&mut held), told(&mut held));
        for process in [between, pid(&held), command] {
            kill_process(process, signal).unwrap();
        }
        assert_eq!(line(&mut held), "asked");
        held.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let ended = end(held);
        assert_eq!((ended.code, ended.out.lines().last()), (9, Some("clean")), "{arguments:?}: {ended:?}");
        // The shell may tell of its own child that the signal ended.
        assert!(!ended.err.contains("kv: "), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn nothing_of_a_command_is_left_when_it_has_ended() {
    let place = Place::memory();
    let began = Instant::now();
    // What stays has the output of its own, so that nobody waits for it here.
    let script = "sleep 100 >/dev/null 2>&1 & echo $!";
    let ended = place.run(&["lock", "a", "--", "sh", "-c", script]);
    let left = ended.out.trim_end().parse().ok().and_then(Pid::from_raw).unwrap();
    assert_eq!((ended.code, &*ended.err), (0, ""));
    until("the end of what was left", || is_gone(left));
    assert!(began.elapsed() < Duration::from_secs(50));
}

#[test]
fn a_command_is_gone_before_the_lock_of_a_stopped_program_can_be_anothers() {
    let place = Place::memory();
    let ttl = Duration::from_secs(22);
    // What the grace leaves of the time is for a machine that is busy with other tests.
    let arguments = ["lock", "a", "--ttl", "22s", "--grace", "200ms", "--", "sh", "-c", STUBBORN];
    let mut lock = place.command(&arguments).spawn().unwrap();
    let command = told(&mut lock);
    let stopped = Instant::now();
    kill_process(pid(&lock), Signal::STOP).unwrap();
    until("the end of the command", || is_gone(command));
    // The last renewal was earlier than the stop.
    assert!(stopped.elapsed() < ttl, "{:?}", stopped.elapsed());
    kill_process(pid(&lock), Signal::CONT).unwrap();
    let ended = end(lock);
    assert_eq!(ended.code, 7, "{ended:?}");
    assert!(ended.err.starts_with("kv: the command was ended: "), "{ended:?}");
}

#[test]
fn a_command_does_not_outlive_a_program_that_is_killed() {
    let place = Place::memory();
    let ttl = Duration::from_secs(10);
    for script in ["echo $$; exec sleep 100", STUBBORN] {
        let mut lock =
            place.command(&["lock", "a", "--ttl", "10s", "--", "sh", "-c", script]).spawn().unwrap();
        let command = told(&mut lock);
        let killed = Instant::now();
        kill_process(pid(&lock), Signal::KILL).unwrap();
        until("the end of the command", || is_gone(command));
        assert!(killed.elapsed() < ttl, "{script}: {:?}", killed.elapsed());
        drop(lock.wait());
    }
}

#[test]
fn the_file_of_a_lock_is_for_one_program_at_a_time() {
    let place = Place::redb();
    let script = "echo ready; read line";
    let mut lock =
        place.command(&["lock", "a", "--", "sh", "-c", script]).stdin(Stdio::piped()).spawn().unwrap();
    assert_eq!(line(&mut lock), "ready");
    let second = place.run(&["get", "a", "--timeout", "100ms"]);
    assert_eq!(second.code, 5, "{second:?}");
    assert!(second.err.contains("is open in another process"), "{second:?}");
    lock.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert_eq!(end(lock).code, 0);
    assert_eq!(place.run(&["lock", "a", "--", "true"]).code, 0);
}

/// As `cron` starts one while the last one runs, where no store is named and where a file is.
#[test]
fn a_lock_in_a_file_that_another_has_open_is_waited_for_or_not_got() {
    for place in [Place::new(), Place::redb()] {
        let script = "echo ready; read line; echo ended";
        let mut lock = place.command(&["lock", "job", "--", "sh", "-c", script]);
        let mut lock = lock.stdin(Stdio::piped()).spawn().unwrap();
        assert_eq!(line(&mut lock), "ready");
        for arguments in [
            &["lock", "job", "--try"][..],
            &["lock", "job", "--within", "100ms"],
            &["semaphore", "job", "1", "--try"],
        ] {
            let began = Instant::now();
            let second = place.run(&[arguments, &["--timeout", "60s", "--", "echo", "both"]].concat());
            assert_eq!((second.code, &*second.out), (1, ""), "{arguments:?}: {second:?}");
            assert!(
                second.err.starts_with("kv: not got: ") && second.err.contains("open in another process")
            );
            assert!(began.elapsed() < Duration::from_secs(20), "as long as a request waits: {second:?}");
        }
        let gives_up = ["--json", "lock", "job", "--within", "5s", "--timeout", "50ms", "--", "true"];
        let gives_up = place.command(&gives_up).spawn().unwrap();
        // It waits beyond the time of a request, and says for what.
        let waits = ["lock", "job", "--timeout", "4s", "--", "echo", "second"];
        let mut waits = place.command(&waits).spawn().unwrap();
        let mut elects =
            place.command(&["elect", "job", "--timeout", "4s", "--", "echo", "led"]).spawn().unwrap();
        for waits in [&mut waits, &mut elects] {
            let mut words = String::new();
            BufReader::new(waits.stderr.as_mut().unwrap()).read_line(&mut words).unwrap();
            assert!(words.starts_with("kv: it waits: ") && words.contains("another process"), "{words}");
        }
        let told = end(gives_up);
        let (begin, end_of_it) = told.err.split_once('\n').unwrap();
        assert!(begin.starts_with("{\"v\":1,\"outage\":\"begun\",\"message\":\"it waits: "), "{told:?}");
        assert!(end_of_it.starts_with("{\"v\":1,\"error\":\"no\",\"message\":\"not got: "), "{told:?}");
        lock.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert_eq!((line(&mut lock), end(lock).code), ("ended".to_owned(), 0));
        for (waits, out) in [(waits, "second\n"), (elects, "led\n")] {
            let ended = end(waits);
            assert_eq!((ended.code, &*ended.out), (0, out), "{ended:?}");
            assert!(ended.err.starts_with("kv: the wait is over, which lasted "), "{ended:?}");
        }
    }
}

/// The store frees its file, with all locks in it, when its process is killed; the command, which may
/// take its time to end, still has its turn.
#[test]
fn a_lock_in_a_file_outlives_its_killed_program_as_long_as_the_command() {
    for place in [Place::new(), Place::redb()] {
        let held = ["lock", "job", "--ttl", "1h", "--", "sh", "-c", STUBBORN];
        let mut held = place.command(&held).spawn().unwrap();
        let command = told(&mut held);
        kill_process(pid(&held), Signal::KILL).unwrap();
        held.wait().unwrap();
        for arguments in [&["lock", "job", "--try"][..], &["semaphore", "other", "1", "--try"]] {
            let second = place.run(&[arguments, &["--", "echo", "both"]].concat());
            assert_eq!((second.code, &*second.out), (1, ""), "{arguments:?}: {second:?}");
            assert!(second.err.contains("open in another process"), "{second:?}");
        }
        kill_process(command, Signal::KILL).unwrap();
        let next = place.run(&["lock", "job", "--", "echo", "next"]);
        assert_eq!((next.code, &*next.out), (0, "next\n"), "{next:?}");
    }
}

#[test]
fn a_leader_says_so_and_resigns_when_it_is_asked_to_end() {
    let place = Place::redb();
    for signal in [Signal::TERM, Signal::INT] {
        let mut elect = place.command(&["elect", "leader", "--value", "host-1"]).spawn().unwrap();
        assert!(line(&mut elect).starts_with("elected\t"));
        kill_process(pid(&elect), signal).unwrap();
        let ended = end(elect);
        assert_eq!((ended.code, &*ended.err), (128 + signal.as_raw(), ""));
    }
    let mut elect = place.command(&["elect", "--json", "leader"]).spawn().unwrap();
    assert!(line(&mut elect).starts_with(r#"{"v":1,"event":"elected","name":"leader","token":"#));
    drop(elect.stdout.take());
    assert_eq!(Ended::of(elect.wait_with_output().unwrap()).code, 141);
    let ended = place.run(&["elect", "leader", "--", "sh", "-c", "exit 3"]);
    assert_eq!((ended.code, &*ended.out), (3, ""), "{ended:?}");
}

#[test]
fn the_output_under_an_election_is_that_of_the_command_alone() {
    let place = Place::redb();
    let ended = place.run(&["elect", "leader", "--", "echo", "mine"]);
    assert_eq!((ended.code, &*ended.out), (0, "mine\n"), "{ended:?}");
    assert!(ended.err.starts_with("kv: elected ") && ended.err.lines().count() == 1, "{ended:?}");
    let ended = place.run(&["elect", "--json", "leader", "--", "echo", "mine"]);
    assert_eq!((ended.code, &*ended.out), (0, "mine\n"), "{ended:?}");
    let told = r#"{"v":1,"event":"elected","name":"leader","token":"#;
    assert!(ended.err.starts_with(told) && ended.err.lines().count() == 1, "{ended:?}");
}

#[test]
fn a_command_that_ran_and_is_watched_no_longer_is_not_nothing() {
    let place = Place::memory();
    for arguments in
        [&["lock", "a"][..], &["elect", "a"], &["semaphore", "a", "1"], &["lease"], &["run", "-e", "a"]]
    {
        let script = "trap 'echo heard' USR1; echo $PPID; while :; do sleep 0.02; done";
        let script = ["--", "sh", "-c", script];
        let mut held = place.command(&[arguments, &script].concat()).spawn().unwrap();
        let between = told(&mut held);
        // What can pass on a signal knows of the command.
        kill_process(pid(&held), Signal::USR1).unwrap();
        assert_eq!(line(&mut held), "heard");
        kill_process(between, Signal::KILL).unwrap();
        let ended = end(held);
        assert_eq!(ended.code, 8, "{arguments:?}: {ended:?}");
        assert!(ended.err.contains("the command was killed"), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn a_signal_that_is_ignored_from_the_start_stays_ignored() {
    let place = Place::memory();
    // As `nohup` does it, and a shell with what it runs in the background.
    let script = "kill -HUP $$; kill -INT $$; echo $PPID; read line; exit 9";
    let lock = place.command(&["lock", "a", "--", "sh", "-c", script]);
    let mut nohup = Command::new("sh");
    nohup.args(["-c", "trap '' HUP INT; exec \"$@\"", "sh"]).arg(lock.get_program()).args(lock.get_args());
    nohup.env("KV_STORE", "memory://").env("HOME", place.home()).current_dir(place.home());
    nohup.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut lock = nohup.spawn().unwrap();
    let between = told(&mut lock);
    for signal in [Signal::HUP, Signal::INT] {
        for process in [between, pid(&lock)] {
            kill_process(process, signal).unwrap();
        }
    }
    lock.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let ended = end(lock);
    assert_eq!((ended.code, &*ended.err), (9, ""), "{ended:?}");
}

#[test]
fn nobody_holds_a_free_lock() {
    Place::redb().table(&[
        (&["holder", "a"], 1, ""),
        (&["holder", "--json", "a"], 1, "{\"v\":1,\"name\":\"a\",\"token\":null}\n"),
        (&["holder", "../a"], 2, ""),
    ]);
}
