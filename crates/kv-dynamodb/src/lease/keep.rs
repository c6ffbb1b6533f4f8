//! Sends renewals and revocations. They are bound to an id of this library, so that a repeat does
//! no harm.
//!
//! The end that a renewal sets is fixed when the renewal begins, and the request may arrive much
//! later, behind others. So renewals are numbered, and the service refuses one that is not the
//! latest.

use crate::{
    client::{
        Lane,
        change::Changed,
        item::{Asked, ENDS, Found, RENEWAL, TTL, number, primary_key},
        terms::Terms,
    },
    core::Core,
    error::{Failure, code, corrupt},
    lease::state::Renewal,
};
use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update};
use kv_core::{
    Result,
    backend::retry::{Answered, RetrySafety},
    driver::Deadline,
};
use std::time::Duration;

/// Returns how long a lock or lease is held after it was granted or renewed, by the rule of
/// [`Alive`](kv_core::backend::Alive).
pub(crate) fn life(ttl: Duration) -> Duration {
    ttl - ttl / 10
}

/// Returns the update expression of a renewal, and its condition.
fn prolonged(core: &Core, terms: &mut Terms, to: Renewal, ours: &str) -> (String, String) {
    let (end, ttl, renewal) = (terms.name(ENDS), terms.name(TTL), terms.name(RENEWAL));
    let (at, deleted) = (terms.value(number(to.ends)), terms.value(number(core.deleted_at(to.ends))));
    let by = terms.value(number(to.number));
    let set = format!("SET {end} = {at}, {ttl} = {deleted}, {renewal} = {by}");
    (set, format!("{ours} AND {}", terms.is_not_renewed(to.number)))
}

/// Returns the request that [`prolong`] sends, as a part of a transaction.
pub(crate) fn renewal(
    core: &Core,
    partition: &str,
    key: &str,
    to: Renewal,
    ours: impl Fn(&mut Terms) -> String,
) -> Result<TransactWriteItem> {
    let mut terms = Terms::default();
    let ours = ours(&mut terms);
    let (set, condition) = prolonged(core, &mut terms, to, &ours);
    let update = Update::builder()
        .table_name(&core.client.table)
        .set_key(Some(primary_key(partition, key)))
        .update_expression(set)
        .condition_expression(condition)
        .set_expression_attribute_names(terms.names())
        .set_expression_attribute_values(terms.values())
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build();
    let update = update.map_err(|_| corrupt("the SDK refused a renewal"))?;
    Ok(TransactWriteItem::builder().update(update).build())
}

/// Sets a later end of an item, if the item is as `ours` says.
pub(crate) async fn prolong(
    core: &Core,
    lane: Lane,
    partition: &str,
    key: &str,
    to: Renewal,
    ours: impl Fn(&mut Terms) -> String,
    deadline: Deadline,
) -> Result<Changed> {
    let mut terms = Terms::default();
    let ours = ours(&mut terms);
    let (set, condition) = prolonged(core, &mut terms, to, &ours);
    let update = || core.client.change((partition, key), &set, &condition, &terms);
    Ok(core.client.answer(RetrySafety::Repeatable, lane, deadline, update).await?.answer)
}

/// Deletes an item that is bound to an id of this library, and returns what it was.
pub(crate) async fn delete(
    core: &Core,
    lane: Lane,
    partition: &str,
    key: &str,
    ours: &str,
    terms: &Terms,
    deadline: Deadline,
) -> Result<Answered<Option<Found>>> {
    let delete = || async {
        let asked = Asked::now(&core.client.time);
        let delete = core
            .client
            .tables()
            .delete_item()
            .table_name(&core.client.table)
            .set_key(Some(primary_key(partition, key)))
            .condition_expression(ours)
            .set_expression_attribute_names(terms.names())
            .set_expression_attribute_values(terms.values())
            .return_values(ReturnValue::AllOld);
        match delete.send().await {
            Ok(answer) => Ok(answer.attributes().map(|item| asked.found(item))),
            Err(e) if code(&e) == Some("ConditionalCheckFailedException") => Ok(None),
            Err(e) => Err(Failure::from(e)),
        }
    };
    core.client.answer(RetrySafety::Repeatable, lane, deadline, delete).await
}
