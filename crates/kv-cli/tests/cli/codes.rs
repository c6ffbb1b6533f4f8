//! The table of exit codes: each of them, by commands of several kinds. What no file can bring
//! about, an outcome that nobody knows, is in the table of the program's own `exit.rs`.

use crate::program::{Ended, Place, end, line};
use std::{
    fs::{self, File},
    io::Write,
    process::Stdio,
};

#[test]
fn the_exit_codes_are_those_of_the_table() {
    let place = Place::redb();
    let version = place.ok(&["put", "a", "1"]);
    let version = version.trim_end();
    let lines = "{\"v\":1,\"key\":\"b\",\"value\":\"2\"}\n{\"v\":1,\"exported\":1}\n";
    fs::write(place.home().join("lines"), lines).unwrap();
    fs::write(place.home().join("part"), &lines[..30]).unwrap();
    fs::write(place.home().join("refused"), "when a none\nput a 2\n").unwrap();
    fs::write(place.home().join("template"), "{{ get('none') }}").unwrap();
    place.ok(&["put", "pool/slots/0", "another's"]);
    let missing = place.url("missing/app");
    let rows: &[(i32, &[&str])] = &[
        (0, &["get", "a"]),
        (0, &["exists", "a"]),
        (0, &["wait", "a"]),
        (0, &["lock", "l", "--", "true"]),
        (0, &["health"]),
        (1, &["get", "none"]),
        (1, &["exists", "none"]),
        (1, &["delete", "none"]),
        (1, &["delete", "-r", "none"]),
        (1, &["cat", "none"]),
        (1, &["wait", "none", "--within", "10ms"]),
        (1, &["holder", "none"]),
        (1, &["break", "none", "--token", "1"]),
        (1, &["diff", "lines"]),
        (1, &["semaphore", "pool", "1", "--try", "--", "true"]),
        (2, &["get", "a/../b"]),
        (2, &["put", "a", "1", "--ttl", "9000d"]),
        (2, &["--store", "nobody", "ls"]),
        (2, &["--store", "mysql://h", "ls"]),
        (2, &["--store", &missing, "ls"]),
        (2, &["check", "dir:none", "dir:none"]),
        (2, &["import", "part"]),
        (2, &["apply", "lines", "--partial", "--delete"]),
        (2, &["lock", "l", "--ttl", "1s", "--grace", "1s", "--", "true"]),
        (3, &["cas", "a", "none", "2"]),
        (3, &["cas", "a", "1000000", "2"]),
        (3, &["put", "a", "2", "--if-missing"]),
        (3, &["delete", "a", "--if-version", "1000000"]),
        (3, &["txn", "refused"]),
        (3, &["lease", "--put", "a=2", "--if-missing", "--", "true"]),
        (4, &["put", "a", "--file", "none"]),
        (4, &["import", "none"]),
        (4, &["render", "template", "conf", "--once"]),
        (4, &["edit", "a", "--editor", "false"]),
        (8, &["apply", "lines", "--delete", "--max-delete", "0"]),
        (4, &["apply", "lines", "--delete", "--max-delete", "0"]),
        (126, &["lock", "l", "--", "./lines"]),
        (127, &["semaphore", "other", "1", "--", "no-such-command"]),
        (127, &["run", "--env", "none", "--", "no-such-command"]),
        (9, &["lock", "l", "--", "sh", "-c", "exit 9"]),
        (9, &["elect", "l", "--", "sh", "-c", "exit 9"]),
        (9, &["lease", "--", "sh", "-c", "exit 9"]),
        (137, &["run", "--env", "none", "--", "sh", "-c", "kill -KILL $$"]),
    ];
    for (code, arguments) in rows {
        let ended = place.run(arguments);
        assert_eq!(ended.code, *code, "{arguments:?}: {ended:?}");
        assert!(!ended.err.contains("panicked"), "{ended:?}");
    }
    assert_eq!(place.ok(&["get", "--version-only", "a"]).trim_end(), version, "nothing was written");
}

