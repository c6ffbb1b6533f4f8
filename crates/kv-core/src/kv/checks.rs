//! Checks of a call against the capabilities of the store, before any I/O.

use crate::{Bytes, Capabilities, Consistency, Error, ErrorKind, Linearizable, Result, driver::PutOptions};

impl Capabilities {
    pub(super) fn check_consistency(&self, consistency: Consistency) -> Result<()> {
        match (self.linearizable, consistency) {
            (Linearizable::Never, Consistency::Linearizable) => {
                Err(self.unsupported("linearizable reads (ask for stale ones)"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn check_value(&self, value: &Bytes) -> Result<()> {
        if value.len() <= self.max_value {
            return Ok(());
        }
        let (long, most) = (value.len(), self.max_value);
        Err(Error::new(
            ErrorKind::TooLarge,
            format!("a value of {long} bytes; this store takes at most {most}"),
        ))
    }

    pub(super) fn check_put(&self, value: &Bytes, options: &PutOptions) -> Result<()> {
        self.check_value(value)?;
        match (options.ttl, &options.lease) {
            (Some(_), Some(_)) => Err(Error::new(
                ErrorKind::InvalidArgument,
                "a TTL together with a lease; a key lives by one of them, so give only that one",
            )),
            (Some(ttl), None) => {
                self.ttl.as_ref().ok_or_else(|| self.unsupported("TTLs"))?.grant(ttl).map(drop)
            }
            (None, Some(_)) if self.lease.is_none() => Err(self.unsupported("leases")),
            _ => Ok(()),
        }
    }

    pub(super) fn check_fence(&self) -> Result<()> {
        match &self.lock {
            Some(locking) if locking.fenced_writes && self.max_txn_ops > 1 => Ok(()),
            _ => Err(self.unsupported("writes that depend on a lock")),
        }
    }
}
