//! Revokes a lease: deletes its keys, and then its record.

use crate::{
    client::{
        Lane,
        item::{ENDS, LEASE, text},
        terms::Terms,
    },
    core::Core,
    error::{corrupt, unknown_whether},
    lease::{keep::delete, state::Lease},
    write::turns::{Turn, TurnOf},
};
use kv_core::{Result, backend::retry::Answered, driver::Deadline};
use std::{sync::Arc, time::Duration};
use tokio::task::JoinSet;

impl Lease {
    /// Ends the lease and deletes its keys; returns whether it was alive.
    pub(super) async fn revoke(self: Arc<Self>, core: Arc<Core>, each_request: Duration) -> Result<bool> {
        let keys: Vec<_> = {
            let mut state = self.state();
            state.over = true;
            state.keys.keys().cloned().collect()
        };
        let deadline = Deadline::after(each_request);
        let mut deletions = JoinSet::new();
        for key in keys {
            let (lease, core) = (self.clone(), core.clone());
            deletions.spawn(async move {
                let mut terms = Terms::default();
                let (of, id) = (terms.name(LEASE), terms.value(text(&lease.id)));
                let ours = format!("{of} = {id}");
                let _turn = Turn::of(&core.shared.turns, [(&key, TurnOf::Deletes)], deadline).await;
                delete(&core, Lane::LeaseKeys, &core.names.data, key.as_str(), &ours, &terms, deadline).await
            });
        }
        let mut failed = None;
        while let Some(deleted) = deletions.join_next().await {
            let deleted = deleted.unwrap_or_else(|_| Err(corrupt("a deletion ended without an answer")));
            failed = failed.or(deleted.err());
        }
        let mut terms = Terms::default();
        let exists = format!("attribute_exists({})", terms.name(ENDS));
        let record =
            delete(&core, Lane::KeepAlive, &core.names.leases, &self.id, &exists, &terms, deadline).await;
        if let Some(e) = failed {
            return Err(e);
        }
        match record? {
            Answered { answer: Some(found), .. } => Ok(!found.is_over(&self.client.time)),
            Answered { answer: None, is_repeat: false } => Ok(false),
            // An earlier attempt, whose answer was lost, has deleted the record. If that was
            // before the lease's end for certain, it was alive; else nobody knows.
            _ if self.client.time.local().now() < self.state().held_until => Ok(true),
            _ => Err(unknown_whether("whether the lease was alive until then is not known")),
        }
    }
}
