//! The errors that several rooms give.

use kv_core::{Error, ErrorKind};

/// Returns the error of a lease that has ended.
pub(crate) fn lease_lost() -> Error {
    Error::new(ErrorKind::LeaseLost, "the lease has ended: its TTL passed, or it was revoked")
}

/// Returns the error of a lock that is no longer held.
pub(crate) fn lock_lost() -> Error {
    Error::new(ErrorKind::LockLost, "its TTL passed without a renewal, or it was taken away")
}
