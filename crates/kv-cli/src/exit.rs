//! The ends of the program: the exit codes, and the failures that lead to them.

use kv_core::{Error, ErrorKind};
use std::process::{ExitCode, ExitStatus};

/// An exit code. The help of the program and README.md have the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit(u8);

impl Exit {
    pub(crate) const DONE: Self = Self(0);
    /// Not there, different, or not got: the answer is no.
    pub(crate) const NO: Self = Self(1);
    /// The command line, or what it names, is wrong; nothing happened.
    pub(crate) const USAGE: Self = Self(2);
    pub(crate) const CONFLICT: Self = Self(3);
    /// The store refused or failed, or this machine did; nothing happened.
    pub(crate) const FAILED: Self = Self(4);
    pub(crate) const UNREACHABLE: Self = Self(5);
    pub(crate) const UNKNOWN: Self = Self(6);
    pub(crate) const LOST: Self = Self(7);
    /// It failed when something was done already: a part of it, or all but its output.
    pub(crate) const PARTLY: Self = Self(8);
    /// A command is there, and cannot be run; as shells say it.
    pub(crate) const NOT_RUN: Self = Self(126);
    /// A command is not there; as shells say it.
    pub(crate) const NO_COMMAND: Self = Self(127);
    /// Whoever read the output is gone, as if the signal for it had ended the program.
    const PIPE: Self = Self(128 + 13);

    fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidKey | ErrorKind::InvalidArgument | ErrorKind::TooLarge => Self::USAGE,
            ErrorKind::KeyExists | ErrorKind::KeyModified => Self::CONFLICT,
            ErrorKind::Unavailable | ErrorKind::Timeout => Self::UNREACHABLE,
            ErrorKind::OutcomeUnknown => Self::UNKNOWN,
            ErrorKind::LockLost | ErrorKind::LeaseLost => Self::LOST,
            _ => Self::FAILED,
        }
    }

    /// Returns the code of a failure behind something that was done: the codes that say that nothing
    /// happened are not for it.
    pub(crate) fn behind_an_act(self) -> Self {
        match self {
            Self::USAGE | Self::FAILED | Self::UNREACHABLE => Self::PARTLY,
            other => other,
        }
    }

    /// Returns the code of a child: its own, or 128 and the number of the signal that ended it.
    pub(crate) fn of_child(status: ExitStatus) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let signal = status.signal().map(|signal| 128 + signal);
        let code = status.code().or(signal).unwrap_or(i32::from(Self::FAILED.0));
        Self(u8::try_from(code).unwrap_or(u8::MAX))
    }

    /// Returns the code of a process that this signal ends.
    pub(crate) fn of_signal(signal: i32) -> Self {
        Self(u8::try_from(128 + signal).unwrap_or(u8::MAX))
    }

    /// Returns the word for the code, for objects that tell of an error.
    fn word(self) -> &'static str {
        match self {
            Self::NO => "no",
            Self::USAGE => "usage",
            Self::CONFLICT => "conflict",
            Self::LOST => "lost",
            Self::UNREACHABLE => "unreachable",
            _ => "failed",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

/// The reason for which a command did not do its work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A call to a store failed.
    Store(Error),
    /// The program found it itself.
    Found(Exit, String),
    /// Whoever read the output is gone: there is nobody to tell.
    Gone,
}

/// The end of a command.
pub(crate) type Run<T = Exit> = Result<T, Failure>;

impl Failure {
    pub(crate) fn usage(why: impl Into<String>) -> Self {
        Self::Found(Exit::USAGE, why.into())
    }

    /// Makes the failure of something on this machine: a file, a terminal, a process.
    pub(crate) fn here(why: impl Into<String>) -> Self {
        Self::Found(Exit::FAILED, why.into())
    }

    /// Makes the answer no, with its reason.
    pub(crate) fn no(why: impl Into<String>) -> Self {
        Self::Found(Exit::NO, why.into())
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Store(error) => Exit::of(error.kind()),
            Self::Found(exit, _) => *exit,
            Self::Gone => Exit::PIPE,
        }
    }

    /// Returns the word for scripts, and the sentence for people; `None` where nobody is to be
    /// told.
    pub(crate) fn words(&self) -> Option<(&'static str, String)> {
        match self {
            Self::Store(error) => Some((error.kind().as_str(), error.to_string())),
            Self::Found(exit, why) => Some((exit.word(), why.clone())),
            Self::Gone => None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_code_says_that_nothing_happened_where_something_was_done() {
        for nothing in [Exit::USAGE, Exit::FAILED, Exit::UNREACHABLE] {
            assert_eq!(nothing.behind_an_act(), Exit(8));
        }
        for other in [Exit::DONE, Exit::NO, Exit::CONFLICT, Exit::UNKNOWN, Exit::LOST, Exit::PIPE] {
            assert_eq!(other.behind_an_act(), other);
        }
    }

    #[test]
    fn every_kind_of_error_has_the_code_of_the_table() {
        let table: [(u8, &[ErrorKind]); 6] = [
            (2, &[ErrorKind::InvalidKey, ErrorKind::InvalidArgument, ErrorKind::TooLarge]),
            (3, &[ErrorKind::KeyExists, ErrorKind::KeyModified]),
            (
                4,
                &[
                    ErrorKind::NoSpace,
                    ErrorKind::Unsupported,
                    ErrorKind::Unauthenticated,
                    ErrorKind::PermissionDenied,
                    ErrorKind::Closed,
                    ErrorKind::Corrupt,
                    ErrorKind::Other,
                ],
            ),
            (5, &[ErrorKind::Unavailable, ErrorKind::Timeout]),
            (6, &[ErrorKind::OutcomeUnknown]),
            (7, &[ErrorKind::LockLost, ErrorKind::LeaseLost]),
        ];
        for (code, kinds) in table {
            for kind in kinds {
                assert_eq!(Failure::from(Error::new(*kind, "why")).exit(), Exit(code), "{kind}");
            }
        }
    }
}
