//! Folders and git work trees, as sources and targets of `copy`, `sync`, `check` and the others.

use crate::program::Place;
use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
    process::Command,
};

/// Makes a place with keys of all kinds, `app` among them, which has others below it.
fn filled() -> Place {
    let place = Place::redb();
    place.ok(&["put", "app", "top"]);
    place.ok(&["put", "app/a b", "1"]);
    assert!(place.run_with(&["put", "app/bytes", "-"], b"\xff\x00\r\n").status.success());
    place.ok(&["put", "z", ""]);
    place
}

const CREATED: &str = "created 4, replaced 0, deleted 0; 0 were the same; 0 differ now";

#[test]
fn a_store_goes_to_a_folder_and_back() {
    let place = filled();
    let (app, back) = (place.url("app"), place.url("back"));
    let file = |name: &str| place.home().join("files").join(name);
    place.table(&[
        (&["check", "dir:files", &app], 2, ""),
        (&["copy", &app, "dir:files", "-n"], 0, "+ app\n+ app/a b\n+ app/bytes\n+ z\nwould be created 4, replaced 0, deleted 0; 0 were the same\n"),
    ]);
    assert!(!file("").exists());
    place.table(&[
        (&["copy", &app, "dir:files"], 0, &format!("{CREATED}\n")),
        (
            &["copy", &app, "dir:files"],
            0,
            "created 0, replaced 0, deleted 0; 4 were the same; 0 differ now\n",
        ),
        (&["check", &app, "dir:files"], 0, "0 differ, 4 are the same\n"),
        (&["copy", "dir:files", &back], 0, &format!("{CREATED}\n")),
        (&["check", &back, &app], 0, "0 differ, 4 are the same\n"),
    ]);
    assert_eq!(fs::read(file("app/bytes")).unwrap(), b"\xff\x00\r\n");
    assert_eq!(fs::read(file("app/.kv")).unwrap(), b"top");
    assert_eq!(fs::read_dir(file("")).unwrap().count(), 2, "nothing is left beside the keys");

    fs::write(file("app/a b"), "2").unwrap();
    fs::remove_file(file("z")).unwrap();
    fs::create_dir(file("new")).unwrap();
    fs::write(file("new/key"), "3").unwrap();
    let shown = "~ app/a b\n+ new/key\n- z\n";
    place.table(&[
        (&["diff", "dir:files"], 1, &format!("{shown}3 differ, 2 are the same\n")),
        (
            &["import", "-n", "dir:files"],
            0,
            "~ app/a b\n+ new/key\nwould be created 1, replaced 1, deleted 0; 2 were the same\n",
        ),
        (&["check", "dir:files", &app, "-d", "app"], 1, "~ a b\n1 differ, 1 are the same\n"),
        (&["sync", &app, "dir:files", "--delete", "--max-delete", "0"], 8, ""),
        (
            &["sync", &app, "dir:files", "--delete"],
            0,
            "created 0, replaced 0, deleted 1; 4 were the same; 0 differ now\n",
        ),
    ]);
    assert!(!file("new").exists(), "a folder goes with its last key");
    place.ok(&["delete", "-r", "app"]);
    place.ok(&["sync", &app, "dir:files", "--delete"]);
    place.table(&[(&["check", &app, "dir:files"], 0, "0 differ, 2 are the same\n")]);
    // A key of a name that was a file's gets a folder, and keeps its value.
    place.ok(&["put", "z/below/it", "4"]);
    place.ok(&["copy", &app, "dir:files"]);
    place.table(&[(&["check", &app, "dir:files"], 0, "0 differ, 3 are the same\n")]);
    assert_eq!(fs::read(file("z/.kv")).unwrap(), b"");
    // So does one that is to be deleted.
    fs::write(file("q"), "extra").unwrap();
    place.ok(&["put", "q/x", "5"]);
    let told = "created 1, replaced 0, deleted 1; 3 were the same; 0 differ now\n";
    place.table(&[(&["sync", &app, "dir:files", "--delete"], 0, told)]);
    assert!(!file("q/.kv").exists() && file("q/x").exists());
}

