//! The life of a key that is put: it has no end, or hangs on the lease of a user, or on one that
//! is made for its TTL.

use crate::{
    client::answer::version,
    core::Core,
    lease::{self, For},
};
use etcd_client::PutOptions as ServerPut;
use kv_core::{
    Error, ErrorKind, Result, Written,
    backend::Instant,
    driver::{Deadline, PutOptions},
};
use std::time::Duration;

/// Lengthens the lease of a TTL: it is granted before the key is put, and must not end before the
/// put's TTL has. A put that took even longer renews its lease once.
const AHEAD: Duration = Duration::from_secs(1);

/// The lease that a put hangs on, if any.
#[derive(Clone, Copy)]
pub(crate) struct Life {
    pub(crate) lease: i64,
    /// Holds the TTL as it was asked for, and as it was granted.
    pub(crate) ttl: Option<(Duration, Duration)>,
    /// Holds when a lease of our own was asked for; `None` without such a lease.
    pub(crate) ours: Option<Instant>,
}

impl Life {
    /// Makes the life of a put; `keys` counts the puts of the transaction that have this TTL.
    pub(crate) async fn new(
        core: &Core,
        options: &PutOptions,
        keys: usize,
        deadline: Deadline,
    ) -> Result<Self> {
        let forever = Self { lease: 0, ttl: None, ours: None };
        if let Some(id) = &options.lease {
            return Ok(Self { lease: lease::number(id)?, ..forever });
        }
        let Some((range, ttl)) = core.capabilities.ttl.as_ref().zip(options.ttl) else { return Ok(forever) };
        let ttl = range.grant(ttl)?;
        let each = deadline.within().min(Deadline::DEFAULT);
        let grant =
            lease::grant(core, ttl + AHEAD, For::Ttl(keys), deadline, each).await.map_err(|e| {
                match e.kind() {
                    ErrorKind::OutcomeUnknown => {
                        let why = "no lease was granted for its TTL in time, so that it was not written";
                        Error::new(ErrorKind::Timeout, why).with_cause(e)
                    }
                    _ => e,
                }
            })?;
        // From here on the put is under way: a revocation could end a key that was put.
        grant.revoke.forget();
        // The least TTL depends on the server's election time-out.
        let granted = ttl.max(grant.ttl.saturating_sub(AHEAD));
        Ok(Self { lease: grant.id, ttl: Some((ttl, granted)), ours: Some(grant.at) })
    }

    /// Returns the server's options of the put.
    pub(crate) fn options(&self) -> ServerPut {
        ServerPut::new().with_lease(self.lease)
    }

    /// Ends a lease of our own, after a write that took no effect.
    pub(crate) fn end(&self, core: &Core) {
        if self.ours.is_some() {
            core.tasks.spawn(lease::end(core.client.clone(), self.lease, Deadline::DEFAULT));
        }
    }

    /// Returns the error of a write as it is told to a caller who knows of no lease.
    pub(crate) fn error(&self, error: Error) -> Error {
        match error.kind() {
            ErrorKind::LeaseLost if self.ours.is_some() => {
                let why = "the TTL was over before the server came to the write, which was not done";
                Error::new(ErrorKind::Timeout, why).with_cause(error)
            }
            _ => error,
        }
    }

    /// Returns what was written; first renews a lease of our own, if the write took longer than
    /// `AHEAD`.
    pub(crate) async fn written(&self, core: &Core, revision: i64, deadline: Deadline) -> Written {
        let mut ttl = self.ttl.map(|(_, granted)| granted);
        if let Some((asked, granted)) = self.ours.zip(ttl) {
            let took = core.clock.now().since(asked);
            let renew = || lease::renew(&core.client, self.lease, deadline);
            if took > AHEAD && renew().await.is_err() {
                ttl = Some((granted + AHEAD).saturating_sub(took));
            }
        }
        Written::new(version(revision), ttl)
    }
}
