//! Why the service cancelled a transaction.

use crate::{
    error::{FULL, Failed, Fate},
    item::Found,
};
use aws_sdk_dynamodb::types::CancellationReason;
use kv_core::ErrorKind;

/// What was found where a condition was not true; an error where something else hindered the transaction.
pub(crate) fn hindered(reasons: &[CancellationReason]) -> Result<Vec<Option<Option<Found>>>, Failed> {
    let mut found = Vec::with_capacity(reasons.len());
    for reason in reasons {
        let said = reason.message().unwrap_or_default();
        let failed = |fate, kind, why: &str| Err(Failed::new(fate, kind, format!("DynamoDB: {why}: {said}")));
        match reason.code() {
            None | Some("None") => found.push(None),
            Some("ConditionalCheckFailed") => found.push(Some(reason.item().map(Found::of))),
            Some("TransactionConflict") => {
                return failed(
                    Fate::Undone,
                    ErrorKind::Unavailable,
                    "another transaction is at work on a key",
                );
            }
            Some("ThrottlingError" | "ProvisionedThroughputExceeded" | "RequestLimitExceeded") => {
                return failed(
                    Fate::Throttled,
                    ErrorKind::Unavailable,
                    "more is asked of the table than it takes",
                );
            }
            Some("ItemCollectionSizeLimitExceeded") => {
                return failed(Fate::Refused, ErrorKind::NoSpace, FULL);
            }
            Some("ValidationError") if said.contains("size") => {
                return failed(Fate::Refused, ErrorKind::TooLarge, "more than the service takes");
            }
            Some(code) => return failed(Fate::Refused, ErrorKind::Other, code),
        }
    }
    Ok(found)
}
