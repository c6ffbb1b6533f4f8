//! Revokes a lease: deletes its record, and then its keys.

use crate::{
    client::{
        Lane,
        item::{Asked, ENDS, LEASE, last_end, primary_key, text},
        terms::Terms,
    },
    core::Core,
    error::{Failure, corrupt, damaged, unknown_whether},
    lease::{keep::delete, state::Lease},
    write::turns::{Turn, TurnOf},
};
use aws_sdk_dynamodb::{
    operation::delete_item::DeleteItemError,
    types::{ReturnValue, ReturnValuesOnConditionCheckFailure},
};
use kv_core::{
    ErrorKind, Result,
    backend::retry::{Answered, RetrySafety},
    driver::Deadline,
};
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
        // It comes before the keys: a damaged record is left, and all that hangs on it.
        let was_alive = match self.delete_record(&core, deadline).await {
            Err(e) if e.kind() == ErrorKind::Corrupt => return Err(e),
            was_alive => was_alive,
        };
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
        failed.map_or(was_alive, Err)
    }

    /// Deletes the record, unless its end is damaged; returns whether the lease was alive.
    async fn delete_record(&self, core: &Core, deadline: Deadline) -> Result<bool> {
        let time = &self.client.time;
        let mut terms = Terms::default();
        let condition = terms.has_sound_end(last_end(time.latest()));
        let delete = || async {
            let asked = Asked::now(time);
            let delete = core
                .client
                .tables()
                .delete_item()
                .table_name(&core.client.table)
                .set_key(Some(primary_key(&core.names.leases, &self.id)))
                .condition_expression(&condition)
                .set_expression_attribute_names(terms.names())
                .set_expression_attribute_values(terms.values())
                .return_values(ReturnValue::AllOld)
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
            match delete.send().await {
                Ok(answer) => Ok(answer.attributes().map(|item| asked.found(item))),
                Err(e) => match e.as_service_error() {
                    Some(DeleteItemError::ConditionalCheckFailedException(failed)) => {
                        match failed.item().map(|item| asked.found(item)) {
                            Some(found) if found.has_odd_end(time.latest()) => {
                                Err(Failure::refused(damaged("lease", &self.id, ENDS)))
                            }
                            _ => Ok(None),
                        }
                    }
                    _ => Err(Failure::from(e)),
                },
            }
        };
        let record = core.client.answer(RetrySafety::Repeatable, Lane::KeepAlive, deadline, delete).await?;
        if let Some(is_alive) = record.answer.as_ref().and_then(|found| found.is_alive(time)) {
            return Ok(is_alive);
        }
        match record {
            Answered { answer: None, is_repeat: false } => Ok(false),
            // An earlier attempt, whose answer was lost, has deleted the record, its end was no
            // whole number, or may have passed. If that was before the lease's end for certain, it
            // was alive; else nobody knows.
            _ if time.local().now() < self.state().held_until => Ok(true),
            _ => Err(unknown_whether("whether the lease was alive until then is not known")),
        }
    }
}
