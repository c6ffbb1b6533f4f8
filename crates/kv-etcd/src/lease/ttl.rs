//! The part of one write in the lease of its TTL.

use super::{
    grant::{Granter, grant},
    granted::For,
    ttl_leases::{Place, Slot, TtlLease, TtlLeases, TtlUse, ahead},
};
use crate::core::Core;
use kv_core::{Error, ErrorKind, Result, backend::Clock, driver::Deadline};
use std::{sync::Arc, time::Duration};
use tokio::runtime::Handle;

/// Returns the part of a write that is about to be sent in a lease for this TTL.
pub(crate) async fn ttl_lease(core: &Core, ttl: Duration, deadline: Deadline) -> Result<TtlUse> {
    let place = (Handle::current().id(), ttl);
    let slot = core.ttl_leases.slot(place);
    // The lease that another put asked for is waited for no longer than one of our own.
    let left = deadline.remaining();
    let shared = Deadline::after(left - left / 50).limit(shared(core, &slot, place, deadline));
    let (lease, ours) = shared.await.unwrap_or_else(|| Err(not_granted()))?;
    let lease = match ours || lease.is_open() {
        true => lease.take(),
        // The grant took so long that there may be too little time left for others.
        false => ask(&core.granter(), ttl, deadline).await?.take(),
    };
    Ok(TtlUse::new(lease))
}

/// Returns the lease of the slot, and whether it was asked for here: where there is none, a task
/// asks for it, so that a put that is not polled, or that leaves, holds back no other.
async fn shared(
    core: &Core,
    slot: &Arc<Slot>,
    place: Place,
    deadline: Deadline,
) -> Result<(Arc<TtlLease>, bool)> {
    let (before, mut ours) = (slot.asked.last(), false);
    loop {
        if let Some(lease) = slot.lease() {
            return Ok((lease.clone(), ours));
        }
        let fill = |_| {
            ours = true;
            fill(core.granter(), core.ttl_leases.clone(), slot.clone(), place, deadline)
        };
        let (number, answer) = slot.asked.join(fill).await;
        match answer.unwrap_or_else(|| Err(not_granted())) {
            // The answer to one that came before may be out of date, and others had less time.
            Err(e) if ours || number > before && !e.is_transient() => return Err(e),
            _ => {}
        }
    }
}

/// Asks for the lease of a slot, and gives it to puts.
async fn fill(
    granter: Granter,
    leases: TtlLeases,
    slot: Arc<Slot>,
    place: Place,
    deadline: Deadline,
) -> Result<()> {
    let lease = ask(&granter, place.1, deadline).await?;
    slot.fill(lease.clone());
    leases.open(place, &lease);
    Ok(())
}

async fn ask(granter: &Granter, ttl: Duration, deadline: Deadline) -> Result<Arc<TtlLease>> {
    let asked = Clock::system().now();
    let each = deadline.within().min(Deadline::DEFAULT);
    let granted = grant(granter, ttl + ahead(ttl), For::Ttl, deadline, each).await;
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
