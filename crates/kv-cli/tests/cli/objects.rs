//! The output of `--json`: objects, one a line, whose fields the README has.

use crate::program::{Place, end, line};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value};
use std::{collections::BTreeSet, fs};

const README: &str = include_str!("../../README.md");

/// Returns the words in backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Returns the fields that the README names for the objects of a command.
fn documented(command: &str) -> BTreeSet<&'static str> {
    let (_, table) = README.split_once("| command | fields |\n").unwrap();
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let of_command = rows.filter_map(|row| {
        let mut cells = row.split('|').skip(1);
        let (commands, fields) = (cells.next()?, cells.next()?);
        let is_it = quoted(commands).any(|named| named.split(' ').next() == Some(command));
        is_it.then(|| quoted(fields)).map(Iterator::collect::<Vec<_>>)
    });
    of_command.flatten().collect()
}

/// Looks at what a command has printed; returns how many objects it was.
fn check(command: &str, printed: &str) -> usize {
    let fields = documented(command);
    for line in printed.lines() {
        assert!(line.starts_with("{\"v\":1,"), "{command}: {line}");
        let object: Map<String, Value> = serde_json::from_str(line).unwrap();
        for field in object.keys().filter(|field| *field != "v") {
            assert!(fields.contains(field.as_str()), "{command}: the README does not have {field:?}: {line}");
        }
    }
    printed.lines().count()
}

#[test]
fn every_object_is_one_line_with_fields_that_are_documented() {
    let place = Place::redb();
    let url = place.url("app");
    fs::write(
        place.home().join("lines"),
        "{\"v\":1,\"key\":\"b\",\"base64\":\"/w==\"}\n{\"v\":1,\"exported\":1}\n",
    )
    .unwrap();
    fs::write(place.home().join("txn"), "put c 3\ndelete d\n").unwrap();
    fs::write(place.home().join("refused"), "when c none\nput c 4\n").unwrap();
    fs::write(place.home().join("template"), "{{ get('a') }}").unwrap();
    fs::write(place.home().join("append"), "echo more >>\"$1\"").unwrap();
    // Each with its exit code, and with how many objects it prints at least.
    let rows: &[(&[&str], i32, usize)] = &[
        (&["put", "a", "two\nlines"], 0, 1),
        (&["put", "dir/b", "1", "--ttl", "1h"], 0, 1),
        (&["get", "a"], 0, 1),
        (&["cat", "a", "dir/b"], 0, 2),
        (&["exists", "a"], 0, 1),
        (&["ls"], 0, 2),
        (&["ls", "-lr"], 0, 2),
        (&["tree"], 0, 2),
        (&["cas", "c", "none", "x"], 0, 1),
        (&["edit", "a", "--editor", "sh append"], 0, 1),
        (&["wait", "a"], 0, 1),
        (&["watch", "-r", "/", "-n", "2"], 0, 2),
        (&["txn", "txn"], 0, 1),
        (&["txn", "refused"], 3, 1),
        (&["holder", "leader"], 1, 1),
        (&["break", "leader", "--token", "1"], 1, 1),
        (&["locks"], 0, 0),
        (&["export"], 0, 4),
        (&["diff", "lines"], 1, 2),
        (&["import", "lines", "-v"], 0, 2),
        (&["apply", "lines", "-n", "--delete"], 0, 2),
        (&["copy", &url, "dir:files", "-v"], 0, 2),
        (&["sync", &url, "dir:files"], 0, 1),
        (&["check", &url, "dir:files"], 0, 1),
        (&["render", "template", "conf", "-n"], 1, 1),
        (&["doctor", "--write"], 0, 6),
        (&["config", "status", "none", "-v"], 1, 1),
        (&["health"], 0, 1),
        (&["capabilities"], 0, 1),
        (&["delete", "a"], 0, 1),
        (&["delete", "-r", "/"], 0, 1),
        (&["lock", "a", "--", "true"], 0, 0),
        (&["semaphore", "s", "1", "--", "true"], 0, 0),
        (&["lease", "--", "true"], 0, 0),
        (&["run", "--env", "none", "--", "true"], 0, 0),
    ];
    for (arguments, code, least) in rows {
        let ended = place.run(&[&["--json"], *arguments].concat());
        assert_eq!((ended.code, &*ended.err), (*code, ""), "{arguments:?}: {ended:?}");
        let count = check(arguments[0], &ended.out);
        assert!(count >= *least && (count == 0) == (*least == 0), "{arguments:?}: {ended:?}");
    }
    // The output is the command's then.
    let led = place.run(&["--json", "elect", "leader", "--", "true"]);
    assert_eq!((led.code, &*led.out, check("elect", &led.err)), (0, "", 1), "{led:?}");
    for arguments in [&["elect", "leader"][..], &["lease"], &["ui"]] {
        let mut command = place.command(&[&["--json"], arguments].concat()).spawn().unwrap();
        assert_eq!(check(arguments[0], &line(&mut command)), 1);
        kill_process(Pid::from_child(&command), Signal::TERM).unwrap();
        assert_eq!(end(command).code, 143);
    }
}

#[test]
fn every_failure_is_an_object_on_standard_error() {
    let place = Place::redb();
    let rows: &[(&[&str], i32)] = &[
        (&["get", "none"], 1),
        (&["wait", "none", "--within", "10ms"], 1),
        (&["--store", "nobody", "ls"], 2),
        (&["cas", "a", "1000000", "2"], 3),
        (&["import", "none"], 4),
        (&["copy", "dir:none", "dir:other"], 2),
        (&["lock", "a", "--", "no-such-command"], 127),
    ];
    for (arguments, code) in rows {
        let ended = place.run(&[&["--json"], *arguments].concat());
        assert_eq!((ended.code, &*ended.out), (*code, ""), "{arguments:?}: {ended:?}");
        let object: Map<String, Value> = serde_json::from_str(&ended.err).unwrap();
        assert!(object["error"].is_string() && object["message"].is_string(), "{ended:?}");
        let known = ["v", "error", "message", "key"];
        assert!(object.keys().all(|field| known.contains(&field.as_str())), "{ended:?}");
    }
}
