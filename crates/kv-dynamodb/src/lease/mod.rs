//! Grants leases: each has a record, and keys that are renewed with it.

pub(crate) mod keep;
mod put;
mod renew;
mod revoke;
pub(crate) mod state;

use crate::{
    client::{
        item::{ENDS, RENEWAL, number, primary_key},
        terms::Terms,
    },
    core::Core,
    error::{Failure, code},
    lease::{
        keep::life,
        state::{Lease, Renewal, over},
    },
    list::read::fresh_time,
};
use kv_core::{
    LeaseId, Result,
    backend::{Alive, retry::RetrySafety},
    driver::{Deadline, LeaseOptions, Leased},
};
use std::{sync::Arc, time::Duration};

/// Does [`Store::lease`](kv_core::driver::Store::lease).
pub(crate) async fn lease(core: &Arc<Core>, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
    fresh_time(core, options.deadline).await?;
    let (each_request, time) = (options.each_request, &core.client.time);
    let (granted, to) = (time.local().now(), Renewal { ends: time.end_of(ttl), number: 0 });
    let lease = Arc::new(Lease::new(core.client.clone(), to, granted + life(ttl)));
    core.shared.leases.add(&lease);
    // Its record can be deleted for certain only after the answer, so the answer is awaited even when the
    // caller is gone.
    let asked = core.tasks.to_its_end({
        let (lease, core, deadline) = (lease.clone(), core.clone(), options.deadline);
        async move {
            let put = put_record(&core, &lease.id, to, deadline).await;
            let tasks = core.tasks.clone();
            (put, tasks.undo_repeatable(move || lease.clone().revoke(core.clone(), each_request)))
        }
    });
    let (put, revoke) = asked.await?;
    put?;
    let (renewed, within) = (lease.clone(), Arc::downgrade(core));
    let alive = Alive::keep(time.local(), ttl, granted, move || {
        let (lease, core) = (renewed.clone(), within.upgrade());
        async move {
            let core = core.ok_or_else(|| over(&lease.id))?;
            lease.renew(core, ttl).await
        }
    });
    Ok(Leased { id: LeaseId::new(lease.id.as_str()), ttl, alive, revoke })
}

async fn put_record(core: &Core, id: &str, to: Renewal, deadline: Deadline) -> Result<()> {
    let mut terms = Terms::default();
    let is_new = format!("attribute_not_exists({})", terms.name(ENDS));
    let mut record = primary_key(&core.names.leases, id);
    record.extend(core.ends(to.ends));
    record.insert(RENEWAL.to_owned(), number(to.number));
    let put = || async {
        let put = core
            .client
            .tables()
            .put_item()
            .table_name(&core.client.table)
            .set_item(Some(record.clone()))
            .condition_expression(&is_new)
            .set_expression_attribute_names(terms.names());
        match put.send().await {
            // The id is nobody else's, so an earlier attempt has put the record.
            Err(e) if code(&e) != Some("ConditionalCheckFailedException") => Err(Failure::from(e)),
            _ => Ok(()),
        }
    };
    core.client.call(RetrySafety::Repeatable, deadline, put).await
}
