//! ^C, readers that leave, disks that are full.

use crate::program::{Ended, Place, end, line};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, File},
    io::Write,
    process::{Child, Stdio},
};

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
}

#[test]
fn an_interrupt_ends_what_waits_and_writes_nothing() {
    let place = Place::redb();
    place.ok(&["put", "a", "1"]);
    fs::write(place.home().join("template"), "{{ get('a') }}").unwrap();
    let mut watch = place.command(&["watch", "a"]).spawn().unwrap();
    assert_eq!(line(&mut watch), "put\ta\t1");
    interrupt(&watch);
    assert_eq!(end(watch).code, -2);

    let mut render = place.command(&["render", "template", "conf", "--reload", "echo done"]).spawn().unwrap();
    assert_eq!(line(&mut render), "done");
    interrupt(&render);
    assert_eq!(end(render).code, 130);

    // What is still being read is not written: a half of an import is none.
    for command in ["import", "apply", "txn"] {
        let mut waits = place.command(&[command]).stdin(Stdio::piped()).spawn().unwrap();
        let mut to = waits.stdin.take().unwrap();
        to.write_all(b"{\"v\":1,\"key\":\"b\",\"value\":\"1\"}\n").unwrap();
        interrupt(&waits);
        let ended = Ended::of(waits.wait_with_output().unwrap());
        assert_eq!((ended.code, &*ended.out), (-2, ""), "{command}: {ended:?}");
    }
    assert_eq!(place.ok(&["ls", "-rl"]), "a\t1\n");

    for arguments in [&["elect", "leader"][..], &["lease"], &["ui"]] {
        let mut command = place.command(arguments).spawn().unwrap();
        assert_ne!(line(&mut command), "");
        interrupt(&command);
        assert_eq!(end(command).code, 130, "{arguments:?}");
    }
    let mut holds =
        place.command(&["lock", "a", "--", "sh", "-c", "echo held; exec sleep 100"]).spawn().unwrap();
    assert_eq!(line(&mut holds), "held");
    interrupt(&holds);
    assert_eq!(end(holds).code, 130);
}

#[test]
fn a_reader_that_leaves_ends_every_command_that_prints_much() {
    let place = Place::redb();
    let line = |n| format!("{{\"v\":1,\"key\":\"many/{n:06}\",\"value\":\"{}\"}}\n", "x".repeat(100));
    fs::write(place.home().join("lines"), (0..2000).map(line).collect::<String>()).unwrap();
    place.ok(&["import", "lines", "--partial"]);
    for arguments in
        [&["export"][..], &["ls", "-rl"], &["ls", "--json", "-r"], &["tree"], &["watch", "-r", "/"]]
    {
        let mut command = place.command(arguments).spawn().unwrap();
        drop(command.stdout.take());
        let ended = Ended::of(command.wait_with_output().unwrap());
        assert_eq!((ended.code, &*ended.err), (141, ""), "{arguments:?}");
    }
}

#[test]
fn an_output_that_finds_no_room_is_said() {
    let place = Place::redb();
    place.ok(&["put", "a", "1"]);
    let url = place.url("app");
    for arguments in [
        &["export"][..],
        &["get", "a"],
        &["ls"],
        &["tree"],
        &["watch", "a"],
        &["health"],
        &["check", &url, &url],
        &["completions", "bash"],
        &["ui"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let ended = Ended::of(place.command(arguments).stdout(full).output().unwrap());
        assert_eq!(ended.code, 4, "{arguments:?}: {ended:?}");
        assert!(ended.err.starts_with("kv: the output cannot be written: "), "{ended:?}");
    }
    // Nobody being there to read of a failure is no other failure.
    let full = File::options().write(true).open("/dev/full").unwrap();
    let ended = place.command(&["get", "none"]).stderr(full).output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
}
