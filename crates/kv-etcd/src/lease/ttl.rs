//! The part of one write in the lease of its TTL.

use super::{
    grant::grant,
    granted::For,
    ttl_leases::{TtlLease, TtlUse, ahead},
};
use crate::core::Core;
use kv_core::{Error, ErrorKind, Result, backend::Clock, driver::Deadline};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::runtime::Handle;

/// Returns the part of a write that is about to be sent in a lease for this TTL.
pub(crate) async fn ttl_lease(core: &Core, ttl: Duration, deadline: Deadline) -> Result<TtlUse> {
    let place = (Handle::current().id(), ttl);
    let slot = core.ttl_leases.slot(place);
    let ours = AtomicBool::new(false);
    let lease = slot.get_or_try_init(|| async {
        let lease = ask(core, ttl, deadline).await?;
        ours.store(true, Ordering::Relaxed);
        Ok(lease)
    });
    // The lease that another put asked for is waited for no longer than one of our own.
    let left = deadline.remaining();
    let Some(lease) = Deadline::after(left - left / 50).limit(lease).await else {
        return Err(not_granted());
    };
    let lease = lease?;
    let ours = ours.load(Ordering::Relaxed);
    if ours {
        core.ttl_leases.open(place, lease);
    }
    let lease = match ours || lease.is_open() {
        true => lease.take(),
        // The grant took so long that there may be too little time left for others.
        false => ask(core, ttl, deadline).await?.take(),
    };
    Ok(TtlUse::new(lease))
}

async fn ask(core: &Core, ttl: Duration, deadline: Deadline) -> Result<Arc<TtlLease>> {
    let asked = Clock::system().now();
    let each = deadline.within().min(Deadline::DEFAULT);
    let granted = grant(core, ttl + ahead(ttl), For::Ttl, deadline, each).await;
    granted.map(|grant| TtlLease::new(ttl, asked, grant)).map_err(|e| match e.kind() {
        ErrorKind::OutcomeUnknown => not_granted().with_cause(e),
        _ => e,
    })
}

/// Returns the error of a write that was not sent, since its TTL had no lease in time.
fn not_granted() -> Error {
    let why = "no lease was granted for its TTL in time, so that it was not written";
    Error::new(ErrorKind::Timeout, why)
}