#[test]
fn a_failure_behind_something_that_was_done_is_a_code_of_its_own() {
    let place = Place::redb();
    let full = || File::options().write(true).open("/dev/full").unwrap();
    place.ok(&["put", "app/gone", "1"]);
    fs::write(place.home().join("two"), "put x 1\nput y 2\n").unwrap();
    for arguments in [
        &["put", "a", "1"][..],
        &["cas", "b", "none", "1"],
        &["edit", "c", "--editor", "cp two"],
        &["txn", "two"],
        &["delete", "--json", "a"],
        &["delete", "-r", "app"],
        &["elect", "leader"],
    ] {
        let ended = Ended::of(place.command(arguments).stdout(full()).output().unwrap());
        let is_told = ended.err.contains("the output cannot be written")
            && (ended.err.contains("done before") || ended.err.contains("\"partly\":true"));
        assert!(ended.code == 8 && is_told, "{arguments:?}: {ended:?}");
    }
    assert_eq!(place.ok(&["ls"]), "b\nc\nleader/\nx\ny\n");
    let nothing = Ended::of(place.command(&["get", "b"]).stdout(full()).output().unwrap());
    assert_eq!(nothing.code, 4, "{nothing:?}");
    let object = place.command(&["--json", "put", "b", "2"]).stdout(full()).output().unwrap();
    assert!(Ended::of(object).err.ends_with("\"partly\":true}\n"));
}

#[test]
fn a_copy_that_failed_on_its_way_does_not_say_that_nothing_happened() {
    let place = Place::redb();
    // The name of a file has 255 bytes at most.
    let long = "n".repeat(300);
    let line = |key: &str| format!("{{\"v\":1,\"key\":{key:?},\"value\":\"1\"}}\n");
    fs::write(place.home().join("lines"), format!("{}{}", line("a"), line(&long))).unwrap();
    place.ok(&["import", "lines", "--partial"]);
    let from = place.url("app");
    let partly = place.run(&["copy", &from, "dir:copy"]);
    assert_eq!(
        (partly.code, fs::read(place.home().join("copy/a")).unwrap()),
        (8, b"1".to_vec()),
        "{partly:?}"
    );
    assert_eq!(place.run(&["copy", &from, "dir:copy"]).code, 4, "nothing was left to do but what fails");
}

#[test]
fn a_store_that_cannot_be_reached_is_another_code_than_one_that_refuses() {
    let place = Place::redb();
    let mut lock = place.command(&["lock", "a", "--", "sh", "-c", "echo ready; read line"]);
    let mut lock = lock.stdin(Stdio::piped()).spawn().unwrap();
    assert_eq!(line(&mut lock), "ready");
    for arguments in [&["get", "a"][..], &["put", "a", "1"], &["locks"], &["lease", "--", "true"]] {
        let ended = place.run(&[&["--timeout", "10ms"], arguments].concat());
        assert_eq!((ended.code, &*ended.out), (5, ""), "{arguments:?}: {ended:?}");
        assert!(ended.err.contains("is open in another process"), "{ended:?}");
    }
    let object = place.run(&["--json", "--timeout", "10ms", "get", "a"]);
    assert!(object.err.starts_with(r#"{"v":1,"error":"unavailable","message":""#), "{object:?}");
    let told = place.run(&["--timeout", "10ms", "doctor"]);
    let begin = "fault: opening: open on redb: ";
    assert!(told.code == 5 && told.out.starts_with(begin) && told.err.is_empty(), "{told:?}");
    lock.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert_eq!(end(lock).code, 0);
}

#[test]
fn the_help_and_the_readme_have_the_same_table() {
    let help = Place::new().ok(&["--help"]);
    let (_, table) = include_str!("../../README.md").split_once("| code | means |\n").unwrap();
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let mut count = 0;
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        // The codes of shells are in a sentence of the help.
        if let [code, means] = cells[..]
            && !code.contains(',')
        {
            assert!(help.contains(&format!("\n  {code:<4} {means}\n")), "{code} {means}: {help}");
            count += 1;
        }
    }
    assert_eq!(count, 10);
}
