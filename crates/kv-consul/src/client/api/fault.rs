//! Reads what the server says of operations that fail.

use kv_core::{Error, ErrorKind};
use serde::Deserialize;

/// The reason why an operation of a transaction failed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Fault {
    #[serde(rename = "OpIndex")]
    pub(crate) at: usize,
    /// Holds the server's own words. They quote names, which may hold any words: only what stands
    /// in front of a name and behind it counts.
    pub(crate) what: String,
}

impl Fault {
    /// Tells whether the key was not there, for an operation that needs it.
    pub(crate) fn is_missing(&self) -> bool {
        self.what.ends_with("doesn't exist")
    }

    /// Tells whether the key was there, at another index than the one that was asked for.
    pub(crate) fn is_modified(&self) -> bool {
        self.what.starts_with("failed index check for key")
    }

    /// Tells whether the token may not do the operation.
    pub(crate) fn is_denied(&self) -> bool {
        self.what.starts_with("Permission denied")
    }

    /// Returns the error of a fault that is more than a condition that did not hold.
    pub(super) fn error(&self) -> Option<Error> {
        let begins = |part: &str| self.what.starts_with(part);
        let kind = if self.is_denied() {
            ErrorKind::PermissionDenied
        } else if begins("ACL not found") {
            ErrorKind::Unauthenticated
        } else if begins("invalid session") || begins("failed session lookup") {
            return Some(Error::new(ErrorKind::LeaseLost, "the session on the server has ended"));
        } else if begins("failed to lock key") && self.what.ends_with("due to lock delay") {
            let why = "another tool's session held the key and ended a moment ago; the server refuses TTLs and leases on the \
                       key for that session's lock delay, 15 s by default";
            return Some(Error::new(ErrorKind::Unavailable, why));
        } else if begins("Value for key") && self.what.contains("is too large") {
            ErrorKind::TooLarge
        } else {
            return None;
        };
        Some(Error::new(kind, format!("the server says: {}", self.what)))
    }
}
