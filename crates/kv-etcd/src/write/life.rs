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
    backend::{Instant, Undo},
    driver::{Deadline, PutOptions},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Lengthens the lease of a TTL: it is granted before the key is put, and must not end before the
/// put's TTL has. A put that took even longer renews its lease once.
const AHEAD: Duration = Duration::from_secs(1);

/// The lease that a put hangs on, if any.
#[derive(Clone)]
pub(crate) struct Life {
    pub(crate) lease: i64,
    /// Holds the TTL as it was asked for, and as it was granted.
    pub(crate) ttl: Option<(Duration, Duration)>,
    /// Holds the lease, where it is one of our own.
    pub(crate) ours: Option<Arc<Own>>,
}

/// A lease of our own. It is revoked with its last life, as long as it is certain that no key was
/// put under it.
pub(crate) struct Own {
    /// Holds when the lease was asked for.
    asked: Instant,
    revoke: Option<Undo>,
    /// Tells whether the write may have been sent: a revocation could end a key that was put.
    is_sent: AtomicBool,
}

impl Drop for Own {
    fn drop(&mut self) {
        if self.is_sent.load(Ordering::Relaxed)
            && let Some(revoke) = self.revoke.take()
        {
            revoke.forget();
        }
    }
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
        // The least TTL depends on the server's election time-out.
        let granted = ttl.max(grant.ttl.saturating_sub(AHEAD));
        let own = Own { asked: grant.at, revoke: Some(grant.revoke), is_sent: AtomicBool::new(false) };
        Ok(Self { lease: grant.id, ttl: Some((ttl, granted)), ours: Some(Arc::new(own)) })
    }

    /// Returns the server's options of the put.
    pub(crate) fn options(&self) -> ServerPut {
        ServerPut::new().with_lease(self.lease)
    }

    /// Notes that the write is about to be sent.
    pub(crate) fn sending(&self) {
        self.note(true);
    }

    /// Notes that the write took no effect: a lease of our own ends.
    pub(crate) fn undone(&self) {
        self.note(false);
    }

    fn note(&self, is_sent: bool) {
        if let Some(own) = &self.ours {
            own.is_sent.store(is_sent, Ordering::Relaxed);
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
        if let Some((own, granted)) = self.ours.as_ref().zip(ttl) {
            let took = core.clock.now().since(own.asked);
            let renew = || lease::renew(&core.client, self.lease, deadline);
            if took > AHEAD && renew().await.is_err() {
                ttl = Some((granted + AHEAD).saturating_sub(took));
            }
        }
        Written::new(version(revision), ttl)
    }
}
