//! The values that an observer is told.

use crate::Error;
use std::time::Duration;

/// A call, or a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call<'a> {
    /// The operation, as in an error: `put`, `list`, …
    pub operation: &'static str,
    /// The name of the backend.
    pub backend: &'static str,
    /// The key, directory or lock that the call is about. There are too many of them for the label
    /// of a metric.
    pub key: Option<&'a str>,
}

/// The end of a call.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// It was answered.
    Answered,
    /// It failed. [`Error::kind`] is fit for a label.
    Failed(&'a Error),
    /// Its future was dropped.
    Dropped,
}

/// One attempt at a request.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Attempt<'a> {
    /// The operation that the request is a part of; `renew` for renewals.
    pub operation: &'static str,
    /// The name of the backend.
    pub backend: &'static str,
    /// The number of the attempt at this request, from 1 on.
    pub number: u32,
    /// The failure; `None` where the server answered.
    pub error: Option<&'a Error>,
    /// The time that it took.
    pub took: Duration,
}

/// One attempt to renew the life of locks or of a lease.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Renewal<'a> {
    /// The operation that began the life: `acquire` or another call that acquires a lock, `lease`,
    /// or a put with a TTL.
    pub operation: &'static str,
    /// The name of the backend.
    pub backend: &'static str,
    /// The TTL as granted.
    pub ttl: Duration,
    /// The time that was left of the life when the attempt ended, had it failed: by the owner's
    /// clock, to the moment from which on the lock counts as lost. A metric of its least tells how
    /// close it came.
    pub slack: Duration,
    /// The failure; `None` where the life was renewed.
    pub error: Option<&'a Error>,
}

/// The wait of one change for the reader of its watch.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Lag {
    /// The operation that began the watch: `watch`, `watch_tree` or `lock_holder`.
    pub operation: &'static str,
    /// The name of the backend.
    pub backend: &'static str,
    /// The time from the arrival of the change to its reading. Of what was there when the watch
    /// began nothing is told.
    pub waited: Duration,
}

/// A lock or a lease that this handle has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holding<'a> {
    /// The kind of what is held: `lock` or `lease`.
    pub operation: &'static str,
    /// The name of the backend.
    pub backend: &'static str,
    /// The name of the lock.
    pub lock: Option<&'a str>,
}

/// A lock or a lease that was lost.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Loss<'a> {
    /// The kind of what was lost: `lock` or `lease`.
    pub operation: &'static str,
    /// The name of the backend.
    pub backend: &'static str,
    /// The name of the lock.
    pub lock: Option<&'a str>,
    /// The cause, which is fit for a label.
    pub cause: Cause,
    /// The reason, as `lost` of the guard or the lease gives it.
    pub error: &'a Error,
}

/// The cause of a loss, as far as the owner's side can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// It could not be renewed in time: the last renewals failed, or were not answered.
    RenewalsFailed,
    /// No renewal failed, and yet none was made in time: the process, its runtime or the machine
    /// stood still.
    StoodStill,
    /// The server said that it is over: somebody ended it there, or the server itself did.
    EndedThere,
    /// The runtime that renewed it has ended.
    RuntimeEnded,
}

impl Cause {
    /// Returns the name for metrics and log lines: `renewals_failed`, `stood_still`, …
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RenewalsFailed => "renewals_failed",
            Self::StoodStill => "stood_still",
            Self::EndedThere => "ended_there",
            Self::RuntimeEnded => "runtime_ended",
        }
    }
}
