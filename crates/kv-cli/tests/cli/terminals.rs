//! Commands that have the terminal while they run: they read it, are stopped, and give it back.

use crate::program::{Place, until};
use rustix::{
    process::Pid,
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::tcgetpgrp,
};
use std::{
    fs::{self, File},
    io::{Read, Write},
    process::{Child, Command},
    sync::{Arc, Mutex},
    thread,
};

/// A session on a terminal of its own, and what that shows.
struct Session {
    first: Child,
    terminal: File,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Session {
    /// Begins with this command, in which `$KV` is the program.
    fn begin(place: &Place, command: &[&str]) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let terminal = openpt(flags).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let side = || ioctl_tiocgptpeer(&terminal, flags).unwrap();
        let kv = place.command::<&str>(&[]);
        let mut first = Command::new("setsid");
        first.arg("--ctty").args(command).current_dir(place.home());
        for (name, value) in kv.get_envs() {
            match value {
                Some(value) => first.env(name, value),
                None => first.env_remove(name),
            };
        }
        first.env("KV", kv.get_program()).env("PS1", "").env_remove("ENV");
        let first = first.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
        let (terminal, shown) = (File::from(terminal), Arc::new(Mutex::new(Vec::new())));
        let (mut reads, all) = (terminal.try_clone().unwrap(), shown.clone());
        thread::spawn(move || {
            let mut some = [0; 4096];
            // It ends with an error, which says that nobody has the terminal any more.
            while let Ok(count) = reads.read(&mut some) {
                all.lock().unwrap().extend(&some[..count]);
            }
        });
        Self { first, terminal, shown }
    }

    fn types(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the terminal shows this.
    fn shows(&self, part: &str) {
        until(part, || String::from_utf8_lossy(&self.shown.lock().unwrap()).contains(part));
    }

    fn ends_with(mut self, code: i32) {
        until("the end", || self.first.try_wait().unwrap().is_some());
        assert_eq!(self.first.wait().unwrap().code(), Some(code));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.first.kill();
        let _ = self.first.wait();
    }
}

/// Makes a place with a script that reads what is typed.
fn place() -> Place {
    with_work(Place::redb())
}

fn with_work(place: Place) -> Place {
    let work = "echo begun ${A-}.\nread line\necho \"got $line\"\nread line </dev/tty\necho \"also $line\"\n";
    fs::write(place.home().join("work"), work).unwrap();
    place
}

#[test]
fn a_command_reads_the_terminal_and_who_called_has_it_again() {
    let place = place();
    for held in ["lock a", "semaphore a 1", "elect a", "lease", "run --env none"] {
        let script = format!("\"$KV\" {held} -- sh work; echo \"code $?\"; read line; echo \"then $line\"");
        let mut session = Session::begin(&place, &["sh", "-c", &script]);
        session.shows("begun .");
        session.types("one\n");
        session.shows("got one");
        session.types("two\n");
        session.shows("also two");
        session.shows("code 0");
        session.types("three\n");
        session.shows("then three");
        session.ends_with(0);
    }
}

#[test]
fn a_command_that_is_ended_on_a_terminal_leaves_it_to_who_called() {
    let place = place();
    // ^C is the command's, and so is a signal that cannot be caught.
    for (script, keys, code) in [("exec sh work", "\x03", 130), ("echo begun .; kill -KILL $$", "", 137)] {
        fs::write(place.home().join("ends"), script).unwrap();
        let script = "\"$KV\" lock a -- sh ends; echo \"code $?\"; read line; echo \"then $line\"";
        let mut session = Session::begin(&place, &["sh", "-c", &format!("trap : INT; {script}")]);
        session.shows("begun .");
        session.types(keys);
        session.shows(&format!("code {code}"));
        session.types("one\n");
        session.shows("then one");
        session.ends_with(0);
    }
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_started_again_has_the_terminal_again() {
    let redis = crate::redis::Redis::start().await;
    let place = with_work(Place::at(&redis.url("")));
    place.ok(&["put", "app/a", "1"]);
    let script = "\"$KV\" run --env app --quiet 50ms -- sh work; read line; echo \"then $line\"";
    let mut session = Session::begin(&place, &["sh", "-c", script]);
    session.shows("begun 1.");
    place.ok(&["delete", "app/a"]);
    session.shows("begun .");
    session.types("one\ntwo\nthree\n");
    for part in ["got one", "also two", "then three"] {
        session.shows(part);
    }
    session.ends_with(0);
}

#[test]
fn a_command_that_is_stopped_gives_the_shell_the_terminal_and_goes_on_in_the_foreground() {
    let place = place();
    let mut session = Session::begin(&place, &["sh", "-i"]);
    fs::write(place.home().join("numbered"), "echo $$ >number; exec sh work").unwrap();
    session.types("\"$KV\" lock a --ttl 60s -- sh numbered\n");
    session.shows("begun .");
    let number = fs::read_to_string(place.home().join("number")).unwrap();
    let group = Pid::from_raw(number.trim_end().parse().unwrap()).unwrap();
    for round in 40..43 {
        // What is typed before it is continued has no effect.
        until("the command's turn", || {
            let state = fs::read_to_string(format!("/proc/{}/stat", group.as_raw_pid())).unwrap();
            tcgetpgrp(&session.terminal) == Ok(group) && !state.contains(") T ")
        });
        session.types("\x1a");
        session.shows("Stopped");
        session.types(&format!("echo shell$(({round} + 1))\n"));
        session.shows(&format!("shell{}", round + 1));
        session.shown.lock().unwrap().clear();
        session.types("fg\n");
    }
    session.types("one\n");
    session.shows("got one");
    session.types("two\n");
    session.shows("also two");
    session.types("exit 5\n");
    session.ends_with(5);
}

/// As in a container, whose first process the program may be.
#[test]
fn a_command_goes_on_where_nobody_could_have_it_go_on() {
    let place = place();
    let kv = env!("CARGO_BIN_EXE_kv");
    let mut session = Session::begin(&place, &[kv, "lock", "a", "--", "sh", "work"]);
    session.shows("begun .");
    for keys in ["\x1a", "one\n"] {
        session.types(keys);
    }
    session.shows("got one");
    session.types("two\n");
    session.shows("also two");
    session.ends_with(0);
}

#[test]
fn the_other_programs_of_a_pipeline_keep_the_terminal() {
    let place = place();
    let script = "\"$KV\" lock a -- cat | { cat; read line </dev/tty; echo \"got $line\"; }";
    let mut session = Session::begin(&place, &["sh", "-c", script]);
    session.types("one\n");
    session.shows("got one");
    session.ends_with(0);
}

/// As `sudo` in a pipeline, which asks for a password.
#[test]
fn a_command_that_wants_a_terminal_which_it_has_not_is_told() {
    let place = place();
    let script = "\"$KV\" lock a -- sh work | cat; echo \"end $?\"";
    let mut session = Session::begin(&place, &["sh", "-c", script]);
    session.shows("kv: sh stands still: it wants the terminal");
    // ^C is for those that have the terminal, and the program passes it on.
    session.types("\x03");
    until("the end", || session.first.try_wait().unwrap().is_some());
}
