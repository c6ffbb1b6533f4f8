//! The processes of a test's servers, with a shell in the place of a server.

use kv_testsuite::{Failure, process::Daemon};
use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A process that prints lines all the time, and the file of what it printed.
struct Talker {
    daemon: Daemon,
    log: PathBuf,
    _folder: TempDir,
}

impl Talker {
    fn start(script: &str) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let talker = Self { daemon: Daemon::new(command, log.clone()), log, _folder: folder };
        talker.daemon.spawn()?;
        talker.says_beyond(0)?;
        Ok(talker)
    }

    fn said(&self) -> Result<u64, Failure> {
        Ok(fs::metadata(&self.log)?.len())
    }

    fn says_more(&self) -> Result<(), Failure> {
        self.says_beyond(self.said()?)
    }

    fn says_beyond(&self, before: u64) -> Result<(), Failure> {
        let began = Instant::now();
        while self.said()? == before {
            assert!(began.elapsed() < Duration::from_secs(10), "nothing is said");
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Checks that nothing is said from now on.
    fn is_silent(&self) -> Result<(), Failure> {
        let before = self.said()?;
        sleep(Duration::from_millis(20));
        assert_eq!(self.said()?, before);
        Ok(())
    }
}

const TALK: &str = "while :; do echo word; done";

#[test]
fn one_is_frozen_when_the_call_returns() -> Result<(), Failure> {
    let talker = Talker::start(TALK)?;
    for _ in 0..20 {
        talker.daemon.pause();
        talker.is_silent()?;
        talker.daemon.resume();
        talker.says_more()?;
    }
    Ok(())
}

#[test]
fn one_is_gone_when_the_call_returns() -> Result<(), Failure> {
    let talker = Talker::start(TALK)?;
    for end in [Daemon::stop, Daemon::kill] {
        for frozen in [false, true] {
            if frozen {
                talker.daemon.pause();
            }
            end(&talker.daemon);
            talker.is_silent()?;
            talker.daemon.spawn()?;
            talker.says_more()?;
        }
    }
    Ok(())
}

/// The shell that talks is a child of the server.
const CHILD: &str = "(while :; do echo word; done) & while :; do sleep 1; done";

#[test]
fn the_children_of_one_are_frozen_and_killed_with_it() -> Result<(), Failure> {
    let talker = Talker::start(CHILD)?;
    talker.daemon.pause();
    talker.is_silent()?;
    talker.daemon.resume();
    talker.says_more()?;
    talker.daemon.kill();
    talker.is_silent()
}

#[test]
fn one_is_ended_by_the_signal_of_its_operators() -> Result<(), Failure> {
    let talker = Talker::start("trap 'echo last; exit' USR1; trap '' TERM; while :; do echo word; done")?;
    let Talker { daemon, log, _folder } = talker;
    let daemon = daemon.ended_by("USR1");
    let began = Instant::now();
    daemon.stop();
    assert!(began.elapsed() < Duration::from_secs(9), "it was killed, and not asked");
    assert!(fs::read_to_string(&log)?.ends_with("last\n"));
    Ok(())
}

#[test]
fn one_reads_what_it_is_given_to_its_end() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let mut command = Command::new("sh");
    command.args(["-c", "cat; echo end"]);
    let daemon = Daemon::new(command, log.clone());
    let mut input = daemon.spawn_with_input()?;
    input.write_all(b"word\n")?;
    drop(input);
    let began = Instant::now();
    while fs::read_to_string(&log)? != "word\nend\n" {
        assert!(began.elapsed() < Duration::from_secs(10), "its input does not end");
        std::thread::yield_now();
    }
    Ok(())
}

#[test]
fn one_that_ended_by_itself_can_be_signalled_and_started() -> Result<(), Failure> {
    let talker = Talker::start("echo word")?;
    talker.daemon.pause();
    talker.daemon.resume();
    talker.daemon.stop();
    let before = talker.said()?;
    talker.daemon.spawn()?;
    talker.says_beyond(before)
}
