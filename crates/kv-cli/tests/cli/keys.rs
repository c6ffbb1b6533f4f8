//! `get put delete exists ls tree cat cas txn edit`.

use crate::program::{Ended, Place, end, line};
use rustix::process::{Pid, Signal, kill_process};
use std::{fs, process::Stdio};

#[test]
fn keys_are_put_read_listed_and_deleted() {
    Place::redb().table(&[
        (&["exists", "app/color"], 1, ""),
        (&["get", "app/color"], 1, ""),
        (&["put", "app/color", "red"], 0, "#\n"),
        (&["put", "app/nodes/1", "up"], 0, "#\n"),
        (&["put", "application", "-1"], 0, "#\n"),
        (&["exists", "app/color"], 0, ""),
        (&["exists", "app"], 1, ""),
        (&["exists", "--json", "app"], 1, "{\"v\":1,\"key\":\"app\",\"exists\":false}\n"),
        (&["get", "app/color"], 0, "red"),
        (&["get", "/app//color/"], 0, "red"),
        (&["get", "--stale", "application"], 0, "-1"),
        (&["get", "--version-only", "app/color"], 0, "#\n"),
        (&["ls"], 0, "app/\napplication\n"),
        (&["ls", "app"], 0, "app/color\napp/nodes/\n"),
        (&["ls", "-r", "app"], 0, "app/color\napp/nodes/1\n"),
        (&["ls", "-l", "app"], 0, "app/color\tred\napp/nodes/\n"),
        (&["ls", "-rl"], 0, "app/color\tred\napp/nodes/1\tup\napplication\t-1\n"),
        (&["ls", "-r", "--limit", "1"], 0, "app/color\n"),
        (&["ls", "--json"], 0, "{\"v\":1,\"directory\":\"app/\"}\n{\"v\":1,\"key\":\"application\"}\n"),
        (&["ls", "nothing"], 0, ""),
        (&["cat", "app/color", "app/nodes/1"], 0, "redup"),
        (&["delete", "app/nodes/1"], 0, ""),
        (&["delete", "app/nodes/1"], 1, ""),
        (&["delete", "--json", "app"], 1, "{\"v\":1,\"key\":\"app\",\"deleted\":false}\n"),
        (&["delete", "-r", "app"], 0, "deleted 1\n"),
        (&["delete", "-r", "app"], 1, "deleted 0\n"),
        (&["rm", "--json", "-r", "/"], 0, "{\"v\":1,\"directory\":\"/\",\"deleted\":1}\n"),
        (&["ls"], 0, ""),
    ]);
}

#[test]
fn an_empty_store_answers_so() {
    Place::memory().table(&[
        (&["get", "a"], 1, ""),
        (&["exists", "a"], 1, ""),
        (&["put", "a", "1"], 0, "#\n"),
        (&["delete", "a"], 1, ""),
        (&["ls", "-r"], 0, ""),
        (&["tree"], 0, "/\n"),
        (&["cas", "a", "none", "1"], 0, "#\n"),
        (&["cas", "a", "17", "1"], 3, ""),
    ]);
}

#[test]
fn what_is_wrong_in_the_command_line_has_a_code_of_its_own() {
    Place::memory().table(&[
        (&["get"], 2, ""),
        (&["get", "a/../b"], 2, ""),
        (&["get", ""], 2, ""),
        (&["put", "a"], 2, ""),
        (&["put", "a", "1", "--ttl", "soon"], 2, ""),
        (&["put", "a", "1", "--if-missing", "--if-version", "1"], 2, ""),
        (&["put", "a", "1", "--file", "b"], 2, ""),
        (&["delete", "-r", ""], 2, ""),
        (&["cas", "a", "old", "1"], 2, ""),
        (&["nonsense"], 2, ""),
        (&["--timeout", "x", "ls"], 2, ""),
    ]);
}

#[test]
fn a_tree_is_drawn() {
    let place = Place::redb();
    for key in ["app/color", "app", "app/nodes/1", "app/nodes/2", "z"] {
        place.ok(&["put", key, ""]);
    }
    let whole = "/\n├── app\n├── app/\n│   ├── color\n│   └── nodes/\n│       ├── 1\n│       └── 2\n└── z\n";
    place.table(&[
        (&["tree"], 0, whole),
        (&["tree", "app/nodes"], 0, "app/nodes/\n├── 1\n└── 2\n"),
        (&["tree", "-L", "1"], 0, "/\n├── app\n├── app/\n└── z\n"),
        (
            &["tree", "--json", "app/nodes"],
            0,
            "{\"v\":1,\"key\":\"app/nodes/1\"}\n{\"v\":1,\"key\":\"app/nodes/2\"}\n",
        ),
    ]);
}

