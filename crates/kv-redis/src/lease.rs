//! Leases: sets of keys that end together.

use crate::{
    client::Does,
    part::{Core, Part, nonce, unique},
    script,
};
use fred::types::Value;
use kv_core::{
    Deadline, Error, ErrorKind, LeaseId, LeaseOptions, Leased, Result,
    backend::{Alive, Undo},
};
use std::{sync::Arc, time::Duration};

/// Runs the script about a lease; whether it was there.
async fn order(core: &Core, id: &str, deadline: Deadline, order: &str, with: String) -> Result<bool> {
    let arguments = [Value::from(order), with.into()];
    let answer =
        core.run(Does::Repeatable, deadline, &script::LEASE, [core.names.lease(id)], arguments).await?;
    Ok(answer.number()? == 1)
}

/// [`Store::lease`](kv_core::Store::lease).
pub(crate) async fn lease(part: &Part, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
    part.may_write()?;
    let (core, each) = (&part.core, options.each_request);
    let (id, millis): (Arc<str>, _) = (format!("{:016x}", unique()).into(), ttl.as_millis().to_string());
    let revoke = Undo::new({
        let (core, id) = (core.clone(), id.clone());
        async move { order(&core, &id, Deadline::after(each), "revoke", nonce().to_string()).await }
    });
    let granted = core.clock.now();
    order(core, &id, options.deadline, "grant", millis.clone()).await?;
    let alive = Alive::keep(&core.clock, ttl, granted, {
        let (core, id) = (core.clone(), id.clone());
        move || {
            let (core, id, millis) = (core.clone(), id.clone(), millis.clone());
            async move {
                match order(&core, &id, Deadline::after(each), "renew", millis).await? {
                    true => Ok(()),
                    false => Err(Error::new(
                        ErrorKind::LeaseLost,
                        "the server ended it: its TTL passed, or it was deleted",
                    )),
                }
            }
        }
    });
    Ok(Leased { id: LeaseId::new(id), ttl, alive, revoke })
}
