//! Leases: a session each, whose nodes are the keys under it.

use crate::{
    directory,
    session::{Ephemeral, keep},
    store::Inner,
    txn::Life,
};
use kv_core::*;
use std::{sync::Arc, time::Duration};

/// [`Store::lease`].
pub(crate) async fn lease(inner: &Arc<Inner>, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
    let granted = inner.clock.now();
    let timeout = inner.limits.timeout(ttl);
    let session = Arc::new(Ephemeral::open(&inner.client.options, timeout, false, options.deadline).await?);
    let alive = keep(&session, &inner.clock, ttl, granted);
    let mut leases = inner.leases.lock();
    leases.retain(|_, lease| lease.strong_count() > 0);
    leases.insert(session.id().to_owned(), Arc::downgrade(&session));
    drop(leases);
    let (id, each_request, store) = (LeaseId::new(session.id()), options.each_request, Arc::downgrade(inner));
    let revoke = inner.tasks.undo(async move {
        let deadline = Deadline::after(each_request);
        let directories = session.directories();
        let answer = session.end(deadline).await;
        if let Some(inner) = store.upgrade() {
            for path in directories.iter().rev() {
                directory::clear(&inner, path, deadline).await;
            }
        }
        answer
    });
    Ok(Leased { id, ttl, alive, revoke })
}

impl Inner {
    /// What a key that is put like this lives by.
    pub(crate) async fn life(&self, options: &PutOptions, deadline: Deadline) -> Result<Life> {
        if let Some(id) = &options.lease {
            let lease = self.leases.lock().get(id.as_str()).and_then(std::sync::Weak::upgrade);
            let session = lease.filter(|lease| lease.is_alive()).ok_or_else(|| {
                let why =
                    format!("the lease {:?} has ended, or is not one of this store handle", id.as_str());
                Error::new(ErrorKind::LeaseLost, why)
            })?;
            return Ok(Life::Own { session, ttl: None });
        }
        let Some((range, ttl)) = self.capabilities.ttl.as_ref().zip(options.ttl) else {
            return Ok(Life::Forever);
        };
        let ttl = range.grant(ttl)?;
        Ok(Life::Own { session: self.expiring(ttl, deadline).await?, ttl: Some(ttl) })
    }
}
