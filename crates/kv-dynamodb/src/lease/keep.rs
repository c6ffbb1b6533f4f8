//! What renewals and revocations send: bound to an id of our own, so that a repeat is harmless in its effect.
//!
//! A renewal sets an end that was fixed when it began, and may arrive much later, behind others: so renewals are counted, and
//! the service refuses one that is not the latest.

use crate::{
    client::{
        Lane,
        clock::Millis,
        corrupt,
        item::{ENDS, Found, RENEWAL, TTL, number},
        terms::Terms,
    },
    error::{Failure, code},
    store::Inner,
};
use aws_sdk_dynamodb::{
    operation::update_item::UpdateItemError,
    types::{ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update},
};
use kv_core::{
    Deadline, Result,
    backend::retry::{Answered, RetrySafety},
};

/// The end that a renewal gives, and the how-manieth of its owner's it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Renewal {
    pub(crate) ends: Millis,
    pub(crate) number: u64,
}

/// What came of a renewal.
#[derive(Debug)]
pub(crate) enum Prolonged {
    Done,
    /// This is there instead.
    Hindered(Option<Found>),
}

impl Inner {
    /// What a renewal sets, and on which condition.
    fn prolonged(&self, terms: &mut Terms, to: Renewal, ours: &str) -> (String, String) {
        let (end, ttl, renewal) = (terms.name(ENDS), terms.name(TTL), terms.name(RENEWAL));
        let (at, deleted) = (terms.value(number(to.ends)), terms.value(number(self.deleted_at(to.ends))));
        let by = terms.value(number(to.number));
        let set = format!("SET {end} = {at}, {ttl} = {deleted}, {renewal} = {by}");
        (set, format!("{ours} AND {}", terms.is_not_renewed(to.number)))
    }
}

/// The same as [`prolong`], as a part of a transaction.
pub(crate) fn renewal(
    inner: &Inner,
    partition: &str,
    key: &str,
    to: Renewal,
    ours: impl Fn(&mut Terms) -> String,
) -> Result<TransactWriteItem> {
    let mut terms = Terms::default();
    let ours = ours(&mut terms);
    let (set, condition) = inner.prolonged(&mut terms, to, &ours);
    let update = Update::builder()
        .table_name(&inner.client.table)
        .set_key(Some(Inner::key(partition, key)))
        .update_expression(set)
        .condition_expression(condition)
        .set_expression_attribute_names(terms.names())
        .set_expression_attribute_values(terms.values())
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build();
    let update = update.map_err(|_| corrupt("the SDK refused a renewal"))?;
    Ok(TransactWriteItem::builder().update(update).build())
}

/// Has an item end later, if it is as it has to be.
pub(crate) async fn prolong(
    inner: &Inner,
    lane: Lane,
    partition: &str,
    key: &str,
    to: Renewal,
    ours: impl Fn(&mut Terms) -> String,
    deadline: Deadline,
) -> Result<Prolonged> {
    let mut terms = Terms::default();
    let ours = ours(&mut terms);
    let (set, condition) = inner.prolonged(&mut terms, to, &ours);
    let update = || async {
        let update = inner
            .client
            .tables
            .update_item()
            .table_name(&inner.client.table)
            .set_key(Some(Inner::key(partition, key)))
            .update_expression(&set)
            .condition_expression(&condition)
            .set_expression_attribute_names(terms.names())
            .set_expression_attribute_values(terms.values())
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match update.send().await {
            Ok(_) => Ok(Prolonged::Done),
            Err(e) => match e.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    Ok(Prolonged::Hindered(failed.item().map(Found::of)))
                }
                _ => Err(Failure::from(e)),
            },
        }
    };
    Ok(inner.client.answer(RetrySafety::Repeatable, lane, deadline, update).await?.answer)
}

/// Deletes an item that is bound to an id of our own, and returns what it was.
pub(crate) async fn delete(
    inner: &Inner,
    lane: Lane,
    partition: &str,
    key: &str,
    ours: &str,
    terms: &Terms,
    deadline: Deadline,
) -> Result<Answered<Option<Found>>> {
    let delete = || async {
        let delete = inner
            .client
            .tables
            .delete_item()
            .table_name(&inner.client.table)
            .set_key(Some(Inner::key(partition, key)))
            .condition_expression(ours)
            .set_expression_attribute_names(terms.names())
            .set_expression_attribute_values(terms.values())
            .return_values(ReturnValue::AllOld);
        match delete.send().await {
            Ok(answer) => Ok(answer.attributes().map(Found::of)),
            Err(e) if code(&e) == Some("ConditionalCheckFailedException") => Ok(None),
            Err(e) => Err(Failure::from(e)),
        }
    };
    inner.client.answer(RetrySafety::Repeatable, lane, deadline, delete).await
}
