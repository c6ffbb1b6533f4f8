//! The life that a program asks for a key which it puts, and what the store is handed of it.

use crate::{
    Capabilities, Error, ErrorKind, LeaseId, Result,
    driver::{Deadline, PutOptions},
};
use std::time::Duration;

/// The life of a key that is put, as the program asks for it; without a TTL or a lease the key
/// stays.
#[derive(Clone, Debug, Default)]
pub(super) struct Lifetime {
    pub(super) ttl: Option<Duration>,
    pub(super) lease: Option<LeaseId>,
}

impl Lifetime {
    /// Returns the options that the store is handed: with the TTL that is granted, which is
    /// computed here and nowhere else.
    pub(super) fn options(self, can: &Capabilities, deadline: Deadline) -> Result<PutOptions> {
        let Self { ttl, lease } = self;
        let ttl = match (ttl, &lease) {
            (Some(_), Some(_)) => {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    "a TTL together with a lease; a key lives by one of them, so give only that one",
                ));
            }
            (None, Some(_)) if can.lease.is_none() => return Err(can.unsupported("leases")),
            (ttl, _) => ttl.map(|asked| can.key_ttl(asked)).transpose()?,
        };
        Ok(PutOptions { ttl, lease, deadline })
    }
}
