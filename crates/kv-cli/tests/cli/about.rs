//! `health`, `capabilities`, `completions`, `man`, `--help`.

use crate::program::Place;
use serde_json::Value;
use std::{fs, process::Command};

#[test]
fn a_store_tells_of_itself() {
    let place = Place::redb();
    let health = place.ok(&["health"]);
    assert!(health.starts_with("redb ") && health.contains("answered in "), "{health}");
    assert!(place.ok(&["health", "--json"]).starts_with(r#"{"v":1,"backend":"redb","version":""#));
    let capabilities = place.ok(&["capabilities"]);
    assert!(
        capabilities.starts_with("backend           redb\na write survives  a crash\n"),
        "{capabilities}"
    );
    let capabilities = place.ok(&["capabilities", "--json"]);
    assert!(capabilities.starts_with(r#"{"v":1,"backend":"redb","survives":"a crash","#), "{capabilities}");
}

#[test]
fn all_that_a_store_can_do_is_told() {
    let place = Place::redb();
    let object: Value = serde_json::from_str(&place.ok(&["capabilities", "--json"])).unwrap();
    for field in
        ["watch_ordered", "lock_set_value", "lock_breaks", "lock_lists", "delete_tree_counts", "health"]
    {
        assert_eq!(object[field], true, "{field}: {object}");
    }
    let told = place.ok(&["capabilities"]);
    for row in
        ["watches in order", "lock values", "breaks locks", "lists locks", "counts deletions", "health"]
    {
        assert!(told.contains(&format!("{row:<17} yes\n")), "{row}: {told}");
    }
    // Each field of the store's own stands there, by its name.
    let own = format!("{:?}", kv_core::Capabilities::new("none"));
    let names = own.match_indices(": ").map(|(at, _)| own[..at].rsplit([' ', '{']).next().unwrap());
    for name in names.filter(|name| *name != "durability") {
        assert!(object.get(name).is_some(), "{name}: {object}");
    }
}

#[test]
fn completions_and_pages_are_made_of_the_same_definitions() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = place.ok(&["completions", shell]);
        assert!(script.contains("kv") && script.contains("capabilities"), "{shell}");
    }
    let page = place.ok(&["man"]);
    assert!(page.contains(".TH kv 1") && page.contains("capabilities"), "{page}");
    assert!(place.ok(&["man", "lock"]).contains("KV_LOCK_TOKEN"));
    assert_eq!(place.run(&["man", "nonsense"]).code, 2);
    place.ok(&["man", "--folder", "pages"]);
    assert!(fs::read_to_string(place.home().join("pages/kv-lock.1")).unwrap().contains("SIGKILL"));
    assert!(!place.home().join(".local").exists(), "no store was opened");
}

#[test]
fn the_help_has_the_exit_codes() {
    let place = Place::new();
    let help = place.ok(&["--help"]);
    for words in ["Exit codes:", "  6    nobody knows whether", "lock", "copy", "capabilities"] {
        assert!(help.contains(words), "{words}: {help}");
    }
    assert_eq!(place.ok(&["--version"]), format!("kv {}\n", env!("CARGO_PKG_VERSION")));
    let nothing = place.run::<&str>(&[]);
    assert_eq!((nothing.code, &*nothing.out), (2, ""));
    assert!(nothing.err.contains("Usage: kv"), "{nothing:?}");
}

/// The shortest of many is the program's own time on a processor, whatever else the machine does.
#[test]
fn the_program_is_there_at_once() {
    let place = Place::new();
    // Without optimisation it takes some times as long.
    let most = if cfg!(debug_assertions) { 0.06 } else { 0.01 };
    for arguments in [&["--version"][..], &["help"], &["completions", "bash"]] {
        let took = |_| {
            let timed = r#"TIMEFORMAT='%3U %3S'; time "$0" "$@" >/dev/null"#;
            let program = place.command(arguments);
            let mut bash = Command::new("bash");
            let timed = bash.args(["-c", timed]).arg(program.get_program()).args(arguments).output().unwrap();
            let told = String::from_utf8(timed.stderr).unwrap();
            told.split_whitespace().map(|seconds| seconds.parse::<f64>().expect(&told)).sum::<f64>()
        };
        let shortest = (0..25).map(took).fold(f64::INFINITY, f64::min);
        assert!(shortest < most, "{arguments:?}: {shortest} s");
    }
}

#[test]
fn a_doctor_tries_a_store_and_leaves_nothing() {
    let place = Place::redb();
    let told = place.ok(&["doctor"]);
    for begin in
        ["ok: server: redb ", "ok: reads: 21 one after another", "note: locks: one of a killed holder"]
    {
        assert!(told.lines().any(|line| line.starts_with(begin)), "{begin}: {told}");
    }
    assert!(!told.contains("fault") && !told.contains("deleted"), "{told}");
    let told = place.ok(&["doctor", "--write", "--json"]);
    for check in ["writes", "watches", "locks", "deletions"] {
        let line = format!("{{\"v\":1,\"check\":\"{check}\",\"verdict\":\"ok\",");
        assert!(told.lines().any(|told| told.starts_with(&line)), "{check}: {told}");
    }
    assert_eq!(place.ok(&["ls", "-r"]), "");
}

#[test]
fn a_doctor_tells_why_a_store_cannot_be_opened_and_what_to_do() {
    let place = Place::new();
    let missing = place.url("missing/app");
    let rows: &[(i32, &str, &str)] = &[
        (2, &missing, "make it first"),
        #[cfg(feature = "memory")]
        (2, "memory://?color=red", "correct the URL"),
        #[cfg(feature = "redis")]
        (5, "redis://me:secret@127.0.0.1:1/", "127.0.0.1:1: cannot be reached"),
        #[cfg(feature = "redis")]
        (5, "redis://me:secret@127.0.0.1:1/", "look whether the server runs"),
    ];
    for (code, url, part) in rows {
        let told = place.run(&["--timeout", "3s", "--store", url, "doctor"]);
        assert_eq!((told.code, &*told.err), (*code, ""), "{url}: {told:?}");
        assert!(told.out.starts_with("fault: opening: ") && told.out.contains(part), "{url}: {told:?}");
        let line = place.run(&["--timeout", "3s", "--store", url, "doctor", "--json"]);
        assert_eq!((line.code, &*line.err), (*code, ""), "{url}: {line:?}");
        let object: Value = serde_json::from_str(&line.out).unwrap();
        assert_eq!((&object["check"], &object["verdict"]), (&"opening".into(), &"fault".into()), "{line:?}");
        assert!(object["message"].as_str().unwrap().contains(part), "{line:?}");
        assert!(!told.out.contains("secret") && !line.out.contains("secret"), "{line:?}");
    }
}

/// A password that is wrong, and a server that knows nobody without one.
#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread")]
async fn a_doctor_tells_that_a_password_is_wrong() {
    let redis = crate::redis::Redis::start().await;
    redis.say("CONFIG SET requirepass right");
    let told = Place::at(&redis.url(":wrong@")).run(&["doctor"]);
    assert_eq!((told.code, &*told.err), (4, ""), "{told:?}");
    let way_out = "give the URL a user, password or token that the server knows";
    assert!(told.out.starts_with("fault: opening: ") && told.out.contains(way_out), "{told:?}");
}
