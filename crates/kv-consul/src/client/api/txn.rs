//! Sends transactions, and tells how they ended.

use super::{
    fault::Fault,
    json::unwritable,
    op::Op,
    pair::{Pair, RawPair},
};
use crate::{
    client::{Answer, Client, Purpose, Request},
    error::AgentError,
};
use bytes::Bytes;
use kv_core::{ErrorKind, Result, backend::retry::Answered, driver::Deadline};
use serde::{Deserialize, Deserializer};

/// Limits the operations that the server takes in a transaction.
pub(crate) const MOST_OPS: usize = 64;
/// Counts the bytes that an operation has in a transaction besides its name and value.
pub(crate) const OP_OVERHEAD: usize = 128;

/// The outcome of a transaction.
#[derive(Debug)]
pub(crate) enum Done {
    /// Everything was done. The pairs are what the operations gave, in their order; deletions and
    /// `check-not-exists` give nothing.
    Committed(Vec<Pair>),
    /// Nothing was done. The faults are those of the operations that failed, in their order.
    Refused(Vec<Fault>),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawDone<'a> {
    // The server always sends both fields: other JSON is somebody else's.
    #[serde(borrow, deserialize_with = "present")]
    results: Option<Vec<RawResult<'a>>>,
    #[serde(deserialize_with = "present")]
    errors: Option<Vec<Fault>>,
}

/// Reads a field that may be `null`, but may not be missing.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(field: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(field)
}

#[derive(Deserialize)]
struct RawResult<'a> {
    #[serde(borrow, rename = "KV")]
    kv: RawPair<'a>,
}

pub(super) fn done(answer: &Answer) -> Option<Done> {
    let RawDone { results, errors } = match answer.status {
        200 | 409 => serde_json::from_slice(&answer.body).ok()?,
        _ => return None,
    };
    let (results, faults) = (results.unwrap_or_default(), errors.unwrap_or_default());
    match (answer.status, faults.is_empty()) {
        (200, true) => {
            Some(Done::Committed(results.iter().filter_map(|result| result.kv.pair(&answer.body)).collect()))
        }
        (409, false) => Some(Done::Refused(faults)),
        _ => None,
    }
}

/// Writes operations as the server takes them.
pub(crate) fn body(ops: &[Op]) -> Result<Bytes> {
    serde_json::to_vec(ops).map(Into::into).map_err(unwritable)
}

/// Sends operations that happen together or not at all: `PUT /v1/txn`.
///
/// # Errors
/// [`LeaseLost`](ErrorKind::LeaseLost) for a session that has ended; the server's refusals for
/// rights or sizes.
pub(crate) async fn txn(
    client: &Client,
    purpose: Purpose,
    deadline: Deadline,
    body: Bytes,
) -> Result<Answered<Done>> {
    client.ask(purpose, deadline, Request::put("/v1/txn", body), decided).await
}

/// Returns what a transaction comes to. Of a session that has ended nothing is left, whatever an
/// earlier attempt did; every other error says that this attempt did nothing.
fn decided(answer: &Answer) -> Option<Result<Result<Done>, AgentError>> {
    let done = done(answer)?;
    let error = match &done {
        Done::Refused(faults) => faults.iter().find_map(Fault::error),
        Done::Committed(_) => None,
    };
    Some(match error {
        None => Ok(Ok(done)),
        Some(error) if error.kind() == ErrorKind::LeaseLost => Ok(Err(error)),
        Some(error) => Err(AgentError::refused(error)),
    })
}

/// Asks which of these operations fail, and why, where they change nothing; a reason can also be
/// that the token may not do one.
pub(crate) async fn faults(client: &Client, deadline: Deadline, ops: &[Op]) -> Result<Vec<Fault>> {
    let request = Request::put("/v1/txn", body(ops)?);
    match client.call(Purpose::Read, deadline, request, done).await? {
        Done::Committed(_) => Ok(Vec::new()),
        Done::Refused(faults) => Ok(faults),
    }
}
