//! The choice of a store.

use crate::program::{Place, end, line};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;

#[test]
fn the_default_is_a_file_of_this_user() {
    let place = Place::new();
    place.ok(&["put", "a", "1"]);
    assert_eq!(place.ok(&["get", "a"]), "1");
    assert!(place.home().join(".local/share/kv/default.redb").is_file());
    let homeless = place.command(&["get", "a"]).env_remove("HOME").output().unwrap();
    assert_eq!(homeless.status.code(), Some(2));
}

#[test]
fn stores_have_names() {
    let place = Place::new();
    let (one, two) = (place.url("one"), place.url("two"));
    let names = format!("# stores\none {one}\ndefault {two}\n");
    let config = place.home().join(".config/kv");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("stores"), names).unwrap();
    place.ok(&["--store", "one", "put", "a", "1"]);
    place.ok(&["put", "a", "2"]);
    assert_eq!(place.ok(&["get", "a", "--store", &one]), "1");
    assert_eq!(place.ok(&["get", "a", "-s", &two]), "2");
    assert_eq!(place.ok(&["check", "one", "one"]), "0 differ, 1 are the same\n");
    let named = place.command(&["get", "a"]).env("KV_STORE", "one").output().unwrap();
    assert_eq!(named.stdout, b"1");

    let unknown = place.run(&["-s", "three", "ls"]);
    assert_eq!((unknown.code, &*unknown.out), (2, ""), "{unknown:?}");
    assert!(unknown.err.contains("\"three\"") && unknown.err.contains("one, default"), "{unknown:?}");

    fs::write(place.home().join("others"), "one\n").unwrap();
    let wrong = place.run(&["--config", "others", "ls"]);
    assert_eq!((wrong.code, &*wrong.err), (2, "kv: others, line 1: it is not of the form NAME URL\n"));
    assert_eq!(place.run(&["--config", "nothing", "ls"]).code, 2);
}

#[test]
fn a_url_that_is_wrong_says_so_and_shows_no_secret() {
    let place = Place::new();
    for url in ["mysql://me:secret@h/x", "redb://me:secret@file", "memory://?color=secret"] {
        let wrong = place.run(&["-s", url, "ls"]);
        assert_eq!((wrong.code, &*wrong.out), (2, ""), "{url}: {wrong:?}");
        assert!(!wrong.err.contains("secret"), "{url}: {wrong:?}");
    }
    let help = place.command(&["--help"]).env("KV_STORE", "etcd://me:secret@h").output().unwrap();
    assert!(!String::from_utf8(help.stdout).unwrap().contains("secret"));
}

#[test]
fn what_asks_about_a_store_takes_its_url_behind_the_command() {
    let place = Place::new();
    let (one, two) = (place.url("one"), place.url("two"));
    let config = place.home().join(".config/kv");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("stores"), format!("one {one}\n")).unwrap();
    for (file, arguments) in [
        ("one", &["doctor", "one"][..]),
        ("two", &["doctor", &two]),
        ("two", &["health", &two]),
        ("one", &["health", "one", "--store", "one"]),
    ] {
        // What is said beats what the environment says.
        let ended = place.command(arguments).env("KV_STORE", "memory://").output().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{arguments:?}: {ended:?}");
        let file = place.home().join(format!("{file}.redb"));
        assert!(file.is_file(), "{arguments:?}");
        fs::remove_file(file).unwrap();
    }
    let mut ui = place.command(&["ui", "one"]).spawn().unwrap();
    assert!(line(&mut ui).starts_with("http://127.0.0.1:"));
    assert!(place.home().join("one.redb").is_file());
    kill_process(Pid::from_child(&ui), Signal::TERM).unwrap();
    end(ui);
    for command in ["doctor", "health", "ui"] {
        let twice = place.run(&["--store", "redb://me:secret@file", command, "memory://"]);
        assert_eq!((twice.code, &*twice.out), (2, ""), "{twice:?}");
        assert!(twice.err.contains("two stores") && !twice.err.contains("secret"), "{twice:?}");
    }
}
