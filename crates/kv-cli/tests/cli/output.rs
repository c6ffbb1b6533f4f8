//! The output on a terminal, and that into a pipe.

use crate::program::Place;
use rustix::{
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use std::{fs::File, io::Read, process::Stdio};

/// Runs a command on a terminal of so many columns, and returns what it shows.
fn on_terminal(place: &Place, columns: u16, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let program_side = ioctl_tiocgptpeer(&terminal, flags).unwrap();
    tcsetwinsize(&terminal, Winsize { ws_row: 25, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let mut command = place.command(arguments);
    command.env("TERM", "xterm").env_remove("NO_COLOR").envs(environment.iter().copied());
    let mut child = command.stdout(Stdio::from(program_side)).spawn().unwrap();
    // The terminal ends when nobody has it open any more.
    drop(command);
    let mut shown = Vec::new();
    // It ends with an error, which says that the other side is gone.
    let _ = File::from(terminal).read_to_end(&mut shown);
    assert!(child.wait().unwrap().success(), "{arguments:?}");
    String::from_utf8(shown).unwrap().replace("\r\n", "\n")
}

#[test]
fn a_terminal_obeys_nothing_of_a_value() {
    let place = Place::redb();
    place.run_with(&["put", "a", "-"], b"red\n\x1b[2J\xff");
    assert_eq!(on_terminal(&place, 80, &["get", "a"], &[]), "red\n\\x1b[2J\\xff\n");
    assert_eq!(on_terminal(&place, 80, &["get", "--json", "a"], &[]), place.ok(&["get", "--json", "a"]));
    assert_eq!(place.run_with(&["get", "a"], b"").stdout, b"red\n\x1b[2J\xff");
}

#[test]
fn lines_end_where_a_terminal_does() {
    let place = Place::redb();
    place.ok(&["put", "app/name", &"x".repeat(100)]);
    let shown = on_terminal(&place, 40, &["ls", "-l", "app"], &[]);
    assert_eq!(shown, format!("app/name  {}…\n", "x".repeat(29)));
    let shown = on_terminal(&place, 5, &["ls", "-l", "app"], &[]);
    assert_eq!(shown, "app/…\n");
    // A name alone is there to be copied.
    assert_eq!(on_terminal(&place, 5, &["ls", "app"], &[]), "app/name\n");
}

#[test]
fn colors_are_for_terminals_that_want_them() {
    let place = Place::redb();
    place.ok(&["put", "app/a", "1"]);
    assert_eq!(on_terminal(&place, 80, &["ls"], &[]), "\x1b[1;34mapp/\x1b[0m\n");
    for environment in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        assert_eq!(on_terminal(&place, 80, &["ls"], &[environment]), "app/\n");
    }
    assert_eq!(on_terminal(&place, 80, &["ls"], &[("NO_COLOR", "")]), "\x1b[1;34mapp/\x1b[0m\n");
    assert_eq!(place.ok(&["ls"]), "app/\n");
}

#[test]
fn a_reader_that_leaves_ends_the_program_without_a_word() {
    let place = Place::redb();
    let value = vec![b'x'; 1 << 20];
    place.run_with(&["put", "a", "-"], &value);
    let mut get = place.command(&["get", "a"]).spawn().unwrap();
    drop(get.stdout.take());
    let output = get.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stderr), (Some(141), &b""[..]));
}

#[test]
fn a_narrow_terminal_gets_lines_that_fit() {
    let place = Place::redb();
    place.ok(&["put", "app/name", &"x".repeat(100)]);
    place.ok(&["put", &format!("app/{}", "long".repeat(20)), "1"]);
    for arguments in [&["tree"][..], &["ls", "-rl"], &["watch", "-r", "app", "-n", "2"], &["--help"]] {
        let shown = on_terminal(&place, 40, arguments, &[("NO_COLOR", "1")]);
        assert!(!shown.contains('\x1b'), "{arguments:?}: {shown}");
        let widest = shown.lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(widest.chars().count() <= 40, "{arguments:?}: {widest}");
    }
}

#[test]
fn no_word_of_a_failure_is_colored_where_nobody_wants_colors() {
    let place = Place::redb();
    let piped = place.run(&["get"]);
    assert!(piped.code == 2 && !piped.err.contains('\x1b'), "{piped:?}");
}
