//! Changes one item on a condition.

use crate::{
    client::{
        Client,
        item::{Asked, Found, primary_key},
        terms::Terms,
    },
    error::Failure,
};
use aws_sdk_dynamodb::{operation::update_item::UpdateItemError, types::ReturnValuesOnConditionCheckFailure};

/// The answer to a change.
#[derive(Debug)]
pub(crate) enum Changed {
    Done,
    /// The condition was not true of this item, or there is none.
    Hindered(Option<Found>),
}

impl Client {
    /// Changes an item by an update expression, if the condition is true of it. It is one attempt.
    pub(crate) async fn change(
        &self,
        (partition, key): (&str, &str),
        update: &str,
        condition: &str,
        terms: &Terms,
    ) -> Result<Changed, Failure> {
        let asked = Asked::now(&self.time);
        let update = self
            .tables()
            .update_item()
            .table_name(&self.table)
            .set_key(Some(primary_key(partition, key)))
            .update_expression(update)
            .condition_expression(condition)
            .set_expression_attribute_names(terms.names())
            .set_expression_attribute_values(terms.values())
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match update.send().await {
            Ok(_) => Ok(Changed::Done),
            Err(e) => match e.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    Ok(Changed::Hindered(failed.item().map(|item| asked.found(item))))
                }
                _ => Err(Failure::from(e)),
            },
        }
    }
}
