//! The purposes of requests: they tell whether a request may be repeated, and how it is sent.

use kv_core::backend::retry::RetrySafety;

/// The purpose of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It changes nothing.
    Read,
    /// As a read, from any member and without a leader.
    Stale,
    /// Another client may write between it and a repeat.
    Write,
    /// Its effect is bound to an id of our own: grants, revocations, releases.
    Repeatable,
    /// Renews a lease: nobody asks which attempt did, and there is little time, so that a silent
    /// connection is given up sooner.
    Renewal,
    /// Opens a watch, on the connection for them.
    Watch,
}

impl Purpose {
    /// Returns what repeating it would do.
    pub(super) fn safety(self) -> RetrySafety {
        match self {
            Self::Read | Self::Stale | Self::Renewal | Self::Watch => RetrySafety::Read,
            Self::Repeatable => RetrySafety::Repeatable,
            Self::Write => RetrySafety::Write,
        }
    }
}
