//! The purposes of requests: they tell whether a request may be repeated, and how it is sent.

use kv_core::backend::retry::RetrySafety;

/// The purpose of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A read, which changes nothing.
    Read,
    /// A read that any member answers, without a leader.
    Stale,
    /// A write: another client may write between it and a repeat.
    Write,
    /// A write whose effect is bound to an id of our own: grants, revocations, releases.
    Repeatable,
    /// The renewal of a lease. Nobody asks which attempt renewed the lease, and there is little
    /// time, so that a silent connection is given up sooner.
    Renewal,
    /// The opening of a watch, on the connection for watches.
    Watch,
}

impl Purpose {
    /// Returns what repeating a request of this purpose would do.
    pub(super) fn safety(self) -> RetrySafety {
        match self {
            Self::Read | Self::Stale | Self::Renewal | Self::Watch => RetrySafety::Read,
            Self::Repeatable => RetrySafety::Repeatable,
            Self::Write => RetrySafety::Write,
        }
    }
}