#[test]
fn what_can_be_no_key_is_named() {
    let place = filled();
    let app = place.url("app");
    let files = place.home().join("files");
    let refuses = |name: &OsStr, part: &str| {
        let _ = fs::remove_dir_all(&files);
        fs::create_dir(&files).unwrap();
        if name == "link" {
            symlink("/etc/passwd", files.join(name)).unwrap();
        } else if name == ".git" {
            fs::create_dir(files.join(name)).unwrap();
        } else {
            fs::write(files.join(name), "x").unwrap();
        }
        for arguments in [["copy", "dir:files", &app], ["copy", &app, "dir:files"]] {
            let ended = place.run(&arguments);
            assert!(matches!(ended.code, 2 | 4) && ended.err.contains(part), "{arguments:?}: {ended:?}");
            assert_eq!(ended.out, "");
        }
    };
    refuses(OsStr::new("link"), "files/link is neither a file nor a folder");
    refuses(OsStr::new("a "), "the file files/a : it can be no key");
    refuses(OsStr::from_bytes(b"a\xff"), "its name is no UTF-8");
    refuses(OsStr::new(".git"), "name it git:files");
    for (from, part) in [
        ("dir:", "names no folder"),
        ("dir:none", "none"),
        ("dir:~/none", "write $HOME"),
        ("dir:app.redb", "is no folder"),
    ] {
        let wrong = place.run(&["copy", from, &app]);
        assert_eq!((wrong.code, &*wrong.out), (2, ""), "{wrong:?}");
        assert!(wrong.err.contains(part), "{wrong:?}");
    }
    place.ok(&["put", "a/.git/config", "[core]"]);
    let _ = fs::remove_dir_all(&files);
    let refused = place.run(&["copy", &app, "dir:files"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.err.contains("\"a/.git/config\" would be one of git's own"), "{refused:?}");
}

/// Runs `git` in the tree of a place, and returns what it prints.
fn git(place: &Place, arguments: &[&str]) -> String {
    let tree = place.home().join("tree");
    let mut command = Command::new("git");
    command.arg("-C").arg(tree).args(["-c", "user.name=Ann", "-c", "user.email=ann@example.org"]);
    let output = command.args(arguments).env("HOME", place.home()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_transfer_to_a_work_tree_is_a_commit_that_says_who_and_what() {
    let place = filled();
    let app = place.url("app");
    assert_eq!(place.run(&["copy", &app, "git:tree"]).code, 2, "there is no tree");
    fs::create_dir(place.home().join("tree")).unwrap();
    let none = place.run(&["copy", &app, "git:tree"]);
    assert!(none.code == 2 && none.err.contains("is in no git work tree"), "{none:?}");
    git(&place, &["init", "--quiet"]);
    git(&place, &["config", "user.name", "Ann"]);
    git(&place, &["config", "user.email", "ann@example.org"]);
    fs::write(place.home().join("tree/.gitignore"), "ignored\n*.log\n").unwrap();
    fs::write(place.home().join("tree/ignored"), "nobody's").unwrap();
    git(&place, &["add", "--all"]);
    git(&place, &["commit", "--quiet", "--message", "begin"]);
    place.ok(&["put", ".gitignore", "ignored\n*.log\n"]);
    place.ok(&["put", "app/x.log", "a key all the same"]);

    let told = place.ok(&["copy", &app, "git:tree"]);
    let name = git(&place, &["rev-parse", "--short", "HEAD"]);
    let created = "created 5, replaced 0, deleted 0; 1 were the same; 0 differ now; commit ";
    assert_eq!(told, format!("{created}{name}"));
    let shown = git(&place, &["log", "-1", "--format=%an <%ae>%n%B"]);
    let message = "Ann <ann@example.org>\nkv: created 5, replaced 0, deleted 0\n\n+ app\n+ app/a b\n+ app/bytes\n+ app/x.log\n+ z\n";
    assert_eq!(shown.trim_end(), message.trim_end());
    assert_eq!(git(&place, &["show", "HEAD:app/.kv"]), "top");
    assert_eq!(git(&place, &["status", "--porcelain"]), "");
    place.table(&[
        (&["copy", &app, "git:tree"], 0, "created 0, replaced 0, deleted 0; 6 were the same; 0 differ now\n"),
        (&["check", "git:tree", &app], 0, "0 differ, 6 are the same\n"),
    ]);
    assert_eq!(git(&place, &["rev-list", "--count", "HEAD"]), "2\n");

    // What a person edits goes to the store once it is committed.
    let file = place.home().join("tree/app/a b");
    fs::write(&file, "by hand").unwrap();
    for arguments in [["copy", "git:tree", &app], ["copy", &app, "git:tree"]] {
        let refused = place.run(&arguments);
        assert_eq!((refused.code, &*refused.out), (4, ""), "{refused:?}");
        assert!(refused.err.contains("\"app/a b\"; commit or stash them"), "{refused:?}");
    }
    git(&place, &["commit", "--quiet", "--all", "--message", "edit"]);
    place.ok(&["apply", "git:tree"]);
    assert_eq!(place.ok(&["get", "app/a b"]), "by hand");

    // A part of the tree is committed alone.
    place.ok(&["delete", "app/a b"]);
    place.ok(&["put", "app/c", "3"]);
    place.ok(&["put", "z", "changed"]);
    let told = place.ok(&["sync", "--json", &app, "git:tree", "-d", "app", "--delete"]);
    let name = git(&place, &["rev-parse", "--short", "HEAD"]);
    let object = "{\"v\":1,\"dry_run\":false,\"created\":1,\"replaced\":0,\"deleted\":1,\"same\":2,\"conflicts\":0,\"differ\":0,\"commit\":\"";
    assert_eq!(told, format!("{object}{}\"}}\n", name.trim_end()));
    assert_eq!(git(&place, &["show", "--format=", "--name-status", "HEAD"]), "D\tapp/a b\nA\tapp/c\n");
}

#[test]
fn what_a_transfer_that_fails_has_written_is_committed() {
    let place = Place::redb();
    let app = place.url("app");
    for (key, value) in [("a", "1"), ("b/.git/config", "x"), ("c", "3")] {
        place.ok(&["put", key, value]);
    }
    fs::create_dir(place.home().join("tree")).unwrap();
    git(&place, &["init", "--quiet"]);
    git(&place, &["config", "user.name", "Ann"]);
    git(&place, &["config", "user.email", "ann@example.org"]);
    let failed = place.run(&["copy", &app, "git:tree"]);
    assert_eq!((failed.code, &*failed.out), (8, ""), "{failed:?}");
    let shown = git(&place, &["log", "--format=%B"]);
    assert_eq!(shown.trim_end(), "kv: created 1, replaced 0, deleted 0; it was broken off\n\n+ a");
    place.ok(&["delete", "b/.git/config"]);
    let told = place.ok(&["copy", &app, "git:tree"]);
    assert!(told.starts_with("created 1, replaced 0, deleted 0; 1 were the same; 0 differ now; "), "{told}");
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_follows_a_store_until_a_signal_comes() {
    use crate::{
        program::{end, line, until},
        redis::Redis,
    };
    use rustix::process::{Pid, Signal, kill_process};

    let redis = Redis::start().await;
    let app = redis.url("");
    let place = Place::at(&app);
    place.ok(&["put", "a", "1"]);
    place.ok(&["put", "goes", "soon"]);
    let arguments = ["sync", &app, "dir:files", "--delete", "--follow"];
    let mut sync = place.command(&arguments).spawn().unwrap();
    let first = "created 2, replaced 0, deleted 0; 0 were the same; 0 differ now";
    assert_eq!(line(&mut sync), first);
    let file = place.home().join("files/goes");
    assert!(file.exists());
    place.ok(&["delete", "goes"]);
    until("the end of the file", || !file.exists());
    kill_process(Pid::from_child(&sync), Signal::INT).unwrap();
    let ended = end(sync);
    let last = "created 0, replaced 0, deleted 1; 1 were the same; 0 differ now\n";
    assert_eq!((ended.code, &*ended.out, &*ended.err), (0, last, ""));
    for wrong in [["sync", "dir:files", &app, "--follow"], ["sync", &app, "dir:files", "-nf"]] {
        assert_eq!(place.run(&wrong).code, 2, "{wrong:?}");
    }
}
