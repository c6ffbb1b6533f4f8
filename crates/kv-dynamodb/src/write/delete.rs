//! Deletes one key, if its precondition is true, in one request.

use crate::{
    client::{
        item::{Asked, primary_key},
        terms::Terms,
    },
    core::Core,
    error::{Failure, outpaced},
    write::{
        precondition::{Wrote, expected},
        turns::{Turn, TurnOf},
    },
};
use aws_sdk_dynamodb::{
    operation::delete_item::DeleteItemError,
    types::{ReturnValue, ReturnValuesOnConditionCheckFailure},
};
use kv_core::{
    Key, Result,
    backend::retry::RetrySafety,
    driver::{Expect, WriteOptions},
};

/// Does [`Store::delete`](kv_core::driver::Store::delete).
pub(crate) async fn delete(core: &Core, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
    let deadline = options.deadline;
    let _turn = Turn::of(&core.shared.turns, [(key, TurnOf::Deletes)], deadline).await;
    loop {
        let mut terms = Terms::default();
        let clause = expected(core, &mut terms, key, expect, deadline).await?;
        let delete = || async {
            let asked = Asked::now(&core.client.time);
            let delete = core
                .client
                .tables()
                .delete_item()
                .table_name(&core.client.table)
                .set_key(Some(primary_key(&core.names.data, key.as_str())))
                .set_condition_expression(clause.clone())
                .set_expression_attribute_names(terms.names())
                .set_expression_attribute_values(terms.values())
                .return_values(ReturnValue::AllOld)
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
            match delete.send().await {
                Ok(answer) => Ok(Wrote::Done(answer.attributes().map(|item| asked.found(item)))),
                Err(e) => match e.as_service_error() {
                    Some(DeleteItemError::ConditionalCheckFailedException(failed)) => {
                        Ok(Wrote::Refused(failed.item().map(|item| asked.found(item))))
                    }
                    _ => Err(Failure::from(e)),
                },
            }
        };
        match core.client.call(RetrySafety::Write, deadline, delete).await? {
            Wrote::Done(found) => {
                // A damaged item is gone too, and was there.
                if let Some(version) = found.as_ref().and_then(|found| found.version) {
                    core.shared.versions.seen(version, core.client.time.latest());
                }
                return Ok(found.is_some_and(|found| found.value.is_some() && !found.is_over()));
            }
            Wrote::Refused(found) => {
                expect.check(core.living(key.as_str(), found)?.and_then(|found| found.version()))?;
                if deadline.has_passed() {
                    return Err(outpaced("wrote the key", deadline));
                }
            }
        }
    }
}
