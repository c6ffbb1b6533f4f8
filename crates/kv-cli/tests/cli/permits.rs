//! `semaphore`, `lease`, `locks`, `break`.

use crate::program::{Place, end, line, until};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::time::{Duration, Instant};

#[test]
fn a_command_runs_with_a_permit_and_its_exit_code_is_the_programs() {
    let place = Place::redb();
    let script = "echo $KV_LOCK_NAME $KV_LOCK_SLOT; test $KV_LOCK_TOKEN -gt 0 && exit 5";
    let ended = place.run(&["semaphore", "jobs/pool", "2", "--", "sh", "-c", script]);
    assert_eq!((ended.code, &*ended.out, &*ended.err), (5, "jobs/pool 0\n", ""));
    assert_eq!(place.ok(&["ls", "-rl"]), "jobs/pool/limit\t{\"v\":1,\"limit\":2}\\n\n");
    let other = place.run(&["semaphore", "jobs/pool", "3", "--", "true"]);
    assert_eq!((other.code, &*other.out), (2, ""), "{other:?}");
    assert!(other.err.contains("others use 2") && other.err.contains("jobs/pool/limit"), "{other:?}");
    assert_eq!(place.run(&["semaphore", "jobs/pool", "2", "--", "no-such-command"]).code, 127);
    for wrong in [
        &["semaphore", "a", "0", "--", "true"][..],
        &["semaphore", "a", "two", "--", "true"],
        &["semaphore", "a", "--", "true"],
        &["semaphore", "a", "1"],
        &["semaphore", "a", "1", "--try", "--within", "1s", "--", "true"],
        &["semaphore", "a", "1", "--ttl", "15s", "--grace", "10s", "--", "true"],
    ] {
        assert_eq!(place.run(wrong).code, 2, "{wrong:?}");
    }
}

#[test]
fn who_finds_no_permit_free_waits_or_says_so() {
    let place = Place::redb();
    // Whatever stands in the place of a permit counts as one that is held.
    place.ok(&["put", "pool/slots/0", "another's"]);
    for patience in [&["--try"][..], &["--within", "50ms"]] {
        let refused = place.run(&[&["semaphore", "pool", "1"], patience, &["--", "true"]].concat());
        let why = "kv: all permits of \"pool\" are held by others (1), or others wait for one\n";
        assert_eq!((refused.code, &*refused.out, &*refused.err), (1, "", why));
    }
    let (began, ttl) = (Instant::now(), Duration::from_secs(10));
    place.ok(&["put", "pool/slots/0", "another's", "--ttl", "10s"]);
    let ended = place.run(&["semaphore", "pool", "1", "--", "echo", "mine"]);
    assert_eq!((ended.code, &*ended.out), (0, "mine\n"), "{ended:?}");
    assert!(began.elapsed() >= ttl);
    assert_eq!(place.ok(&["ls", "pool/slots"]), "");
}

#[test]
fn a_command_is_gone_before_the_permit_or_the_lease_of_a_stopped_program_can_be_anothers() {
    let place = Place::memory();
    let script = "trap '' TERM; echo $$; while :; do sleep 0.02; done";
    let begin = [&["semaphore", "a", "1"][..], &["lease", "--put", "a=1"]].map(|begin| {
        // What the grace leaves of the time is for a machine that is busy with other tests.
        let arguments = [begin, &["--ttl", "22s", "--grace", "200ms", "--", "sh", "-c", script]].concat();
        let mut held = place.command(&arguments).spawn().unwrap();
        let command = line(&mut held).parse().ok().and_then(Pid::from_raw).unwrap();
        let stopped = Instant::now();
        kill_process(Pid::from_child(&held), Signal::STOP).unwrap();
        (held, command, stopped)
    });
    for (held, command, stopped) in begin {
        until("the end of the command", || test_kill_process(command).is_err());
        // The last renewal was earlier than the stop.
        assert!(stopped.elapsed() < Duration::from_secs(22), "{:?}", stopped.elapsed());
        kill_process(Pid::from_child(&held), Signal::CONT).unwrap();
        let ended = end(held);
        assert_eq!(ended.code, 7, "{ended:?}");
        assert!(ended.err.starts_with("kv: the command was ended: "), "{ended:?}");
    }
}

#[test]
fn keys_are_there_as_long_as_a_command_runs() {
    let place = Place::redb();
    let script = "test -n \"$KV_LEASE_ID\" && echo leased; exit 3";
    let ended = place.run(&["lease", "--put", "nodes/1=a=b", "-p", "nodes/2=", "--", "sh", "-c", script]);
    assert_eq!((ended.code, &*ended.out, &*ended.err), (3, "leased\n", ""));
    place.ok(&["put", "nodes/2", "another's"]);
    let taken =
        place.run(&["lease", "-p", "nodes/1=1", "-p", "nodes/2=2", "--if-missing", "--", "echo", "no"]);
    assert_eq!((taken.code, &*taken.out), (3, ""), "{taken:?}");
    assert_eq!(place.ok(&["ls", "-rl"]), "nodes/2\tanother's\n");
    for wrong in
        [&["lease", "-p", "secret"][..], &["lease", "-p", "a/../b=secret"], &["lease", "--if-missing"]]
    {
        let ended = place.run(wrong);
        assert_eq!((ended.code, &*ended.out), (2, ""), "{wrong:?}");
        assert!(!ended.err.contains("secret"), "{ended:?}");
    }
}

#[test]
fn a_lease_without_a_command_is_held_until_a_signal_comes() {
    let place = Place::redb();
    let mut lease = place.command(&["lease", "-p", "a=1", "--ttl", "20s"]).spawn().unwrap();
    let told = line(&mut lease);
    assert!(told.starts_with("leased\t") && told.ends_with("\t20s"), "{told}");
    kill_process(Pid::from_child(&lease), Signal::INT).unwrap();
    let ended = end(lease);
    assert_eq!((ended.code, &*ended.err), (130, ""));
    assert_eq!(place.run(&["exists", "a"]).code, 1);
    let mut lease = place.command(&["lease", "--json"]).spawn().unwrap();
    let told = line(&mut lease);
    assert!(told.starts_with(r#"{"v":1,"event":"leased","lease":""#), "{told}");
    assert!(told.ends_with(",\"ttl_ms\":15000}"), "{told}");
    drop(lease.stdout.take());
    assert_eq!(end(lease).code, 141);
}

#[test]
fn a_store_without_held_locks_says_so() {
    Place::redb().table(&[
        (&["locks"], 0, ""),
        (&["locks", "jobs", "--stale", "--json"], 0, ""),
        (&["locks", "../a"], 2, ""),
        (&["break", "a", "--token", "7"], 1, ""),
        (
            &["break", "--json", "a", "--token", "7"],
            1,
            "{\"v\":1,\"name\":\"a\",\"token\":7,\"broken\":false}\n",
        ),
        (&["break", "a"], 2, ""),
        (&["break", "a", "--token", "x"], 2, ""),
    ]);
    let refused = Place::redb().run(&["break", "a", "--token", "7"]);
    assert_eq!(refused.err, "kv: the lock \"a\" is not held under the token 7; nobody holds it\n");
}
