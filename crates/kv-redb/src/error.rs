//! Makes the library's errors of those of redb and of the file system.

use kv_core::{Error, ErrorKind, Result, backend::retry::outcome_unknown, driver::Deadline};
use redb::{DatabaseError, StorageError};
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

/// Returns the error of a read on which redb failed; it names the file and the way out.
pub(crate) fn failed(path: &Path, error: &redb::Error) -> Error {
    explained(path, error, "")
}

/// Returns the error of a write on which redb failed. A write that may be in the file all the same
/// is `OutcomeUnknown`.
pub(crate) fn write_failed(path: &Path, error: &redb::Error, may_have_happened: bool) -> Error {
    if may_have_happened {
        outcome_unknown(failed(path, error))
    } else {
        explained(path, error, "; nothing was written")
    }
}

fn explained(path: &Path, error: &redb::Error, effect: &str) -> Error {
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
    Error::new(kind, format!("{why}{effect}")).with_cause(error.to_string())
}

/// Tells whether the error is that the disk has no space.
pub(crate) fn is_full(error: &redb::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error, redb::Error::Io(e) if matches!(e.kind(), StorageFull | FileTooLarge | QuotaExceeded))
}

/// Tells whether redb serves nothing after this error until the file is opened again.
pub(crate) fn needs_reopening(error: &redb::Error) -> bool {
    matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::DatabaseClosed)
}

/// Returns the error of a damaged file.
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

/// Returns the error of a path at which the system lets this user open no file.
pub(crate) fn unusable(path: &Path, e: io::Error) -> Error {
    let (kind, way) = match e.kind() {
        io::ErrorKind::PermissionDenied => (
            ErrorKind::PermissionDenied,
            "let this user read and write the file and its folder, or give another path",
        ),
        io::ErrorKind::ReadOnlyFilesystem => {
            (ErrorKind::PermissionDenied, "its file system is read-only; give a path on another one")
        }
        _ => (ErrorKind::InvalidArgument, "give a path at which this user can make a file"),
    };
    Error::new(kind, format!("{} cannot be opened for writing; {way}", path.display())).with_cause(e)
}

/// Returns the error of a new file that redb could not make.
pub(crate) fn not_made(path: &Path, e: DatabaseError) -> Error {
    let e = not_opened(path, e);
    if e.kind() != ErrorKind::NoSpace {
        return e;
    }
    let why =
        format!("{} could not be made: its disk is full; make space, and open it again", path.display());
    Error::new(ErrorKind::NoSpace, why).with_cause(e.message().to_owned())
}

/// Returns the error of a file that redb could not open.
pub(crate) fn not_opened(path: &Path, e: DatabaseError) -> Error {
    let shown = path.display();
    match e {
        DatabaseError::DatabaseAlreadyOpen => Error::new(
            ErrorKind::Unavailable,
            format!(
                "{shown} is open in another process, and a redb file is for one at a time; stop the other, or give \
                 another path, or share the data by a server such as etcd"
            ),
        ),
        DatabaseError::UpgradeRequired(format) => Error::new(
            ErrorKind::Corrupt,
            format!(
                "{shown} is of redb's old file format {format}; open it with redb 2.6 and call `upgrade`, or give another path"
            ),
        ),
        DatabaseError::Storage(StorageError::Corrupted(why)) => damaged(path, &why),
        DatabaseError::Storage(StorageError::Io(e))
            if matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) =>
        {
            damaged(path, &e.to_string())
        }
        other => failed(path, &other.into()),
    }
}

/// Runs work that reads the file. redb panics on some damage: the panic becomes an error, and ends
/// neither a thread nor the program.
pub(crate) fn caught<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let panicked = |_| Err(damaged(path, "redb panicked on what it read"));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked)
}

/// Returns the error of a store whose writer has ended by a panic.
#[cold]
pub(crate) fn panicked(path: &Path) -> Error {
    let why = format!("the writer of {} has panicked; open the store again", path.display());
    Error::new(ErrorKind::Other, why)
}

#[cold]
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store was closed")
}

#[cold]
pub(crate) fn no_answer(deadline: Deadline) -> Error {
    Error::new(ErrorKind::Timeout, format!("the disk did not answer within {deadline}"))
}

#[cold]
pub(crate) fn not_begun(deadline: Deadline) -> Error {
    let why =
        format!("still queued behind other writes after {deadline}; it was taken back, nothing was written");
    Error::new(ErrorKind::Timeout, why)
}

#[cold]
pub(crate) fn committing(deadline: Deadline) -> Error {
    let why = format!("the commit took longer than {deadline}, and goes on");
    outcome_unknown(Error::new(ErrorKind::Timeout, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_may_be_there_is_never_said_to_have_failed_for_sure() {
        let path = Path::new("/d/app.redb");
        let causes = [
            (redb::Error::Io(io::ErrorKind::StorageFull.into()), ErrorKind::NoSpace),
            (redb::Error::Io(io::ErrorKind::Other.into()), ErrorKind::Other),
            (redb::Error::PreviousIo, ErrorKind::Unavailable),
            (redb::Error::Corrupted("a page".into()), ErrorKind::Corrupt),
        ];
        for (cause, kind) in causes {
            let (not, maybe) = (write_failed(path, &cause, false), write_failed(path, &cause, true));
            assert_eq!((not.kind(), maybe.kind()), (kind, ErrorKind::OutcomeUnknown), "{cause:?}");
            for error in [not.to_string(), maybe.to_string()] {
                assert!(error.contains("/d/app.redb"), "{error}");
            }
            let maybe = maybe.to_string();
            assert!(
                maybe.contains("may or may not have happened") && !maybe.contains("nothing was"),
                "{maybe}"
            );
        }
    }
}
