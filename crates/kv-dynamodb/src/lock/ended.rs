//! Ends what the holder of a lock holds, by its token.

use crate::{
    client::{
        item::{ENDS, Found, OWNER, TOKEN, TTL, VALUE, number, primary_key},
        terms::Terms,
    },
    core::Core,
    error::Failure,
    list::read::fresh_time,
};
use aws_sdk_dynamodb::{operation::update_item::UpdateItemError, types::ReturnValuesOnConditionCheckFailure};
use kv_core::{Key, Result, backend::retry::RetrySafety, driver::WriteOptions};

/// The result of the request.
enum Broken {
    Done,
    /// No acquisition of this token holds the lock; this record is there.
    Hindered(Option<Found>),
}

/// Does [`Store::break_lock`](kv_core::driver::Store::break_lock).
pub(crate) async fn break_lock(core: &Core, name: &Key, token: u64, options: &WriteOptions) -> Result<bool> {
    fresh_time(core, options.deadline).await?;
    let client = &core.client;
    let mut terms = Terms::default();
    let (owner, end, value) = (terms.name(OWNER), terms.name(ENDS), terms.name(VALUE));
    let (ttl, held) = (terms.name(TTL), terms.name(TOKEN));
    let deleted = terms.value(number(core.deleted_at(client.time.latest())));
    let update = format!("SET {ttl} = {deleted} REMOVE {owner}, {end}, {value}");
    let (of, lives) = (terms.value(number(token)), terms.is_held(client.time.earliest()));
    let condition = format!("{held} = {of} AND attribute_exists({owner}) AND {lives}");
    let take = || async {
        let update = client
            .tables()
            .update_item()
            .table_name(&client.table)
            .set_key(Some(primary_key(&core.names.locks, name.as_str())))
            .update_expression(&update)
            .condition_expression(&condition)
            .set_expression_attribute_names(terms.names())
            .set_expression_attribute_values(terms.values())
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match update.send().await {
            Ok(_) => Ok(Broken::Done),
            Err(e) => match e.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    Ok(Broken::Hindered(failed.item().map(Found::of)))
                }
                _ => Err(Failure::from(e)),
            },
        }
    };
    match client.call(RetrySafety::Write, options.deadline, take).await? {
        Broken::Done => {
            core.waits.released(name);
            Ok(true)
        }
        // A record that is damaged is left as it is.
        Broken::Hindered(found) => core.holding(name.as_str(), found).map(|_| false),
    }
}
