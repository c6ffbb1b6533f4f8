//! The calls of Consul's HTTP API that are used, and their answers: <https://developer.hashicorp.com/consul/api-docs>.

use crate::{
    client::Client,
    error::AgentError,
    http::{Answer, Purpose, Request},
    names::{encoded, is_plain},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use kv_core::{Deadline, Error, ErrorKind, Result, Version, backend::retry::Answered};
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::value::RawValue;
use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

mod fault;
mod op;
mod sessions;
#[cfg(test)]
mod tests;

pub(crate) use fault::Fault;
pub(crate) use op::Op;
pub(crate) use sessions::{create_session, destroy_session, renew_session, sessions_named};

/// The most operations that the server takes in a transaction.
pub(crate) const MOST_OPS: usize = 64;

/// A key as the server tells it.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) name: String,
    pub(crate) created: u64,
    pub(crate) modified: u64,
    /// Whether a session holds it.
    pub(crate) is_held: bool,
    /// In base64, within the answer that it came in.
    text: Bytes,
}

impl Pair {
    pub(crate) fn value(&self) -> Result<Bytes> {
        let value = BASE64_STANDARD.decode(&self.text).map_err(|e| {
            let why = format!("the server answered a value of {:?} that is no base64", self.name);
            Error::new(ErrorKind::Corrupt, why).with_cause(e)
        })?;
        Ok(value.into())
    }

    /// Of the value.
    pub(crate) fn digest(&self, hashes: &RandomState) -> u64 {
        hashes.hash_one(&self.text)
    }

    pub(crate) fn version(&self) -> Version {
        Version::new(self.modified, 0)
    }
}

/// What an answer holds; nothing where that is no JSON of this shape, and so not Consul's.
pub(crate) fn json<'a, T: Deserialize<'a>>(answer: &'a Answer) -> Option<T> {
    if answer.status == 200 { serde_json::from_slice(&answer.body).ok() } else { None }
}

fn unwritable(e: serde_json::Error) -> Error {
    Error::new(ErrorKind::Other, "a request cannot be written as JSON").with_cause(e)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawPair<'a> {
    #[serde(borrow)]
    key: &'a RawValue,
    #[serde(borrow, default)]
    value: Option<&'a str>,
    #[serde(default)]
    session: Option<IgnoredAny>,
    create_index: u64,
    modify_index: u64,
}

impl RawPair<'_> {
    /// `None` for a name that is no text.
    fn pair(&self, body: &Bytes) -> Option<Pair> {
        let text = self.value.map_or_else(Bytes::new, |value| body.slice_ref(value.as_bytes()));
        Some(Pair {
            name: name(self.key)?,
            created: self.create_index,
            modified: self.modify_index,
            is_held: self.session.is_some(),
            text,
        })
    }
}

/// Whether a JSON text holds what the server puts in the place of bytes that are no UTF-8, escaped; the character itself stands
/// there as it is.
fn is_replaced(json: &str) -> bool {
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let escape = &rest[at + 1..];
        if escape.get(..5).is_some_and(|e| e.eq_ignore_ascii_case("ufffd")) {
            return true;
        }
        // What follows a backslash is ASCII.
        rest = escape.get(1..).unwrap_or_default();
    }
    false
}

/// A name, where it is text.
fn name(json: &RawValue) -> Option<String> {
    if is_replaced(json.get()) { None } else { serde_json::from_str(json.get()).ok() }
}

fn pairs(body: &Bytes) -> Option<Vec<Pair>> {
    let raw: Vec<RawPair<'_>> = serde_json::from_slice(body).ok()?;
    Some(raw.iter().filter_map(|raw| raw.pair(body)).collect())
}

/// How a transaction ended.
#[derive(Debug)]
pub(crate) enum Done {
    /// What its operations gave, in their order; deletions and `check-not-exists` give nothing.
    Committed(Vec<Pair>),
    /// Nothing happened. The operations that failed, in their order.
    Refused(Vec<Fault>),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawDone<'a> {
    // Both are always there: other JSON is somebody else's.
    #[serde(borrow, deserialize_with = "present")]
    results: Option<Vec<RawResult<'a>>>,
    #[serde(deserialize_with = "present")]
    errors: Option<Vec<Fault>>,
}

/// A field that may be `null`, and not missing.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(field: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(field)
}

#[derive(Deserialize)]
struct RawResult<'a> {
    #[serde(borrow, rename = "KV")]
    kv: RawPair<'a>,
}

