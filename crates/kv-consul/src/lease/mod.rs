//! Grants leases: they are sessions on the server, on which keys hang.

pub(crate) mod session;
pub(crate) mod ttl;
pub(crate) mod ttl_sessions;

use crate::core::Core;
use kv_core::{
    LeaseId, Result,
    driver::{LeaseOptions, Leased},
};
use std::time::Duration;

/// Does [`Store::lease`](kv_core::driver::Store::lease).
pub(crate) async fn lease(core: &Core, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
    let session = session::create(core, "lease", ttl, options.deadline, options.each_request).await?;
    let alive = session::keep(core, &session, ttl);
    Ok(Leased { id: LeaseId::new(session.id.clone()), ttl, alive, revoke: session.end })
}
