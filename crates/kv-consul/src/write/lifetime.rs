//! Tells what ends a key that is put: nothing, a lease, or the session of its TTL.

use super::ops::modify_index;
use crate::{
    core::Core,
    lease::{ttl, ttl_sessions::TtlSession},
};
use kv_core::{
    Error, ErrorKind, Result, Version, Written,
    driver::{Deadline, PutOptions, Write},
};
use std::sync::Arc;

/// The lifetime of a key that is put, by what ends the key.
pub(super) enum Lifetime {
    Permanent,
    /// A lease, which is this session.
    Lease(Arc<str>),
    Ttl(Arc<TtlSession>),
}

impl Lifetime {
    pub(super) async fn new(core: &Arc<Core>, options: &PutOptions, deadline: Deadline) -> Result<Self> {
        if let Some(id) = &options.lease {
            return Ok(Self::Lease(id.as_str().into()));
        }
        let Some(ttl) = options.ttl else { return Ok(Self::Permanent) };
        Ok(Self::Ttl(ttl::get(core, ttl, deadline).await?))
    }

    /// Returns the session that ends the key.
    pub(super) fn session(&self) -> Option<&Arc<str>> {
        match self {
            Self::Permanent => None,
            Self::Lease(id) => Some(id),
            Self::Ttl(session) => Some(&session.id),
        }
    }

    fn ttl_session(&self) -> Option<&Arc<TtlSession>> {
        match self {
            Self::Permanent | Self::Lease(_) => None,
            Self::Ttl(session) => Some(session),
        }
    }

    /// Notes that the write took no effect.
    pub(super) fn unused(&self) {
        if let Self::Ttl(session) = self {
            session.unused();
        }
    }

    /// Notes a write that was done, and returns what was written.
    pub(super) async fn written(
        &self,
        core: &Core,
        name: &str,
        version: Version,
        deadline: Deadline,
    ) -> Result<Written> {
        core.ttl_sessions.wrote(name, modify_index(version), self.ttl_session());
        if let Self::Ttl(session) = self {
            session.begun(&core.client, deadline).await?;
        }
        Ok(Written::new(version, self.ttl_session().map(|session| session.ttl)))
    }
}

/// Tells whether the write can have another session for its TTL, because the one that it had, which
/// is the library's own affair, has ended. Beside a lease nobody knows which of the two has ended:
/// the write is tried once more, and a retry that is refused too has lost the lease.
pub(super) fn is_over<'a>(
    core: &Core,
    lifetimes: impl Iterator<Item = &'a Lifetime> + Clone,
    error: &Error,
    is_retry: bool,
) -> bool {
    let mut of_ttls = lifetimes.clone().filter_map(Lifetime::ttl_session).peekable();
    let has_lease = { lifetimes }.any(|lifetime| matches!(lifetime, Lifetime::Lease(_)));
    if error.kind() != ErrorKind::LeaseLost || of_ttls.peek().is_none() || has_lease && is_retry {
        return false;
    }
    of_ttls.for_each(|session| core.ttl_sessions.is_over(session));
    true
}

/// Returns the lifetime of each put; `None` for a deletion.
pub(super) async fn lifetimes(
    core: &Arc<Core>,
    writes: &[Write],
    deadline: Deadline,
) -> Result<Vec<Option<Lifetime>>> {
    let mut all: Vec<Option<Lifetime>> = Vec::with_capacity(writes.len());
    for write in writes {
        let Write::Put { options, .. } = write else {
            all.push(None);
            continue;
        };
        match Lifetime::new(core, options, deadline).await {
            Ok(lifetime) => all.push(Some(lifetime)),
            Err(e) => {
                all.iter().flatten().for_each(Lifetime::unused);
                return Err(e);
            }
        }
    }
    Ok(all)
}
