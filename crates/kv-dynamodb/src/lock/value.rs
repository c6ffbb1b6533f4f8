//! Changes the value of the holder of a lock.

use crate::{
    client::{
        item::{CHANGES, Found, TOKEN, VALUE, bytes, number, primary_key, text},
        terms::Terms,
    },
    core::Core,
    error::{Failure, damaged},
};
use aws_sdk_dynamodb::{operation::update_item::UpdateItemError, types::ReturnValuesOnConditionCheckFailure};
use kv_core::{Bytes, Fence, Result, backend::retry::RetrySafety, driver::WriteOptions};

/// The result of the request.
enum Changed {
    Done,
    /// The acquisition does not hold the lock; this record is there.
    Hindered(Option<Found>),
}

/// Does [`Store::set_holder`](kv_core::driver::Store::set_holder).
pub(crate) async fn set_holder(
    core: &Core,
    fence: &Fence,
    value: Bytes,
    options: &WriteOptions,
) -> Result<bool> {
    let (client, name) = (&core.client, fence.lock().as_str());
    let owner = String::from_utf8_lossy(fence.proof());
    let mut terms = Terms::default();
    let (v, token, changes) = (terms.name(VALUE), terms.name(TOKEN), terms.name(CHANGES));
    let (value, none, one) = (terms.value(bytes(value)), terms.value(number(0)), terms.value(number(1)));
    let update = format!("SET {v} = {value}, {changes} = if_not_exists({changes}, {none}) + {one}");
    let (ours, lives) = (terms.is_owned(&owner), terms.is_held(client.time.earliest()));
    let (of, kind) = (terms.value(number(fence.token())), terms.value(text("N")));
    let counts = format!("(attribute_not_exists({changes}) OR attribute_type({changes}, {kind}))");
    let condition = format!("{ours} AND {lives} AND {token} = {of} AND {counts}");
    let change = || async {
        let update = client
            .tables()
            .update_item()
            .table_name(&client.table)
            .set_key(Some(primary_key(&core.names.locks, name)))
            .update_expression(&update)
            .condition_expression(&condition)
            .set_expression_attribute_names(terms.names())
            .set_expression_attribute_values(terms.values())
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match update.send().await {
            Ok(_) => Ok(Changed::Done),
            Err(e) => match e.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    Ok(Changed::Hindered(failed.item().map(Found::of)))
                }
                _ => Err(Failure::from(e)),
            },
        }
    };
    let found = match client.call(RetrySafety::Write, options.deadline, change).await? {
        Changed::Done => return Ok(true),
        Changed::Hindered(found) => core.holding(name, found)?,
    };
    let is_ours =
        |found: Found| found.owner.as_deref() == Some(&*owner) && found.token == Some(fence.token());
    // The holder has it still: what hinders is the number of changes.
    if found.is_some_and(is_ours) { Err(damaged("lock", name, CHANGES)) } else { Ok(false) }
}
