//! The life of a key that is put: it has no end, or hangs on the lease of a user, or on one for its
//! TTL.

use crate::{
    client::answer::version,
    core::Core,
    lease::{self, TtlUse, ttl_lease},
};
use etcd_client::PutOptions as ServerPut;
use kv_core::{
    Error, ErrorKind, Result, Written,
    driver::{Deadline, PutOptions},
};
use std::{sync::Arc, time::Duration};

/// Limits how often a write whose lease had ended is sent with another one: the first may have
/// been ended by an administrator, or be unknown to a server that was restored.
pub(super) const TRIES: usize = 3;

/// The lease that a put hangs on, if any.
#[derive(Clone)]
pub(crate) struct Life {
    pub(crate) lease: i64,
    /// Holds the TTL as the handle granted it, and the part in a lease for it.
    ttl: Option<(Duration, Arc<TtlUse>)>,
}

impl Life {
    /// Makes the life of a put.
    pub(crate) async fn new(core: &Core, options: &PutOptions, deadline: Deadline) -> Result<Self> {
        if let Some(id) = &options.lease {
            return Ok(Self { lease: lease::number(id)?, ttl: None });
        }
        let Some(ttl) = options.ttl else { return Ok(Self { lease: 0, ttl: None }) };
        let part = ttl_lease(core, ttl, deadline).await?;
        Ok(Self { lease: part.lease.id, ttl: Some((ttl, Arc::new(part))) })
    }

    /// Returns the TTL as the handle granted it.
    pub(crate) fn granted(&self) -> Option<Duration> {
        self.ttl.as_ref().map(|(granted, _)| *granted)
    }

    /// Tells whether the lease is one of a user.
    pub(crate) fn is_users(&self) -> bool {
        self.lease != 0 && self.ttl.is_none()
    }

    /// Returns the server's options of the put.
    pub(crate) fn options(&self) -> ServerPut {
        ServerPut::new().with_lease(self.lease)
    }

    /// Notes that the write is about to be sent.
    pub(crate) fn sending(&self) {
        self.note(true);
    }

    /// Notes that the write took no effect.
    pub(crate) fn undone(&self) {
        self.note(false);
    }

    fn note(&self, is_sent: bool) {
        if let Some((_, part)) = &self.ttl {
            part.note(is_sent);
        }
    }

    /// Gives the lease of the TTL to no further puts, since the server says that it has ended;
    /// returns whether there is one.
    pub(crate) fn is_over(&self, core: &Core) -> bool {
        if let Some((_, part)) = &self.ttl {
            core.ttl_leases.is_over(&part.lease);
        }
        self.ttl.is_some()
    }

    /// Returns the error of a write as it is told to a caller who knows of no lease.
    pub(crate) fn error(&self, error: Error) -> Error {
        match error.kind() {
            ErrorKind::LeaseLost if self.ttl.is_some() => {
                let why = "the TTL was over before the server came to the write, which was not done";
                Error::new(ErrorKind::Timeout, why).with_cause(error)
            }
            _ => error,
        }
    }

    /// Returns what was written.
    pub(crate) async fn written(&self, core: &Core, revision: i64, deadline: Deadline) -> Written {
        let ttl = match &self.ttl {
            Some((_, part)) => Some(part.lease.granted(&core.client, deadline).await),
            None => None,
        };
        Written::new(version(revision), ttl)
    }
}
