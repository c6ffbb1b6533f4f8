//! `export`, `import`, `apply`, `diff`, `copy`, `sync`, `check`.

use crate::program::{Ended, Place};
use std::{
    fs::{self, File},
    io::Read,
};

const LINES: &str = "\
{\"v\":1,\"key\":\"app/a\",\"value\":\"1\"}
{\"v\":1,\"key\":\"app/b\",\"base64\":\"/wA=\"}
{\"v\":1,\"key\":\"z\",\"value\":\"\"}
{\"v\":1,\"exported\":3}
";

/// Makes a place with the keys of `LINES`, in the store and in the file `lines`.
fn filled() -> Place {
    let place = Place::redb();
    fs::write(place.home().join("lines"), LINES).unwrap();
    let told = place.ok(&["import", "lines"]);
    assert_eq!(told, "created 3, replaced 0, deleted 0; 0 were the same; 0 differ now\n");
    place
}

#[test]
fn what_is_exported_is_imported_as_it_was() {
    let place = filled();
    assert_eq!(place.ok(&["export"]), LINES);
    let part = "{\"v\":1,\"key\":\"a\",\"value\":\"1\"}\n{\"v\":1,\"key\":\"b\",\"base64\":\"/wA=\"}\n\
                {\"v\":1,\"exported\":2}\n";
    assert_eq!(place.ok(&["export", "-d", "app"]), part);
    let again = Ended::of(place.run_with(&["import"], LINES.as_bytes()));
    assert_eq!(again.out, "created 0, replaced 0, deleted 0; 3 were the same; 0 differ now\n");
    let moved = Ended::of(place.run_with(&["import", "--json", "-v", "-d", "new"], part.as_bytes()));
    let object = "{\"v\":1,\"change\":\"create\",\"key\":\"a\"}\n{\"v\":1,\"change\":\"create\",\"key\":\"b\"}\n\
                  {\"v\":1,\"dry_run\":false,\"created\":2,\"replaced\":0,\"deleted\":0,\"same\":0,\"conflicts\":0,\
                  \"differ\":0}\n";
    assert_eq!((moved.code, &*moved.out, &*moved.err), (0, object, ""));
    assert_eq!(place.ok(&["get", "new/a"]), "1");
}

#[test]
fn lines_that_are_wrong_write_nothing() {
    let place = Place::redb();
    for (lines, part) in [
        ("{\"v\":1,\"key\":\"a\",\"value\":\"1\"}\nnonsense\n", "standard input, line 2: it is no object"),
        ("{\"v\":9,\"key\":\"a\",\"value\":\"1\"}\n", "line 1: it is of version 9"),
        ("{\"v\":1,\"key\":\"a\"}\n", "line 1: the key \"a\" needs one of"),
    ] {
        let wrong = Ended::of(place.run_with(&["import"], lines.as_bytes()));
        assert_eq!((wrong.code, &*wrong.out), (2, ""), "{wrong:?}");
        assert!(wrong.err.contains(part), "{wrong:?}");
    }
    assert_eq!(place.run(&["import", "nothing"]).code, 4);
    assert_eq!(place.ok(&["ls"]), "");
}

#[test]
fn a_part_of_an_export_is_refused_unless_a_part_will_do() {
    let place = filled();
    let two = LINES.match_indices('\n').nth(1).unwrap().0 + 1;
    for (cut, why) in [
        (two, "behind line 2: the last line is missing"),
        (two + 20, "line 3: it has no end"),
        (0, "behind line 0: the last line is missing"),
    ] {
        fs::write(place.home().join("part"), &LINES[..cut]).unwrap();
        for arguments in [&["import", "part"][..], &["apply", "part", "--delete"], &["diff", "part"]] {
            let refused = place.run(arguments);
            assert_eq!((refused.code, &*refused.out), (2, ""), "{arguments:?}: {refused:?}");
            let told = refused.err.strip_prefix(&format!("kv: part, {why}; ")).unwrap();
            assert!(told.contains("--partial") && told.contains("{\"v\":1,\"exported\":3}"), "{refused:?}");
        }
    }
    fs::write(place.home().join("part"), &LINES[..two]).unwrap();
    assert_eq!(place.ok(&["diff", "lines"]), "0 differ, 3 are the same\n");
    place.ok(&["delete", "-r", "app"]);
    let told = "created 2, replaced 0, deleted 0; 0 were the same; 0 differ now\n";
    assert_eq!(place.ok(&["import", "part", "--partial"]), told);
    // What is missing in a part is not to be deleted.
    let refused = place.run(&["apply", "part", "--partial", "--delete"]);
    assert!(refused.code == 2 && refused.err.contains("would delete"), "{refused:?}");
    assert_eq!(place.ok(&["ls", "-r"]), "app/a\napp/b\nz\n");
    fs::write(place.home().join("part"), &LINES[..two + 20]).unwrap();
    let torn = place.run(&["import", "part", "--partial"]);
    let told = "created 0, replaced 0, deleted 0; 2 were the same; 0 differ now\n";
    assert_eq!((torn.code, &*torn.out), (0, told), "{torn:?}");
    assert_eq!(torn.err, "kv: part, line 3: it has no end; what is whole is taken\n");
}

#[test]
fn an_export_whose_pipe_breaks_is_no_whole_one() {
    let place = Place::redb();
    let line = |n| format!("{{\"v\":1,\"key\":\"many/{n:06}\",\"value\":\"{}\"}}\n", "x".repeat(100));
    let lines = (0..2000).map(line).collect::<String>();
    place.run_with(&["import", "--partial"], lines.as_bytes());
    let mut export = place.command(&["export"]).spawn().unwrap();
    let mut part = vec![0; 100_000];
    export.stdout.take().unwrap().read_exact(&mut part).unwrap();
    assert_eq!(export.wait().unwrap().code(), Some(141));
    let refused = Ended::of(place.run_with(&["import"], &part));
    assert!(refused.code == 2 && refused.err.contains("it has no end"), "{refused:?}");
    let whole = place.ok(&["export"]);
    assert!(whole.ends_with("{\"v\":1,\"exported\":2000}\n"));
    assert_eq!(Ended::of(place.run_with(&["diff"], whole.as_bytes())).code, 0);
}

#[test]
fn what_differs_is_shown_and_applied() {
    let place = filled();
    place.ok(&["put", "app/a", "other"]);
    place.ok(&["put", "app/extra", "1"]);
    place.ok(&["delete", "z"]);
    let shown = "~ app/a\n- app/extra\n+ z\n";
    place.table(&[
        (&["diff", "lines"], 1, &format!("{shown}3 differ, 1 are the same\n")),
        (
            &["apply", "lines", "--dry-run", "--delete"],
            0,
            &format!("{shown}would be created 1, replaced 1, deleted 1; 1 were the same\n"),
        ),
        (
            &["import", "lines", "-n", "--if-missing"],
            0,
            "+ z\nwould be created 1, replaced 0, deleted 0; 1 were the same\n",
        ),
        (
            &["apply", "lines", "-v"],
            0,
            "~ app/a\n+ z\ncreated 1, replaced 1, deleted 0; 1 were the same; 0 differ now\n",
        ),
        (&["diff", "lines"], 1, "- app/extra\n1 differ, 3 are the same\n"),
        (&["apply", "lines", "--delete", "--max-delete", "0"], 4, ""),
        (&["get", "app/extra"], 0, "1"),
        (&["apply", "lines", "--max-delete", "1"], 2, ""),
        (
            &["apply", "lines", "--delete", "--max-delete", "1"],
            0,
            "created 0, replaced 0, deleted 1; 3 were the same; 0 differ now\n",
        ),
        (&["diff", "lines"], 0, "0 differ, 3 are the same\n"),
        (&["diff", "--json", "lines"], 0, "{\"v\":1,\"differ\":0,\"same\":3}\n"),
        (&["export"], 0, LINES),
    ]);
}

#[test]
fn a_store_is_copied_synced_and_checked() {
    let place = filled();
    let (from, to) = (place.url("app"), place.url("copy"));
    let pair = |command, more: &[&'static str]| {
        let mut arguments = vec![command, from.as_str(), to.as_str()];
        arguments.extend(more);
        let ended = place.run(&arguments);
        (ended.code, ended.out)
    };
    assert_eq!(pair("check", &[]), (1, "+ app/a\n+ app/b\n+ z\n3 differ, 0 are the same\n".into()));
    let told = "+ app/a\n+ app/b\n+ z\nwould be created 3, replaced 0, deleted 0; 0 were the same\n";
    assert_eq!(pair("copy", &["--dry-run"]), (0, told.into()));
    let part = "created 2, replaced 0, deleted 0; 0 were the same; 0 differ now\n";
    assert_eq!(pair("copy", &["-d", "app"]), (0, part.into()));
    let rest = "created 1, replaced 0, deleted 0; 2 were the same; 0 differ now\n";
    assert_eq!(pair("copy", &[]), (0, rest.into()));
    assert_eq!(pair("check", &[]), (0, "0 differ, 3 are the same\n".into()));

    place.ok(&["--store", &to, "put", "extra", "1"]);
    place.ok(&["--store", &to, "put", "z", "9"]);
    let kept = "created 0, replaced 0, deleted 0; 2 were the same; 0 differ now\n";
    assert_eq!(pair("copy", &["--if-missing"]), (0, kept.into()));
    let synced = "created 0, replaced 1, deleted 0; 2 were the same; 0 differ now\n";
    assert_eq!(pair("sync", &[]), (0, synced.into()));
    assert_eq!(pair("check", &[]), (1, "- extra\n1 differ, 3 are the same\n".into()));
    let deleted = "created 0, replaced 0, deleted 1; 3 were the same; 0 differ now\n";
    assert_eq!(pair("sync", &["--delete"]), (0, deleted.into()));
    assert_eq!(place.ok(&["--store", &to, "export"]), LINES);
}

#[test]
fn many_keys_go_over() {
    let place = Place::redb();
    let line = |n| format!("{{\"v\":1,\"key\":\"many/{n:05}\",\"value\":\"{n}\"}}\n");
    let lines = format!("{}{{\"v\":1,\"exported\":5000}}\n", (0..5000).map(line).collect::<String>());
    fs::write(place.home().join("lines"), &lines).unwrap();
    let told = "created 5000, replaced 0, deleted 0; 0 were the same; 0 differ now\n";
    assert_eq!(place.ok(&["import", "lines"]), told);
    let (from, to) = (place.url("app"), place.url("copy"));
    assert_eq!(place.ok(&["copy", &from, &to]), told);
    assert_eq!(place.ok(&["--store", &to, "export"]), lines);
    assert_eq!(place.ok(&["delete", "-r", "/"]), "deleted 5000\n");
    let emptied = "created 0, replaced 0, deleted 5000; 0 were the same; 0 differ now\n";
    let refused = place.run(&["sync", &from, &to, "--delete"]);
    assert!(refused.code == 4 && refused.err.contains("--from-empty"), "{refused:?}");
    assert_eq!(place.ok(&["sync", &from, &to, "--delete", "--max-delete", "5000"]), emptied);
}

#[test]
fn a_place_that_is_the_other_or_lies_in_it_is_refused() {
    let place = filled();
    let at = |prefix: &str| format!("{}?prefix={prefix}", place.url("app"));
    let (whole, part, beside) = (place.url("app"), at("app"), at("application"));
    for (from, to) in [(&whole, &part), (&part, &whole), (&part, &part)] {
        for command in ["copy", "sync"] {
            let ended = place.run(&[command, from, to]);
            assert!(ended.code == 2 && ended.err.contains("lies in the other"), "{from} {to}: {ended:?}");
        }
    }
    place.ok(&["copy", &part, &beside]);
    place.ok(&["copy", &whole, "dir:copy"]);
    assert_eq!(place.run(&["copy", "dir:copy", "dir:copy/inside"]).code, 2);
    assert_eq!(place.run(&["check", &part, &whole]).code, 1, "looking harms nobody");
    assert_eq!(place.ok(&["export"]).lines().count(), 6);
}

#[test]
fn a_dash_is_standard_input() {
    let place = Place::redb();
    let told = Ended::of(place.run_with(&["import", "-"], LINES.as_bytes()));
    assert_eq!(
        (told.code, &*told.out),
        (0, "created 3, replaced 0, deleted 0; 0 were the same; 0 differ now\n")
    );
    assert_eq!(Ended::of(place.run_with(&["diff", "-"], LINES.as_bytes())).code, 0);
}

#[test]
fn nothing_is_adopted_where_all_is_seen() {
    let place = filled();
    for (arguments, told) in [
        (&["adopt"][..], "adopted 0\n"),
        (&["adopt", "app", "--dry-run"], "would be adopted 0\n"),
        (&["adopt", "--json"], "{\"v\":1,\"dry_run\":false,\"adopted\":0,\"left_out\":0}\n"),
    ] {
        let ended = place.run(arguments);
        assert_eq!((ended.code, &*ended.out), (0, told), "{ended:?}");
        assert!(ended.err.contains("nothing to adopt"), "{ended:?}");
    }
}

#[test]
fn an_export_that_finds_no_room_says_so() {
    let place = filled();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let export = place.command(&["export"]).stdout(full).output().unwrap();
    let ended = Ended::of(export);
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.err.starts_with("kv: the output cannot be written: "), "{ended:?}");
}
