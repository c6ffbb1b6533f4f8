//! Leases: granted, kept alive, given back.

use crate::{core::Core, error, faults::trouble::Does};
use kv_core::{
    LeaseId, Result,
    backend::Alive,
    driver::{Deadline, LeaseOptions, Leased},
};
use std::{sync::Arc, time::Duration};

/// Grants a lease.
pub(crate) async fn lease(core: &Arc<Core>, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
    core.call(Does::Write, options.deadline, || grant(core, ttl, options.each_request)).await
}

/// Grants a lease of this TTL, which is in the range of the store.
fn grant(core: &Arc<Core>, ttl: Duration, each: Duration) -> Result<Leased> {
    let mut data = core.look();
    let id = data.count();
    let own = core.clone();
    let revoke = core.tasks.undo_repeatable(move || {
        let own = own.clone();
        async move {
            own.trouble.resumed_by(Does::Write, Deadline::after(each)).await?;
            Ok(own.look().end_lease(id))
        }
    });
    let (clock, granted) = (data.clock.clone(), data.begin_lease(id, core.prefix.clone(), ttl));
    drop(data);
    let (shared, trouble) = (Arc::downgrade(&core.shared), core.trouble.clone());
    let alive = Alive::keep(&clock, ttl, granted, move || {
        let (shared, resumed) = (shared.clone(), trouble.resumed());
        async move {
            resumed.await;
            shared.upgrade().ok_or_else(error::lease_lost)?.look().renew_lease(id, ttl)
        }
    });
    core.look().tell_lease(id, &alive);
    Ok(Leased { id: LeaseId::new(id.to_string()), ttl, alive, revoke })
}
