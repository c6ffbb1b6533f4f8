//! `render`.

use crate::program::{Ended, Place, end, line, until};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink},
        net::UnixListener,
        process::CommandExt,
    },
    process::Stdio,
};

/// Makes a place with two nodes and a template for them.
fn filled() -> Place {
    fill(Place::redb())
}

fn fill(place: Place) -> Place {
    place.ok(&["put", "app/nodes/1", "10.0.0.1"]);
    place.ok(&["put", "app/nodes/2", "10.0.0.2"]);
    let template = "{% for node in ls('nodes') -%}\nserver {{ node.value }};\n{% endfor -%}\n";
    fs::write(place.home().join("template"), template).unwrap();
    place
}

const ONE: &str = "server 10.0.0.1;\n";
const BOTH: &str = "server 10.0.0.1;\nserver 10.0.0.2;\n";

#[test]
fn a_file_is_rendered_and_checked_before_it_takes_its_place() {
    let place = filled();
    let file = place.home().join("conf");
    let read = || fs::read_to_string(&file).unwrap();
    let render = |more: &[&'static str]| {
        let mut arguments = vec!["render", "-d", "app", "template", "conf"];
        arguments.extend(more);
        let ended = place.run(&arguments);
        (ended.code, ended.out, ended.err)
    };
    assert_eq!(render(&["--dry-run"]), (1, BOTH.into(), String::new()));
    assert!(!file.exists());
    assert_eq!(render(&["--once", "--mode", "640", "--reload", "cat {}"]), (0, BOTH.into(), String::new()));
    assert_eq!(read(), BOTH);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o640);
    // What is the same is neither written nor told.
    assert_eq!(render(&["--once", "--reload", "cat {}"]), (0, String::new(), String::new()));
    assert_eq!(render(&["--dry-run"]), (0, BOTH.into(), String::new()));

    place.ok(&["delete", "app/nodes/2"]);
    let (code, _, why) = render(&["--once", "--check", "false"]);
    assert_eq!((code, &*why), (4, "kv: \"false\" ended with exit status: 1; the file stays as it was\n"));
    assert_eq!(read(), BOTH);
    assert_eq!(render(&["--once", "--check", "grep -q server {}"]), (0, String::new(), String::new()));
    assert_eq!(read(), ONE);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o640);

    fs::write(place.home().join("template"), "{{ get('none') }}").unwrap();
    let (code, _, why) = render(&["--once"]);
    assert!(code == 4 && why.contains("there is no key \"none\""), "{why}");
    assert_eq!(read(), ONE);
    assert_eq!(
        fs::read_dir(place.home()).unwrap().count(),
        4,
        "the store and its turn, the template, the file"
    );
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread")]
async fn a_file_follows_the_store() {
    let redis = crate::redis::Redis::start().await;
    let place = fill(Place::at(&redis.url("")));
    let arguments =
        ["render", "-d", "app", "template", "conf", "--quiet", "50ms", "--reload", "echo reloaded"];
    let mut render = place.command(&arguments).spawn().unwrap();
    let file = place.home().join("conf");
    assert_eq!(line(&mut render), "reloaded");
    assert_eq!(fs::read_to_string(&file).unwrap(), BOTH);
    place.ok(&["delete", "app/nodes/2"]);
    assert_eq!(line(&mut render), "reloaded");
    assert_eq!(fs::read_to_string(&file).unwrap(), ONE);
    kill_process(Pid::from_child(&render), Signal::TERM).unwrap();
    assert_eq!(end(render).code, 143);
    until("the last file", || fs::read_to_string(&file).unwrap() == ONE);
}

#[test]
fn a_link_stays_a_link_and_what_is_no_file_stays_what_it_is() {
    let place = filled();
    let at = |name: &str| place.home().join(name);
    fs::create_dir(at("shared")).unwrap();
    fs::write(at("shared/conf"), "old").unwrap();
    symlink("shared/conf", at("link")).unwrap();
    place.ok(&["render", "-d", "app", "template", "link", "--once"]);
    assert!(at("link").is_symlink());
    assert_eq!(fs::read_to_string(at("shared/conf")).unwrap(), BOTH);

    let _socket = UnixListener::bind(at("socket")).unwrap();
    for (target, more) in
        [("socket", "--once"), ("shared", "--once"), ("socket", "--dry-run"), ("-", "--once")]
    {
        let ended = place.run(&["render", "-d", "app", "template", target, more]);
        assert_eq!(ended.code, 2, "{target}: {ended:?}");
    }
    assert!(fs::metadata(at("socket")).unwrap().file_type().is_socket() && !at("-").exists());
}

