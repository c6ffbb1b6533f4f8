//! What renewals and revocations send: bound to an id of our own, so that a repeat is harmless in its effect.

use crate::{
    client::{Does, corrupt},
    clock::Millis,
    error::{Failed, code},
    item::{ENDS, Found, TTL, number},
    store::Inner,
    terms::Terms,
};
use aws_sdk_dynamodb::types::{ReturnValue, TransactWriteItem, Update};
use kv_core::*;

impl Inner {
    fn prolonged(&self, terms: &mut Terms, ends: Millis) -> String {
        let (end, ttl) = (terms.name(ENDS), terms.name(TTL));
        let (at, deleted) = (terms.value(number(ends)), terms.value(number(self.deleted_at(ends))));
        format!("SET {end} = {at}, {ttl} = {deleted}")
    }
}

/// The same as [`prolong`], as a part of a transaction.
pub(crate) fn renewal(
    inner: &Inner,
    partition: &str,
    key: &str,
    ends: Millis,
    ours: impl Fn(&mut Terms) -> String,
) -> Result<TransactWriteItem> {
    let mut terms = Terms::default();
    let condition = ours(&mut terms);
    let set = inner.prolonged(&mut terms, ends);
    let update = Update::builder()
        .table_name(&inner.client.table)
        .set_key(Some(Inner::key(partition, key)))
        .update_expression(set)
        .condition_expression(condition)
        .set_expression_attribute_names(terms.names())
        .set_expression_attribute_values(terms.values())
        .build();
    let update = update.map_err(|_| corrupt("the SDK refused a renewal"))?;
    Ok(TransactWriteItem::builder().update(update).build())
}

/// Has an item end later, if it is as it has to be; whether it was.
pub(crate) async fn prolong(
    inner: &Inner,
    does: Does,
    partition: &str,
    key: &str,
    ends: Millis,
    ours: impl Fn(&mut Terms) -> String,
    deadline: Deadline,
) -> Result<bool> {
    let mut terms = Terms::default();
    let condition = ours(&mut terms);
    let set = inner.prolonged(&mut terms, ends);
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
            .set_expression_attribute_values(terms.values());
        match update.send().await {
            Ok(_) => Ok(true),
            Err(e) if code(&e) == Some("ConditionalCheckFailedException") => Ok(false),
            Err(e) => Err(Failed::from(e)),
        }
    };
    inner.client.call(does, deadline, update).await
}

/// Deletes an item that is bound to an id of our own; what it was, and whether an earlier attempt may have deleted it.
pub(crate) async fn delete(
    inner: &Inner,
    partition: &str,
    key: &str,
    ours: &str,
    terms: &Terms,
    deadline: Deadline,
) -> Result<(Option<Found>, bool)> {
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
            Err(e) => Err(Failed::from(e)),
        }
    };
    inner.client.answer(Does::Keeps, deadline, delete).await
}
