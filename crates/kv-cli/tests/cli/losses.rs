//! Locks, permits and leases that are taken away, and what is left of what was done before a failure.

use crate::{
    program::{Place, end, line, until},
    redis::Redis,
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    io::Write,
    process::{Child, Stdio},
};

/// Runs a command under what these arguments hold; it tells a word of its environment, and waits.
fn held(place: &Place, arguments: &[&str], word: &str) -> (Child, String) {
    let script = format!("echo told $KV_{word}; read line; exit 3");
    let rest = ["--ttl", "60s", "--", "sh", "-c", &script];
    let mut command = place.command(&[arguments, &rest].concat());
    let mut running = command.stdin(Stdio::piped()).spawn().unwrap();
    loop {
        if let Some(told) = line(&mut running).strip_prefix("told ") {
            return (running, told.to_owned());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_before_the_end_of_a_command_is_lost_although_nobody_knew_it() {
    let redis = Redis::start().await;
    let place = Place::at(&redis.url(""));
    let (lock, token) = held(&place, &["lock", "a"], "LOCK_TOKEN");
    place.ok(&["break", "a", "--token", &token]);
    let (elect, token) = held(&place, &["elect", "b"], "LOCK_TOKEN");
    place.ok(&["break", "b", "--token", &token]);
    let (lease, _) = held(&place, &["lease"], "LEASE_ID");
    redis.say("FLUSHALL");
    for (what, mut running) in [("lock", lock), ("elect", elect), ("lease", lease)] {
        running.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let ended = end(running);
        assert!(
            ended.code == 7 && ended.err.contains("lost before the command had ended"),
            "{what}: {ended:?}"
        );
    }
}

/// The key of a permit is watched, so that its loss ends the command.
#[tokio::test(flavor = "multi_thread")]
async fn a_permit_whose_key_is_deleted_is_lost_and_ends_its_command() {
    let redis = Redis::start().await;
    let place = Place::at(&redis.url(""));
    let (mut semaphore, slot) = held(&place, &["semaphore", "c", "1"], "LOCK_SLOT");
    // The command waits for a line that does not come.
    let input = semaphore.stdin.take();
    place.ok(&["delete", &format!("c/slots/{slot}")]);
    let ended = end(semaphore);
    assert_eq!(ended.code, 7, "{ended:?}");
    drop(input);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adoption_that_is_broken_off_does_not_say_that_nothing_happened() {
    let redis = Redis::start().await;
    redis.say("EVAL \"for i = 1, 50000 do redis.call('SET', 'k' .. i, 'v') end\" 0");
    let ended = Place::at(&redis.url("")).run(&["adopt", "--within", "5ms"]);
    // It ends in a request of whose outcome nobody knows, or between two.
    assert!(matches!(ended.code, 6 | 8) && ended.out.is_empty(), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_which_nobody_knows_whether_it_was_written_says_that() {
    let redis = Redis::start().await;
    let place = Place::at(&redis.url(""));
    let editor = "echo new > $1; touch edited; until test -e go; do sleep 0.01; done";
    fs::write(place.home().join("editor"), editor).unwrap();
    let edit = place.command(&["edit", "a", "--editor", "sh editor", "--timeout", "4s"]).spawn().unwrap();
    until("the edit", || place.home().join("edited").exists());
    redis.say("CLIENT PAUSE 60000 ALL");
    fs::write(place.home().join("go"), "").unwrap();
    let ended = end(edit);
    let told = "kv: nobody knows whether it was written; what you wrote is in ";
    assert!(ended.code == 6 && ended.err.starts_with(told), "{ended:?}");
    let draft = ended.err.lines().next().unwrap().strip_prefix(told).unwrap();
    assert_eq!(fs::read_to_string(draft).unwrap(), "new\n");
    fs::remove_file(draft).unwrap();
}

/// The process that watches the command may be stopped, and then ends nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_does_not_outlive_its_lock_although_what_watches_it_is_stopped() {
    let redis = Redis::start().await;
    let place = Place::at(&redis.url(""));
    for ignored in ["", "trap '' TERM; "] {
        let script = format!(
            "{ignored}trap 'echo heard' USR1
            echo $PPID; echo $$; echo $KV_LOCK_TOKEN; while :; do sleep 0.02; done"
        );
        let arguments = ["lock", "a", "--ttl", "12s", "--", "sh", "-c", &script];
        let mut lock = place.command(&arguments).spawn().unwrap();
        let [between, command, token] = [(); 3].map(|()| line(&mut lock));
        let between = Pid::from_raw(between.parse().unwrap()).unwrap();
        // What can pass on a signal knows of the command.
        kill_process(Pid::from_child(&lock), Signal::USR1).unwrap();
        assert_eq!(line(&mut lock), "heard");
        kill_process(between, Signal::STOP).unwrap();
        place.ok(&["break", "a", "--token", &token]);
        until("the end of the program", || lock.try_wait().unwrap().is_some());
        let ended = end(lock);
        assert_eq!(ended.code, 7, "{ended:?}");
        assert!(ended.err.contains("kv: the command was ended: "), "{ended:?}");
        // The number of one that has ended is there until whoever inherits it has taken note of it.
        let state = fs::read_to_string(format!("/proc/{command}/stat")).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
    }
}

/// A second request to end is a hurry for many programs, and two that see to it are no reason for one.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_asked_once_to_end_when_what_it_runs_under_is_lost() {
    let redis = Redis::start().await;
    let place = Place::at(&redis.url(""));
    let script = "trap 'echo asked' TERM; echo $KV_LOCK_SLOT
        while :; do (trap '' TERM; exec sleep 0.02); done";
    // The loss of a permit is seen at once, and what watches the command may be late by half of the grace.
    let arguments = ["semaphore", "a", "1", "--ttl", "60s", "--", "sh", "-c", script];
    let mut semaphore = place.command(&arguments).spawn().unwrap();
    let slot = line(&mut semaphore);
    place.ok(&["delete", &format!("a/slots/{slot}")]);
    let ended = end(semaphore);
    assert_eq!((ended.code, &*ended.out), (7, "asked\n"), "{ended:?}");
}