#[test]
fn a_reload_that_fails_is_run_again() {
    let place = filled();
    let script = "#!/bin/sh\necho try\ntest -e ready && echo reloaded\n";
    fs::write(place.home().join("reload"), script).unwrap();
    let once = place.run(&["render", "-d", "app", "template", "other", "--once", "--reload", "sh reload"]);
    assert_eq!((once.code, &*once.out), (8, "try\n"), "the file is written, and the reload failed: {once:?}");
    let arguments = ["render", "-d", "app", "template", "conf", "--reload", "sh reload"];
    let mut render = place.command(&arguments).spawn().unwrap();
    assert_eq!([line(&mut render), line(&mut render)], ["try", "try"]);
    fs::write(place.home().join("ready"), "").unwrap();
    until("the reload", || line(&mut render) == "reloaded");
    kill_process(Pid::from_child(&render), Signal::TERM).unwrap();
    let ended = end(render);
    assert!(ended.err.contains("\"sh reload\" ended with exit status: 1\n"), "{ended:?}");
}

#[test]
fn a_reload_that_failed_is_run_again_although_the_template_is_broken_meanwhile() {
    let place = filled();
    let script = "#!/bin/sh\ntest -e ready && echo reloaded\n";
    fs::write(place.home().join("reload"), script).unwrap();
    let arguments = ["render", "-d", "app", "template", "conf", "--reload", "sh reload"];
    let mut render = place.command(&arguments).spawn().unwrap();
    let mut words = BufReader::new(render.stderr.take().unwrap()).lines();
    let mut told = |part: &str| assert!(words.any(|line| line.unwrap().contains(part)), "{part}");
    told("ended with exit status: 1");
    fs::write(place.home().join("template"), "{{ get('none') }}").unwrap();
    told("gives nothing");
    fs::write(place.home().join("ready"), "").unwrap();
    assert_eq!(line(&mut render), "reloaded");
    kill_process(Pid::from_child(&render), Signal::TERM).unwrap();
    end(render);
}

#[test]
fn the_rights_of_a_file_are_set_although_it_has_the_content_already() {
    let place = filled();
    let file = place.home().join("conf");
    let rights = || fs::metadata(&file).unwrap().permissions().mode() & 0o7777;
    let render = |more: &[&'static str]| {
        let arguments = ["render", "-d", "app", "template", "conf", "--once", "--reload", "echo reloaded"];
        place.ok(&[&arguments[..], more].concat())
    };
    assert_eq!((render(&[]), rights()), ("reloaded\n".to_owned(), 0o644));
    assert_eq!((render(&["--mode", "600"]), rights()), (String::new(), 0o600));
    assert_eq!((render(&[]), rights()), (String::new(), 0o600), "without --mode it keeps what it has");
}

#[test]
fn a_signal_during_the_check_leaves_no_draft() {
    let place = filled();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        fs::write(place.home().join("check"), "echo began\nexec sleep 1000\n").unwrap();
        let arguments = ["render", "-d", "app", "template", "conf", "--check", "sh check"];
        let mut render = place.command(&arguments).spawn().unwrap();
        assert_eq!(line(&mut render), "began");
        kill_process(Pid::from_child(&render), signal).unwrap();
        assert_eq!(end(render).code, 128 + signal.as_raw());
        let left = fs::read_dir(place.home()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(left.filter(|name| name.to_string_lossy().contains(".kv-")).count(), 0);
    }
}

#[test]
fn a_reload_that_hangs_is_ended_and_leaves_nothing_behind() {
    let place = filled();
    // What it starts keeps the output open, too.
    fs::write(place.home().join("reload"), "echo began\nsleep 1000 &\nwait\n").unwrap();
    let arguments =
        ["render", "-d", "app", "template", "conf", "--reload", "sh reload", "--command-timeout", "5s"];
    let once = place.run(&[&arguments[..], &["--once"]].concat());
    assert_eq!((once.code, &*once.out), (8, "began\n"), "{once:?}");
    assert!(once.err.contains("did not end within 5s, and was ended"), "{once:?}");

    // Nor does it outlive the program.
    fs::remove_file(place.home().join("conf")).unwrap();
    let mut render = place.command(&arguments[..7]).spawn().unwrap();
    assert_eq!(line(&mut render), "began");
    render.kill().unwrap();
    let mut rest = String::new();
    render.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!((rest.as_str(), end(render).code), ("", -9));
}

#[test]
fn a_template_that_is_missing_is_said_at_once() {
    let place = filled();
    for more in [&[][..], &["--once"], &["--dry-run"]] {
        let ended = place.run(&[&["render", "none", "conf"], more].concat());
        assert!(ended.code == 2 && ended.err.contains("the template none cannot be read"), "{ended:?}");
    }
}

#[test]
fn the_new_file_is_named_anywhere_in_a_command() {
    let place = filled();
    fs::write(place.home().join("check"), "test -s \"${1#--config=}\" && test -s \"${2%:}\"").unwrap();
    let check = "sh check --config={} {}:";
    place.ok(&["render", "-d", "app", "template", "conf", "--once", "--check", check]);
    let reload = "echo <{}{}>";
    place.ok(&["delete", "app/nodes/2"]);
    let told = place.ok(&["render", "-d", "app", "template", "conf", "--once", "--reload", reload]);
    assert_eq!(told, "<confconf>\n");
}

