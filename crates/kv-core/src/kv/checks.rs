//! Checks of a call against the capabilities of the store, before any I/O.

use crate::{Bytes, Capabilities, Consistency, Error, ErrorKind, Linearizable, Result};

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

    pub(super) fn check_fence(&self) -> Result<()> {
        match &self.lock {
            Some(locking) if locking.fenced_writes && self.max_txn_ops > 1 => Ok(()),
            _ => Err(self.unsupported("writes that depend on a lock")),
        }
    }
}