#[test]
fn a_key_that_is_missing_hides_no_other() {
    let place = Place::redb();
    place.ok(&["put", "b", "2"]);
    let ended = place.run(&["cat", "a", "b"]);
    assert_eq!((ended.code, &*ended.out, &*ended.err), (1, "2", "kv: there is no key \"a\"\n"));
    let ended = place.run(&["cat", "a", "b", "c", "d"]);
    let why = "kv: there are no keys \"a\", \"c\", \"d\"\n";
    assert_eq!((ended.code, &*ended.out, &*ended.err), (1, "2", why));
}

#[test]
fn who_has_not_seen_the_newest_version_writes_nothing() {
    let place = Place::redb();
    let first = place.ok(&["cas", "a", "none", "1"]);
    let first = first.trim_end();
    let taken = place.run(&["cas", "a", "none", "2"]);
    assert_eq!(taken.code, 3, "{taken:?}");
    let second = place.ok(&["cas", "a", first, "2"]);
    for late in [
        place.run(&["cas", "a", first, "3"]),
        place.run(&["put", "a", "3", "--if-version", first]),
        place.run(&["put", "a", "3", "--if-missing"]),
        place.run(&["delete", "a", "--if-version", first]),
    ] {
        assert_eq!((late.code, &*late.out), (3, ""), "{late:?}");
        assert!(
            ["kv: put \"a\"", "kv: delete \"a\""].iter().any(|begin| late.err.starts_with(begin)),
            "{late:?}"
        );
    }
    assert_eq!(place.ok(&["get", "a"]), "2");
    let second = second.trim_end();
    let shown = format!("{{\"v\":1,\"key\":\"a\",\"value\":\"2\",\"version\":\"{second}\"}}\n");
    assert_eq!(place.ok(&["get", "--json", "a"]), shown);
    place.ok(&["delete", "a", "--if-version", second]);
}

