//! Grants leases: each is a session, whose ephemeral nodes are the keys under it.

pub(crate) mod expiring;
pub(crate) mod life;

use crate::{client::keep_alive::open, core::Core, write::directory::clear_all};
use kv_core::{
    LeaseId, Result,
    driver::{Deadline, LeaseOptions, Leased},
};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

/// Opens the session of a lease: [`Store::lease`](kv_core::driver::Store::lease).
pub(crate) async fn lease(core: &Arc<Core>, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
    let (session, alive) =
        open(&core.client.options, core.limits, &core.clock, ttl, options.deadline).await?;
    let mut leases = core.leases.lock();
    leases.retain(|_, lease| lease.strong_count() > 0);
    leases.insert(session.id().to_owned(), Arc::downgrade(&session));
    drop(leases);
    let (id, each_request, store) = (LeaseId::new(session.id()), options.each_request, Arc::downgrade(core));
    let directories = Arc::<OnceLock<_>>::default();
    let revoke = core.tasks.undo_repeatable(move || {
        let (session, store, directories) = (session.clone(), store.clone(), directories.clone());
        async move {
            let deadline = Deadline::after(each_request);
            let directories = directories.get_or_init(|| session.directories());
            let answer = session.end(deadline).await;
            if let Some(core) = store.upgrade() {
                clear_all(&core, directories, deadline).await;
            }
            answer
        }
    });
    Ok(Leased { id, ttl, alive, revoke })
}