fn done(answer: &Answer) -> Option<Done> {
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

/// Operations as the server takes them.
pub(crate) fn body(ops: &[Op]) -> Result<Bytes> {
    serde_json::to_vec(ops).map(Into::into).map_err(unwritable)
}

/// Operations that happen together or not at all: `PUT /v1/txn`.
///
/// # Errors
/// [`LeaseLost`](ErrorKind::LeaseLost) for a session that has ended; what the server refuses for
/// rights or sizes.
pub(crate) async fn txn(
    client: &Client,
    purpose: Purpose,
    deadline: Deadline,
    body: Bytes,
) -> Result<Answered<Done>> {
    client.ask(purpose, deadline, &Request::put("/v1/txn", body), decided).await
}

/// What a transaction comes to. Of a session that has ended nothing is left, whatever an earlier
/// attempt did; every other error says that this attempt did nothing.
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

/// What fails of operations that change nothing, each for its own reason: because the token may not, too.
pub(crate) async fn faults(client: &Client, deadline: Deadline, ops: &[Op]) -> Result<Vec<Fault>> {
    let request = Request::put("/v1/txn", body(ops)?);
    match client.call(Purpose::Read, deadline, &request, done).await? {
        Done::Committed(_) => Ok(Vec::new()),
        Done::Refused(faults) => Ok(faults),
    }
}

/// One key: `GET /v1/kv/KEY`, or a transaction for a name that no path may hold.
pub(crate) async fn get(
    client: &Client,
    purpose: Purpose,
    deadline: Deadline,
    name: &str,
) -> Result<Option<Pair>> {
    if is_plain(name) {
        let request = Request::get(format!("/v1/kv/{}", encoded(name)));
        let one = |answer: &Answer| {
            let (mut pairs, _) = listed(answer)?;
            let pair = pairs.pop();
            // Another key's is somebody else's answer.
            pair.as_ref().is_none_or(|pair| pair.name == name).then_some(pair)
        };
        return client.call(purpose, deadline, &request, one).await;
    }
    match txn(client, purpose, deadline, body(&[Op::get(name)])?).await?.answer {
        // What one may not read is left out.
        Done::Committed(mut pairs) => pairs.pop().map(Some).ok_or_else(|| hidden(name)),
        Done::Refused(_) => Ok(None),
    }
}

pub(crate) fn hidden(name: &str) -> Error {
    Error::new(ErrorKind::PermissionDenied, format!("the token may not read {name:?} on the server"))
}

/// What is there, and the index of it, which Consul tells of nothing too: without it nobody knows who says *missing*.
fn listed(answer: &Answer) -> Option<(Vec<Pair>, u64)> {
    let index = answer.index?;
    match answer.status {
        200 => Some((pairs(&answer.body)?, index)),
        404 => Some((Vec::new(), index)),
        _ => None,
    }
}

/// All keys whose names begin so, at one moment: `GET /v1/kv/PREFIX?recurse`, or a transaction.
pub(crate) async fn tree(
    client: &Client,
    purpose: Purpose,
    deadline: Deadline,
    prefix: &str,
) -> Result<Vec<Pair>> {
    if is_plain(prefix) {
        let request = Request::get(format!("/v1/kv/{}", encoded(prefix))).with("recurse", "");
        return Ok(client.call(purpose, deadline, &request, listed).await?.0);
    }
    match txn(client, purpose, deadline, body(&[Op::get_tree(prefix)])?).await?.answer {
        Done::Committed(pairs) => Ok(pairs),
        Done::Refused(_) => Ok(Vec::new()),
    }
}

/// All names that begin so, and an index that none of them was modified behind: `GET /v1/kv/PREFIX?keys`.
pub(crate) async fn names(
    client: &Client,
    purpose: Purpose,
    deadline: Deadline,
    prefix: &str,
) -> Result<(Vec<String>, u64)> {
    let request = Request::get(format!("/v1/kv/{}", encoded(prefix))).with("keys", "");
    let names = |answer: &Answer| {
        let index = answer.index?;
        if answer.status == 404 {
            return Some((Vec::new(), index));
        }
        let raw: Vec<&RawValue> = json(answer)?;
        Some((raw.into_iter().filter_map(name).collect(), index))
    };
    client.call(purpose, deadline, &request, names).await
}

/// What is asked again and again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Range {
    /// One name.
    Name(Arc<str>),
    /// All names that begin so.
    Tree(Arc<str>),
}

/// What was there, and the server's index of it.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) pairs: Vec<Pair>,
    pub(crate) index: u64,
}

/// A range at one moment, or, when there is an index to wait behind, as soon as it may have changed since: a blocking query.
pub(crate) async fn range(
    client: &Client,
    range: &Range,
    behind: Option<(u64, Duration)>,
    deadline: Deadline,
) -> Result<Listing> {
    let (name, is_tree) = match range {
        Range::Name(name) => (name, false),
        Range::Tree(prefix) => (prefix, true),
    };
    let mut request = Request::get(format!("/v1/kv/{}", encoded(name)));
    if is_tree {
        request = request.with("recurse", "");
    }
    let purpose = match behind {
        None => Purpose::WatchRead,
        Some((index, wait)) => {
            request =
                request.with("index", index.to_string()).with("wait", format!("{}ms", wait.as_millis()));
            Purpose::BlockingQuery
        }
    };
    let (pairs, index) = client.call(purpose, deadline, &request, listed).await?;
    Ok(Listing { pairs, index })
}
