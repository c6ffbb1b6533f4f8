//! Locks, permits and leases that are taken away.

use crate::{
    program::{Place, end, line},
    redis::Redis,
};
use std::{
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
    let (semaphore, slot) = held(&place, &["semaphore", "c", "1"], "LOCK_SLOT");
    place.ok(&["delete", &format!("c/slots/{slot}")]);
    let (lease, _) = held(&place, &["lease"], "LEASE_ID");
    redis.say("FLUSHALL");
    for (what, mut running) in [("lock", lock), ("elect", elect), ("semaphore", semaphore), ("lease", lease)]
    {
        running.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let ended = end(running);
        assert!(
            ended.code == 7 && ended.err.contains("lost before the command had ended"),
            "{what}: {ended:?}"
        );
    }
}