#[test]
fn values_of_any_bytes_come_back_as_they_were() {
    let place = Place::redb();
    let value = b"\xff\x00\n\x1b[31m";
    assert!(place.run_with(&["put", "a", "-"], value).status.success());
    assert_eq!(place.run_with(&["get", "a"], b"").stdout, value);
    fs::write(place.home().join("file"), value).unwrap();
    place.ok(&["put", "b", "--file", "file"]);
    assert_eq!(place.run_with(&["cat", "a", "b"], b"").stdout, [&value[..], value].concat());
    let shown = place.ok(&["get", "--json", "b"]);
    assert!(shown.starts_with(r#"{"v":1,"key":"b","base64":"/wAKG1szMW0=","version":""#), "{shown}");
    assert_eq!(place.ok(&["ls", "-l"]), "a\t\\xff\\x00\\n\\x1b[31m\nb\t\\xff\\x00\\n\\x1b[31m\n");
    let missing = place.run(&["put", "a", "--file", "nothing"]);
    assert_eq!(missing.code, 4, "{missing:?}");
    assert!(missing.err.starts_with("kv: nothing cannot be read: "), "{missing:?}");
}

#[test]
fn a_key_goes_by_itself() {
    let place = Place::redb();
    place.ok(&["put", "a", "1", "--ttl", "50ms"]);
    place.ok(&["wait", "a", "--gone"]);
    let shown = place.ok(&["put", "--json", "a", "1", "--ttl", "1h"]);
    assert!(shown.starts_with(r#"{"v":1,"key":"a","version":""#), "{shown}");
    assert!(shown.ends_with("\"ttl_ms\":3600000}\n"), "{shown}");
    let refused = place.run(&["put", "a", "1", "--ttl", "9000d"]);
    assert_eq!(refused.code, 2, "{refused:?}");
}

#[test]
fn an_error_is_an_object_too() {
    let place = Place::redb();
    let missing = place.run(&["get", "--json", "a"]);
    let expected = "{\"v\":1,\"error\":\"no\",\"message\":\"there is no key \\\"a\\\"\"}\n";
    assert_eq!((missing.code, &*missing.out, &*missing.err), (1, "", expected));
    let conflict = place.run(&["cas", "--json", "a", "17", "x"]);
    assert_eq!((conflict.code, &*conflict.out), (3, ""));
    let object = r#"{"v":1,"error":"key_modified","message":"put \"a\" on redb: "#;
    assert!(conflict.err.starts_with(object) && conflict.err.ends_with(",\"key\":\"a\"}\n"), "{conflict:?}");
}

#[test]
fn a_transaction_is_all_or_nothing() {
    let place = Place::redb();
    let txn = |lines: &str| Ended::of(place.run_with(&["txn"], lines.as_bytes()));
    let first = txn("when a none\nput a 1\nput b \"two words\" ttl 1h\ndelete c\n");
    assert_eq!((first.code, first.out.lines().count(), &*first.err), (0, 2, ""));
    assert_eq!(place.ok(&["cat", "a", "b"]), "1two words");
    let again = txn("when b exists\nwhen a none\nput b gone\n");
    let why = "kv: condition 1: the key \"a\" is there\n";
    assert_eq!((again.code, &*again.out, &*again.err), (3, "", why));
    assert_eq!(place.ok(&["get", "b"]), "two words");

    fs::write(place.home().join("lines"), "when a none\ndelete b\n").unwrap();
    let refused = place.run(&["txn", "--json", "lines"]);
    let object = "{\"v\":1,\"committed\":false,\"refused\":0,\"message\":\"condition 0: the key \\\"a\\\" is there\"}\n";
    assert_eq!((refused.code, &*refused.out, &*refused.err), (3, object, ""));

    for (lines, part) in [("", "has no lines"), ("put a", "line 1"), ("put a 1\nput a 2\n", "written twice")]
    {
        let wrong = txn(lines);
        assert_eq!((wrong.code, &*wrong.out), (2, ""), "{lines}: {wrong:?}");
        assert!(wrong.err.contains(part), "{lines}: {wrong:?}");
    }
}

/// Makes an editor out of a line of shell, whose file is `$1`.
fn editor(place: &Place, name: &str, line: &str) -> String {
    let path = place.home().join(name);
    fs::write(&path, format!("{line}\n")).unwrap();
    format!("sh {}", path.display())
}

/// Returns what stands in the file that an edit has kept, and removes it.
fn kept(ended: &Ended) -> String {
    let path = ended.err.lines().next().and_then(|line| line.rsplit_once(" is in "));
    let path = path.unwrap_or_else(|| panic!("{ended:?}")).1;
    let text = fs::read_to_string(path).unwrap();
    fs::remove_file(path).unwrap();
    text
}

#[test]
fn a_key_is_edited() {
    let place = Place::redb();
    let append = editor(&place, "append", "echo more >>\"$1\"");
    let idle = editor(&place, "idle", "true");
    let fails = editor(&place, "fails", "echo lost >\"$1\"; exit 1");
    place.ok(&["edit", "notes.txt", "--editor", &append]);
    assert_eq!(place.ok(&["get", "notes.txt"]), "more");
    place.ok(&["edit", "notes.txt", "--editor", &append]);
    assert_eq!(place.ok(&["get", "notes.txt"]), "moremore");
    let same = place.run(&["edit", "notes.txt", "--editor", &idle]);
    assert_eq!((same.code, &*same.out, &*same.err), (0, "", "kv: nothing was changed\n"));
    let failed = place.run(&["edit", "notes.txt", "--editor", &fails]);
    assert_eq!((failed.code, &*failed.out), (4, ""), "{failed:?}");
    // What was saved before a crash is work.
    assert_eq!(kept(&failed), "lost\n");
    let crashes = editor(&place, "crashes", "exit 1");
    let failed = place.run(&["edit", "notes.txt", "--editor", &crashes]);
    assert!(failed.code == 4 && !failed.err.contains(" is in "), "{failed:?}");
    assert_eq!(place.ok(&["get", "notes.txt"]), "moremore");
    let none = place.run(&["edit", "notes.txt", "--editor", "/nowhere/editor"]);
    assert_eq!(none.code, 4, "{none:?}");
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_edited_is_kept_when_the_key_was_changed_meanwhile() {
    let redis = crate::redis::Redis::start().await;
    let place = Place::at(&redis.url(""));
    for (change, code, then) in [("put a 2", 0, "2"), ("delete a", 1, "")] {
        place.ok(&["put", "a", "1"]);
        let script = format!("{} {change} >/dev/null; echo mine >\"$1\"", env!("CARGO_BIN_EXE_kv"));
        let slow = editor(&place, "slow", &script);
        let late = place.run(&["edit", "a", "--editor", &slow]);
        assert_eq!((late.code, &*late.out), (3, ""), "{change}: {late:?}");
        assert_eq!(kept(&late), "mine\n");
        let now = place.run(&["get", "a"]);
        assert_eq!((now.code, &*now.out), (code, then), "{change}: {now:?}");
    }
}

#[test]
fn what_was_saved_is_kept_when_a_signal_ends_the_edit() {
    let place = Place::redb();
    let waits = editor(&place, "waits", "echo mine >\"$1\"; echo saved; read line");
    for signal in [Signal::TERM, Signal::HUP] {
        let mut edit = place.command(&["edit", "a", "--editor", &waits]);
        let mut edit = edit.stdin(Stdio::piped()).spawn().unwrap();
        let input = edit.stdin.take();
        assert_eq!(line(&mut edit), "saved");
        kill_process(Pid::from_child(&edit), signal).unwrap();
        let ended = end(edit);
        assert_eq!((ended.code, &*ended.out), (128 + signal.as_raw(), ""), "{ended:?}");
        assert_eq!(kept(&ended), "mine\n");
        drop(input);
    }
    assert_eq!(place.run(&["exists", "a"]).code, 1);
}
