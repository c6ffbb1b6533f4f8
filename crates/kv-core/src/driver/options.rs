//! Options of the calls of a [`Store`](crate::driver::Store), every one explicit.

use super::{Deadline, NotesLeftOut};
use crate::{Consistency, Error, ErrorKind, LeaseId, Position, Result, Version};
use bytes::Bytes;
use std::time::Duration;

/// The precondition of a write: what must be true of the key for the write to happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Expect {
    /// Nothing.
    #[default]
    Anything,
    /// The key is not there; else [`KeyExists`](ErrorKind::KeyExists).
    Missing,
    /// The key is at this version; else [`KeyModified`](ErrorKind::KeyModified).
    Version(Version),
}

impl Expect {
    /// Compares, for backends, the precondition with the version that was found.
    ///
    /// # Errors
    /// [`KeyExists`](ErrorKind::KeyExists) or [`KeyModified`](ErrorKind::KeyModified), with both
    /// versions.
    pub fn check(self, found: Option<Version>) -> Result<()> {
        match (self, found) {
            (Self::Anything, _) | (Self::Missing, None) => Ok(()),
            (Self::Version(expected), Some(found)) if expected == found => Ok(()),
            (Self::Missing, Some(found)) => {
                Err(Error::new(ErrorKind::KeyExists, format!("expected no key, found version {found}")))
            }
            (Self::Version(expected), Some(found)) => Err(Error::new(
                ErrorKind::KeyModified,
                format!("expected version {expected}, found version {found}"),
            )),
            (Self::Version(expected), None) => {
                Err(Error::new(ErrorKind::KeyModified, format!("expected version {expected}, found no key")))
            }
        }
    }

    /// Returns the error of a precondition that was refused without a word of what was found.
    #[cold]
    pub(crate) fn refused(self) -> Error {
        match self {
            Self::Missing => Error::new(ErrorKind::KeyExists, "expected no key, found one"),
            Self::Version(expected) => {
                let why = format!("expected version {expected}, which the key is not at");
                Error::new(ErrorKind::KeyModified, why)
            }
            Self::Anything => Error::new(ErrorKind::Other, "what was no condition was refused"),
        }
    }
}

macro_rules! setters {
    ($options:ident { $($(#[$doc:meta])* $name:ident: $kind:ty),* $(,)? }) => {
        impl $options {
            $($(#[$doc])* #[must_use] pub fn $name(mut self, $name: $kind) -> Self {
                self.$name = $name;
                self
            })*
        }
    };
}

/// Options of reads.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ReadOptions {
    /// The freshness that the answer must have.
    pub consistency: Consistency,
    /// The moment by which the call has to end.
    pub deadline: Deadline,
}
setters!(ReadOptions {
    /// Sets how fresh the answer must be.
    consistency: Consistency,
    /// Sets when the call has to end.
    deadline: Deadline,
});

/// Options of writes that carry no value.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct WriteOptions {
    /// The moment by which the call has to end.
    pub deadline: Deadline,
}
setters!(WriteOptions {
    /// Sets when the call has to end.
    deadline: Deadline,
});

/// Options of a put.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct PutOptions {
    /// The time that the key lives after this write, as granted: the handle has rounded it by
    /// [`Capabilities::key_ttl`](crate::Capabilities::key_ttl), and the store does not do so again.
    /// `None` makes the key permanent. Not together with `lease`.
    pub ttl: Option<Duration>,
    /// The lease that the key lives under.
    pub lease: Option<LeaseId>,
    /// The moment by which the call has to end; in a [`Transaction`](super::Transaction) that of
    /// the transaction.
    pub deadline: Deadline,
}
setters!(PutOptions {
    /// Sets how long the key lives after this write, as granted.
    ttl: Option<Duration>,
    /// Sets the lease that the key lives under.
    lease: Option<LeaseId>,
    /// Sets when the call has to end.
    deadline: Deadline,
});

/// Options of a listing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListOptions {
    /// Tells whether all descendants are listed (the default), or only the immediate children,
    /// keys and directories told apart.
    pub recursive: bool,
    /// Tells whether the answer has [`Item::Key`](crate::Item::Key)s in place of entries; no value
    /// is fetched then where the server allows it.
    pub keys_only: bool,
    /// The most items in the answer; the page may hold fewer and still have a next one.
    pub limit: Option<usize>,
    /// The place behind which the listing begins.
    pub start_after: Option<Position>,
    /// The notes of the names that the listing leaves out, if anybody wants to know them.
    pub left_out: NotesLeftOut,
    /// The freshness that the answer must have, and the moment by which this page has to be there.
    pub read: ReadOptions,
}

impl Default for ListOptions {
    fn default() -> Self {
        Self {
            recursive: true,
            keys_only: false,
            limit: None,
            start_after: None,
            left_out: NotesLeftOut::default(),
            read: ReadOptions::default(),
        }
    }
}
setters!(ListOptions {
    /// Sets whether all descendants are listed, or only the immediate children.
    recursive: bool,
    /// Sets whether values are left out.
    keys_only: bool,
    /// Sets how many items the answer may hold.
    limit: Option<usize>,
    /// Sets the place behind which the listing begins.
    start_after: Option<Position>,
    /// Sets where the names that are left out are noted.
    left_out: NotesLeftOut,
    /// Sets the options of the read behind the listing.
    read: ReadOptions,
});

/// Options of a watch.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WatchOptions {
    /// The time that each single request of the watch has. The watch itself has no end.
    pub each_request: Duration,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self { each_request: Deadline::DEFAULT }
    }
}
setters!(WatchOptions {
    /// Sets the time that each single request has.
    each_request: Duration,
});

/// Options of a lease.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LeaseOptions {
    /// The moment by which the grant has to be there.
    pub deadline: Deadline,
    /// The time that the revocation has, and each request that undoes a grant. Renewals have the
    /// time that the TTL leaves them.
    pub each_request: Duration,
}

impl Default for LeaseOptions {
    fn default() -> Self {
        Self { deadline: Deadline::default(), each_request: Deadline::DEFAULT }
    }
}
setters!(LeaseOptions {
    /// Sets when the grant has to be there.
    deadline: Deadline,
    /// Sets the time that the revocation has.
    each_request: Duration,
});

/// Options of a lock.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LockOptions {
    /// The time that the lock outlives its holder's last renewal, as granted: the handle has
    /// rounded it by [`Capabilities::lock_ttl`](crate::Capabilities::lock_ttl), and the store does
    /// not do so again.
    pub ttl: Duration,
    /// The value that others read of the holder.
    pub value: Bytes,
    /// Tells whether to wait in line. Without waiting, a lock that another holds, or waits for,
    /// gives `None` at once.
    pub wait: bool,
    /// The time that each single request has: of the acquisition, of the release. Waiting in line
    /// has no end. Renewals have the time that the TTL leaves them, since locks may share them.
    pub each_request: Duration,
}

impl LockOptions {
    /// The time that a lock outlives its holder's last renewal, unless told otherwise.
    pub const DEFAULT_TTL: Duration = Duration::from_secs(15);
}

impl Default for LockOptions {
    fn default() -> Self {
        Self { ttl: Self::DEFAULT_TTL, value: Bytes::new(), wait: true, each_request: Deadline::DEFAULT }
    }
}
setters!(LockOptions {
    /// Sets how long the lock outlives its holder's last renewal, as granted.
    ttl: Duration,
    /// Sets what others read of the holder.
    value: Bytes,
    /// Sets whether to wait in line.
    wait: bool,
    /// Sets the time that each single request has.
    each_request: Duration,
});
