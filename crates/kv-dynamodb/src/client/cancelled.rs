//! Tells why the service cancelled a transaction.

use crate::{
    client::item::{Asked, Found},
    error::{FULL, Failure},
};
use aws_sdk_dynamodb::types::CancellationReason;
use kv_core::{ErrorKind, backend::retry::Effect};

/// Returns, for each action, the item that was found where its condition was not true; an error
/// where something else hindered the transaction, or where the answer does not say what did.
pub(crate) fn hindered(
    reasons: &[CancellationReason],
    actions: usize,
    asked: Asked<'_>,
) -> Result<Vec<Option<Option<Found>>>, Failure> {
    let mut found = Vec::with_capacity(reasons.len());
    for reason in reasons {
        let said = reason.message().unwrap_or_default();
        let failed =
            |effect, kind, why: &str| Err(Failure::new(effect, kind, format!("DynamoDB: {why}: {said}")));
        match reason.code() {
            None | Some("None") => found.push(None),
            Some("ConditionalCheckFailed") => found.push(Some(reason.item().map(|item| asked.found(item)))),
            Some("TransactionConflict") => {
                return failed(
                    Effect::RefusedHere,
                    ErrorKind::Unavailable,
                    "another transaction is at work on a key",
                );
            }
            Some("ThrottlingError" | "ProvisionedThroughputExceeded" | "RequestLimitExceeded") => {
                return failed(
                    Effect::RefusedHere,
                    ErrorKind::Unavailable,
                    "more is asked of the table than it takes",
                );
            }
            Some("ItemCollectionSizeLimitExceeded") => {
                return failed(Effect::Refused, ErrorKind::NoSpace, FULL);
            }
            Some("ValidationError") if said.contains("size") => {
                return failed(Effect::Refused, ErrorKind::TooLarge, "more than the service takes");
            }
            Some(code) => return failed(Effect::Refused, ErrorKind::Other, code),
        }
    }
    // Without reasons it was cancelled all the same.
    if found.len() != actions || found.iter().all(Option::is_none) {
        let why = "DynamoDB: the transaction was cancelled, and the answer does not say why";
        return Err(Failure::new(Effect::RefusedHere, ErrorKind::Unavailable, why));
    }
    Ok(found)
}