/// Only the system's administrator can give a file to others, and so make this test.
#[test]
fn a_file_whose_owner_cannot_be_kept_is_said() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (place, somebody) = (Place::memory(), 65_534);
    let file = place.home().join("conf");
    fs::write(place.home().join("template"), "new\n").unwrap();
    fs::write(&file, "old\n").unwrap();
    chown(place.home(), Some(somebody), Some(somebody)).unwrap();
    let mut render = place.command(&["render", "template", "conf", "--once"]);
    let ended = Ended::of(render.uid(somebody).gid(somebody).output().unwrap());
    assert_eq!((ended.code, &*ended.out), (0, ""), "{ended:?}");
    assert!(ended.err.starts_with("kv: conf now belongs to this user, since "), "{ended:?}");
    assert_eq!(fs::metadata(&file).unwrap().uid(), somebody);
    assert_eq!(fs::read_to_string(&file).unwrap(), "new\n");
}

#[test]
fn a_file_can_be_given_to_others() {
    let place = filled();
    let file = place.home().join("conf");
    let render =
        |owner: &str| place.run(&["render", "-d", "app", "template", "conf", "--once", "--owner", owner]);
    for wrong in ["no such user", ":no such group", ":", ""] {
        let ended = render(wrong);
        assert_eq!((ended.code, &*ended.out), (2, ""), "{wrong}: {ended:?}");
    }
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let ended = render(&format!("{uid}:{gid}"));
    assert_eq!((ended.code, &*ended.err), (0, ""), "{ended:?}");
    let owner = || fs::metadata(&file).map(|file| (file.uid(), file.gid())).unwrap();
    assert_eq!(owner(), (uid, gid));
    // Who is not the system's administrator gives nothing away.
    if !rustix::process::geteuid().is_root() {
        let ended = render("0");
        assert!(ended.code == 4 && ended.err.contains("cannot be given"), "{ended:?}");
        return;
    }
    for (given, then) in [("65534", (65_534, gid)), (":65533", (65_534, 65_533)), ("root:0", (0, 0))] {
        let ended = render(given);
        assert_eq!((ended.code, &*ended.err, owner()), (0, "", then), "{given}: {ended:?}");
        // So it is with one that is written anew.
        fs::write(&file, "old").unwrap();
        assert_eq!((render(given).code, owner()), (0, then), "{given}");
    }
}

#[test]
fn the_first_file_waits_for_quiet_as_the_later_ones_do() {
    let place = filled();
    place.ok(&["put", "app/nodes/2", "10.0.0.2", "--ttl", "4s"]);
    let arguments = ["render", "-d", "app", "template", "conf", "--quiet", "8s", "--reload", "cat {}"];
    let mut render = place.command(&arguments).spawn().unwrap();
    // The second node goes in that time.
    assert_eq!(format!("{}\n", line(&mut render)), ONE);
    kill_process(Pid::from_child(&render), Signal::TERM).unwrap();
    assert_eq!(
        (end(render).out, fs::read_to_string(place.home().join("conf")).unwrap()),
        (String::new(), ONE.into())
    );
}

#[test]
fn a_start_without_the_store_takes_what_it_had_last() {
    let place = filled();
    let file = place.home().join("conf");
    let arguments = ["render", "-d", "app", "template", "conf", "--timeout", "3s", "--state", "state"];
    let once = [&arguments[..], &["--once"]].concat();
    place.ok(&once);
    let state = fs::metadata(place.home().join("state")).unwrap();
    assert_eq!(state.permissions().mode() & 0o7777, 0o600, "it may hold secrets");
    fs::remove_file(&file).unwrap();
    place.ok(&["delete", "app/nodes/2"]);

    // Another process has the store.
    let mut holds = place.command(&["lock", "a", "--", "sh", "-c", "echo held; read line"]);
    let mut holds = holds.stdin(Stdio::piped()).spawn().unwrap();
    assert_eq!(line(&mut holds), "held");
    let began = place.run(&once);
    assert_eq!((began.code, &*began.out), (0, ""), "{began:?}");
    assert!(began.err.contains("what it had at the last rendering is taken"), "{began:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), BOTH);
    // What was cut is not taken, and without it there is nothing.
    let whole = fs::read_to_string(place.home().join("state")).unwrap();
    fs::write(place.home().join("part"), whole.rsplit_once("{").unwrap().0).unwrap();
    for state in ["part", "none"] {
        let ended = place.run(&[&once[..once.len() - 2], &[state, "--once"]].concat());
        assert!(ended.code == 5 && ended.err.contains("in another process"), "{state}: {ended:?}");
    }

    fs::remove_file(&file).unwrap();
    let mut render = place.command(&[&arguments[..], &["--reload", "cat {}"]].concat()).spawn().unwrap();
    assert_eq!(format!("{}\n{}\n", line(&mut render), line(&mut render)), BOTH);
    // When the store is there, so is what it has.
    drop(holds.stdin.take());
    assert_eq!(format!("{}\n", line(&mut render)), ONE);
    kill_process(Pid::from_child(&render), Signal::TERM).unwrap();
    end(render);
    end(holds);
}
