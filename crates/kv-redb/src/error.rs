//! From redb's errors to the library's.

use kv_core::{Deadline, Error, ErrorKind, Result};
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

/// What a failed call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It was a read.
    Read,
    /// Nothing was written.
    None,
    /// The write may or may not be there.
    Unknown,
}

/// The error of a call that redb failed; it names the file and the way out.
pub(crate) fn failed(path: &Path, error: &redb::Error, effect: Effect) -> Error {
    let file = path.display();
    let (kind, why) = match error {
        redb::Error::Io(e) if is_full(error) => {
            let full = match e.kind() {
                io::ErrorKind::FileTooLarge => {
                    "reached the largest size that a file may have here (`ulimit -f`, or the file system's)"
                }
                io::ErrorKind::QuotaExceeded => "used up this user's quota of the disk",
                _ => "filled its disk: the disk is full",
            };
            (ErrorKind::NoSpace, format!("{file} {full}; make space, then writes go on without reopening"))
        }
        redb::Error::Io(_) => {
            (ErrorKind::Other, format!("the disk under {file} failed; see the system's log about this disk"))
        }
        redb::Error::Corrupted(why) => return damaged(path, why),
        redb::Error::PreviousIo | redb::Error::DatabaseClosed => (
            ErrorKind::Unavailable,
            format!("{file} is being opened again after an error of its disk; try again"),
        ),
        _ => (ErrorKind::Other, format!("redb failed on {file}")),
    };
    let (kind, effect) = match effect {
        Effect::Read => (kind, ""),
        Effect::None => (kind, "; nothing was written"),
        Effect::Unknown => (
            ErrorKind::OutcomeUnknown,
            "; the write may or may not have happened, so read before writing again",
        ),
    };
    Error::new(kind, format!("{why}{effect}")).with_cause(error.to_string())
}

/// Whether the disk has no space for it.
pub(crate) fn is_full(error: &redb::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error, redb::Error::Io(e) if matches!(e.kind(), StorageFull | FileTooLarge | QuotaExceeded))
}

/// Whether redb serves nothing any more until the file is opened again.
pub(crate) fn needs_reopening(error: &redb::Error) -> bool {
    matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::DatabaseClosed)
}

/// The error of a file that is not whole.
#[cold]
pub(crate) fn damaged(path: &Path, why: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!(
            "{} is damaged: {why}; restore it from a copy, or move it away to begin with an empty store",
            path.display()
        ),
    )
}

/// Runs what reads the file: redb panics on some damage, which must end neither a thread nor the program.
pub(crate) fn caught<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let panicked = |_| Err(damaged(path, "redb panicked on what it read"));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked)
}

/// The same error for one more caller.
#[cold]
pub(crate) fn again(error: &Error) -> Error {
    let whole = match error.cause() {
        Some(cause) => format!("{}: {cause}", error.message()),
        None => error.message().to_owned(),
    };
    Error::new(error.kind(), whole)
}

#[cold]
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store was closed")
}

#[cold]
pub(crate) fn no_answer(deadline: Deadline) -> Error {
    Error::new(ErrorKind::Timeout, format!("the disk did not answer within {:?}", deadline.within()))
}

#[cold]
pub(crate) fn not_begun(deadline: Deadline) -> Error {
    Error::new(
        ErrorKind::Timeout,
        format!(
            "still queued behind other writes after {:?}; it was taken back, nothing was written",
            deadline.within()
        ),
    )
}

#[cold]
pub(crate) fn committing(deadline: Deadline) -> Error {
    Error::new(
        ErrorKind::OutcomeUnknown,
        format!(
            "the commit took longer than {:?}; the write may or may not happen, so read before writing again",
            deadline.within()
        ),
    )
}
