//! The lines about outages, on standard error, with a server that is stopped and started again.

use crate::{
    program::{Place, end, line, until},
    redis::Redis,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{collections::BTreeMap, io::Write, process::Stdio};

/// Reads a line of standard error: the piece of work that it is about, and whether an outage of it
/// begins or is over.
fn told(line: &str, is_json: bool) -> (String, bool) {
    let message = if is_json {
        let object: Value = serde_json::from_str(line).unwrap();
        let message = object["message"].as_str().unwrap().to_owned();
        let outage = if message.contains("is over") { "over" } else { "begun" };
        assert_eq!((&object["v"], &object["outage"]), (&1.into(), &outage.into()), "{line}");
        message
    } else {
        line.strip_prefix("kv: ").unwrap_or_else(|| panic!("{line}")).to_owned()
    };
    let (piece, rest) = message.split_once(": ").unwrap_or_else(|| panic!("{line}"));
    let begins = rest.starts_with("an outage, which is ridden out: ");
    assert!(begins || rest.starts_with("the outage is over, which lasted "), "{line}");
    (piece.to_owned(), begins)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_told_once_when_it_begins_and_once_when_it_is_over() {
    let redis = Redis::start().await;
    let place = Place::at(&redis.url(""));
    for is_json in [false, true] {
        place.ok(&["put", "a", "1"]);
        let json: &[_] = if is_json { &["--json"] } else { &[] };
        let mut watch = place.command(&[&["watch", "a"], json].concat()).spawn().unwrap();
        while !line(&mut watch).contains("synced") {}
        for value in ["now-2", "now-3"] {
            redis.stop_for(4);
            redis.start_again().await;
            place.ok(&["put", "a", value]);
            while !line(&mut watch).contains(value) {}
        }
        kill_process(Pid::from_child(&watch), Signal::TERM).unwrap();
        let ended = end(watch);
        assert_eq!(ended.code, -15, "{ended:?}");
        let mut pieces = BTreeMap::<_, Vec<_>>::new();
        for (piece, begins) in ended.err.lines().map(|line| told(line, is_json)) {
            pieces.entry(piece).or_default().push(begins);
        }
        assert_eq!(pieces["the connection for watches"].len(), 4, "two outages: {ended:?}");
        for (piece, lines) in pieces {
            let in_turn = lines.iter().enumerate().all(|(n, begins)| *begins == n.is_multiple_of(2));
            assert!(in_turn, "{piece}: {ended:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_code_of_a_command_counts_although_the_server_is_away_at_its_end() {
    let redis = Redis::start().await;
    let place = Place::at(&redis.url(""));
    let begun = [
        &["lock", "a", "--ttl", "60s"][..],
        &["elect", "b", "--ttl", "60s"],
        &["semaphore", "c", "1", "--ttl", "60s"],
        &["lease", "--ttl", "60s"],
        &["run", "-e", "d"],
    ];
    let mut begun = begun.map(|arguments| {
        let script = ["--timeout", "5s", "--", "sh", "-c", "echo ready; read line; exit 9"];
        let mut command = place.command(&[arguments, &script].concat());
        let mut running = command.stdin(Stdio::piped()).spawn().unwrap();
        while line(&mut running) != "ready" {}
        (arguments, running)
    });
    redis.stop();
    // What they end in takes its time, in which the others are not to lose anything.
    for (_, running) in &mut begun {
        running.stdin.take().unwrap().write_all(b"go\n").unwrap();
    }
    for (arguments, running) in begun {
        let ended = end(running);
        assert_eq!(ended.code, 9, "{arguments:?}: {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_signal_breaks_off_the_comparison_in_the_end_of_what_follows() {
    let redis = Redis::start().await;
    let place = Place::redb();
    let (from, to) = (redis.url(""), place.url("app"));
    let arguments = ["sync", &from, &to, "--follow", "-v", "--timeout", "60s"];
    let mut sync = place.command(&arguments).spawn().unwrap();
    assert!(line(&mut sync).starts_with("created 0"));
    Place::at(&from).ok(&["put", "a", "1"]);
    assert_eq!(line(&mut sync), "+ a");
    redis.say("CLIENT PAUSE 120000 ALL");
    until("the end", || {
        kill_process(Pid::from_child(&sync), Signal::INT).unwrap();
        sync.try_wait().unwrap().is_some()
    });
    assert_eq!(end(sync).code, 130);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_saw_no_store_in_the_end_does_not_say_no() {
    let redis = Redis::start().await;
    let place = Place::at(&redis.url(""));
    let wait = place.command(&["wait", "a", "--within", "15s", "--timeout", "5s"]).spawn().unwrap();
    let clients = "return tonumber(redis.call('INFO', 'clients'):match('connected_clients:(%d+)'))";
    // This question, the requests, and the watch.
    until("the watch", || redis.say(&format!("EVAL \"{clients}\" 0")).trim_end() == ":3");
    redis.stop();
    let ended = end(wait);
    assert_eq!((ended.code, &*ended.out), (5, ""), "{ended:?}");
}
