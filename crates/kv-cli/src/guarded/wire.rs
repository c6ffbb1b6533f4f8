//! The messages between the program and its reaper, and the clock that both read.
//!
//! They speak in lines, over a pair of sockets. The first message to the reaper carries the
//! standard input of the command. The end of the stream tells each that the other is gone.

use rustix::{
    fd::{AsFd, OwnedFd},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, recvmsg, sendmsg,
    },
    time::{ClockId, clock_gettime},
};
use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::unix::{net::UnixStream, process::ExitStatusExt},
    process::ExitStatus,
    time::Duration,
};

/// Returns the time by a clock that counts suspend, and that all processes of the machine share.
pub(super) fn now() -> Duration {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let clock = ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let clock = ClockId::Monotonic;
    let now = clock_gettime(clock);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// The moments, by [`now`], at which a command is ended unless its lock is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Until {
    /// The command is asked to end at this moment: from then on the lock counts as lost.
    pub(super) term: Duration,
    /// The command is killed at this moment: the server gives the lock to nobody else before it.
    pub(super) kill: Duration,
}

impl Until {
    /// Moments that never come. The second is five seconds behind the first, the grace for what a
    /// command leaves behind.
    pub(super) const NEVER: Self =
        Self { term: Duration::from_nanos(u64::MAX - 5_000_000_000), kill: Duration::from_nanos(u64::MAX) };

    /// Returns the two moments as words of a line.
    pub(super) fn words(self) -> [String; 2] {
        [self.term.as_nanos().to_string(), self.kill.as_nanos().to_string()]
    }

    pub(super) fn parse(term: &str, kill: &str) -> Option<Self> {
        let moment = |word: &str| word.parse().ok().map(Duration::from_nanos);
        Some(Self { term: moment(term)?, kill: moment(kill)? })
    }

    pub(super) fn line(self) -> String {
        let [term, kill] = self.words();
        format!("{term} {kill}\n")
    }

    pub(super) fn of_line(line: &str) -> Option<Self> {
        let (term, kill) = line.split_once(' ')?;
        Self::parse(term, kill)
    }
}

/// The line by which the program has the command begin, which it knows of then.
pub(super) const BEGIN: &str = "begin";

/// A message of the reaper to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// The command is ready, in a process group of this number, and waits for the word to begin.
    Ready(i32),
    /// It runs.
    Started,
    /// It was stopped by this signal; if it had the terminal, the program has that.
    Stopped(i32),
    /// It could not be started, for this error of the system.
    NotStarted(i32),
    /// The reaper has asked it to end.
    Asked,
    /// The time of the lock was over before the command was started.
    Late,
    /// It has ended, and nothing of its group is left; `asked` tells whether the reaper had it end.
    Ended { status: ExitStatus, asked: bool },
}

impl Report {
    pub(super) fn line(self) -> String {
        match self {
            Self::Ready(group) => format!("ready {group}\n"),
            Self::Started => "started 0\n".to_owned(),
            Self::Stopped(signal) => format!("stopped {signal}\n"),
            Self::NotStarted(error) => format!("not-started {error}\n"),
            Self::Asked => "asked 0\n".to_owned(),
            Self::Late => "late 0\n".to_owned(),
            Self::Ended { status, asked: false } => format!("ended {}\n", status.into_raw()),
            Self::Ended { status, asked: true } => format!("ended-as-asked {}\n", status.into_raw()),
        }
    }

    pub(super) fn of_line(line: &str) -> Option<Self> {
        let (word, number) = line.split_once(' ')?;
        let number = number.parse().ok()?;
        let ended = |asked| Self::Ended { status: ExitStatus::from_raw(number), asked };
        Some(match word {
            "ready" => Self::Ready(number),
            "started" => Self::Started,
            "stopped" => Self::Stopped(number),
            "not-started" => Self::NotStarted(number),
            "asked" => Self::Asked,
            "late" => Self::Late,
            "ended" => ended(false),
            "ended-as-asked" => ended(true),
            _ => return None,
        })
    }
}

/// The most files that one message has.
const FILES: usize = 8;

/// Sends a file of this process to the other side, and others that it is to keep open.
pub(super) fn send_file(to: &UnixStream, file: impl AsFd, kept: &[File]) -> io::Result<()> {
    let files: Vec<_> = std::iter::once(file.as_fd()).chain(kept.iter().map(AsFd::as_fd)).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(io::Error::other(format!("{} files are too many for one message", files.len())));
    }
    sendmsg(to, &[IoSlice::new(b"\n")], &mut control, SendFlags::empty())?;
    Ok(())
}

/// Receives a file that the other side has sent, and those that are to be kept open.
pub(super) fn receive_file(from: &UnixStream) -> io::Result<(OwnedFd, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let file = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => Some((files.next()?, files.collect())),
        _ => None,
    });
    file.ok_or_else(|| io::Error::other("no file came with the message"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};

    #[test]
    fn what_is_told_is_understood() {
        let until = Until { term: Duration::from_nanos(17), kill: Duration::from_secs(5) };
        assert_eq!(Until::of_line(until.line().trim_end()), Some(until));
        let killed = ExitStatus::from_raw(9);
        for report in [
            Report::Ready(4711),
            Report::Started,
            Report::Stopped(20),
            Report::NotStarted(2),
            Report::Asked,
            Report::Late,
            Report::Ended { status: killed, asked: false },
            Report::Ended { status: killed, asked: true },
        ] {
            assert_eq!(Report::of_line(report.line().trim_end()), Some(report));
        }
        assert_eq!(Report::of_line("nonsense"), None);
        assert_eq!(Until::of_line(BEGIN), None);
    }

    #[test]
    fn a_file_goes_to_the_other_side() {
        let (here, there) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"input").unwrap();
        file.rewind().unwrap();
        send_file(&here, &file, &[tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()]).unwrap();
        let (input, kept) = receive_file(&there).unwrap();
        let mut text = String::new();
        File::from(input).read_to_string(&mut text).unwrap();
        assert_eq!((&*text, kept.len()), ("input", 2));
    }
}
