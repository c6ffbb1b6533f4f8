//! The calls of Consul's HTTP API that are used, and their answers: <https://developer.hashicorp.com/consul/api-docs>.

use crate::{
    client::{Answer, Client, Does, Request},
    names::{encoded, is_plain},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use kv_core::{Deadline, Error, ErrorKind, Result, Version};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{sync::Arc, time::Duration};

/// The most operations that the server takes in a transaction.
pub(crate) const MOST_OPS: usize = 64;

/// A key as the server tells it.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) name: String,
    pub(crate) created: u64,
    pub(crate) modified: u64,
    /// In base64, within the answer that it came in.
    text: Bytes,
}

impl Pair {
    pub(crate) fn value(&self) -> Result<Bytes> {
        let value =
            BASE64_STANDARD.decode(&self.text).map_err(|e| corrupt("a value that is no base64", e))?;
        Ok(value.into())
    }

    pub(crate) fn version(&self) -> Version {
        Version::new(self.modified, 0)
    }
}

pub(crate) fn corrupt(what: &str, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the server answered {what}")).with_cause(cause)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawPair<'a> {
    #[serde(borrow)]
    key: &'a RawValue,
    #[serde(borrow, default)]
    value: Option<&'a str>,
    create_index: u64,
    modify_index: u64,
}

impl RawPair<'_> {
    /// `None` for a name that is no text.
    fn pair(&self, body: &Bytes) -> Result<Option<Pair>> {
        if is_replaced(self.key.get()) {
            return Ok(None);
        }
        let name = serde_json::from_str(self.key.get()).map_err(|e| corrupt("what is no key", e))?;
        let text = self.value.map_or_else(Bytes::new, |value| body.slice_ref(value.as_bytes()));
        Ok(Some(Pair { name, created: self.create_index, modified: self.modify_index, text }))
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

fn pairs(body: &Bytes) -> Result<Vec<Pair>> {
    let raw: Vec<RawPair<'_>> =
        serde_json::from_slice(body).map_err(|e| corrupt("a listing that cannot be read", e))?;
    raw.iter().filter_map(|raw| raw.pair(body).transpose()).collect()
}

/// One operation of a transaction.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Op {
    #[serde(rename = "KV")]
    kv: KvOp,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct KvOp {
    verb: &'static str,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
}

impl Op {
    fn new(verb: &'static str, key: &str) -> Self {
        Self { kv: KvOp { verb, key: key.to_owned(), value: None, index: None, session: None } }
    }

    pub(crate) fn get(key: &str) -> Self {
        Self::new("get", key)
    }

    pub(crate) fn get_tree(prefix: &str) -> Self {
        Self::new("get-tree", prefix)
    }

    pub(crate) fn delete(key: &str) -> Self {
        Self::new("delete", key)
    }

    pub(crate) fn delete_tree(prefix: &str) -> Self {
        Self::new("delete-tree", prefix)
    }

    pub(crate) fn check_missing(key: &str) -> Self {
        Self::new("check-not-exists", key)
    }

    pub(crate) fn check_index(key: &str, index: u64) -> Self {
        let mut op = Self::new("check-index", key);
        op.kv.index = Some(index);
        op
    }

    pub(crate) fn check_session(key: &str, session: &str) -> Self {
        let mut op = Self::new("check-session", key);
        op.kv.session = Some(session.into());
        op
    }

    /// Writes the key; where a session is given it goes with that.
    pub(crate) fn write(key: &str, value: &[u8], session: Option<&Arc<str>>) -> Self {
        let mut op = Self::new(if session.is_some() { "lock" } else { "set" }, key);
        op.kv.value = Some(BASE64_STANDARD.encode(value));
        op.kv.session = session.map(ToString::to_string);
        op
    }
}

/// How a transaction ended.
#[derive(Debug)]
pub(crate) enum Done {
    /// What its operations gave, in their order; deletions and `check-not-exists` give nothing.
    Committed(Vec<Pair>),
    /// Nothing happened. The operations that failed, in their order.
    Refused(Vec<Fault>),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Fault {
    #[serde(rename = "OpIndex")]
    pub(crate) at: usize,
    pub(crate) what: String,
}

impl Fault {
    /// Whether the key was not there, of an operation that needs it. The server's own words, behind the key's name.
    pub(crate) fn is_missing(&self) -> bool {
        self.what.ends_with("doesn't exist")
    }

    fn error(&self) -> Option<Error> {
        let says = |part: &str| self.what.contains(part);
        let kind = if says("Permission denied") {
            ErrorKind::PermissionDenied
        } else if says("ACL not found") {
            ErrorKind::Unauthenticated
        } else if says("invalid session") || says("failed session lookup") {
            return Some(Error::new(ErrorKind::LeaseLost, "the session on the server has ended"));
        } else if says("due to lock delay") {
            let why = "another tool's session held the key and ended a moment ago; the server refuses TTLs and leases on the \
                       key for that session's lock delay, 15 s by default";
            return Some(Error::new(ErrorKind::Unavailable, why));
        } else if says("is too large") {
            ErrorKind::TooLarge
        } else {
            return None;
        };
        Some(Error::new(kind, format!("the server says: {}", self.what)))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawDone<'a> {
    #[serde(borrow, default)]
    results: Option<Vec<RawResult<'a>>>,
    #[serde(default)]
    errors: Option<Vec<Fault>>,
}

#[derive(Deserialize)]
struct RawResult<'a> {
    #[serde(borrow, rename = "KV")]
    kv: RawPair<'a>,
}

/// Operations that happen together or not at all: `PUT /v1/txn`.
///
/// # Errors
/// [`LeaseLost`](ErrorKind::LeaseLost) for a session that has ended; what the server refuses for rights or sizes.
pub(crate) async fn txn(client: &Client, does: Does, deadline: Deadline, ops: &[Op]) -> Result<Done> {
    let body = serde_json::to_vec(ops).map_err(|e| corrupt("nothing: a transaction cannot be written", e))?;
    let answer = client.call(does, deadline, &Request::put("/v1/txn", body)).await?;
    let unread = |e| {
        let error = corrupt("a transaction with what cannot be read", e);
        if does == Does::Write { error.with_kind(ErrorKind::OutcomeUnknown) } else { error }
    };
    let done: RawDone<'_> = serde_json::from_slice(&answer.body).map_err(unread)?;
    let faults = done.errors.unwrap_or_default();
    if answer.status == 200 && faults.is_empty() {
        let results = done.results.unwrap_or_default();
        let pairs = results.iter().filter_map(|result| result.kv.pair(&answer.body).transpose());
        return Ok(Done::Committed(pairs.collect::<Result<_>>()?));
    }
    match faults.iter().find_map(Fault::error) {
        Some(error) => Err(error),
        None => Ok(Done::Refused(faults)),
    }
}

/// One key: `GET /v1/kv/KEY`, or a transaction for a name that no path may hold.
pub(crate) async fn get(client: &Client, does: Does, deadline: Deadline, name: &str) -> Result<Option<Pair>> {
    if is_plain(name) {
        let answer = client.call(does, deadline, &Request::get(format!("/v1/kv/{}", encoded(name)))).await?;
        return listed(&answer).map(|mut pairs| pairs.pop());
    }
    match txn(client, does, deadline, &[Op::get(name)]).await? {
        // What one may not read is left out.
        Done::Committed(mut pairs) => pairs.pop().map(Some).ok_or_else(|| hidden(name)),
        Done::Refused(_) => Ok(None),
    }
}

pub(crate) fn hidden(name: &str) -> Error {
    Error::new(ErrorKind::PermissionDenied, format!("the token may not read {name:?} on the server"))
}

fn listed(answer: &Answer) -> Result<Vec<Pair>> {
    if answer.is_missing() { Ok(Vec::new()) } else { pairs(&answer.body) }
}

/// All keys whose names begin so, at one moment: `GET /v1/kv/PREFIX?recurse`, or a transaction.
pub(crate) async fn tree(client: &Client, does: Does, deadline: Deadline, prefix: &str) -> Result<Vec<Pair>> {
    if is_plain(prefix) {
        let request = Request::get(format!("/v1/kv/{}", encoded(prefix))).with("recurse", "");
        return listed(&client.call(does, deadline, &request).await?);
    }
    match txn(client, does, deadline, &[Op::get_tree(prefix)]).await? {
        Done::Committed(pairs) => Ok(pairs),
        Done::Refused(_) => Ok(Vec::new()),
    }
}

/// The names that begin so, up to their next separator where there is one, and an index that none of them was modified
/// behind: `GET /v1/kv/PREFIX?keys`.
pub(crate) async fn names(
    client: &Client,
    does: Does,
    deadline: Deadline,
    prefix: &str,
    separator: &str,
) -> Result<(Vec<String>, u64)> {
    let request =
        Request::get(format!("/v1/kv/{}", encoded(prefix))).with("keys", "").with("separator", separator);
    let answer = client.call(does, deadline, &request).await?;
    if answer.is_missing() {
        return Ok((Vec::new(), answer.index));
    }
    let raw: Vec<&RawValue> =
        serde_json::from_slice(&answer.body).map_err(|e| corrupt("names that cannot be read", e))?;
    let texts = raw.iter().map(|raw| raw.get()).filter(|raw| !is_replaced(raw));
    let names = texts.map(|raw| serde_json::from_str(raw).map_err(|e| corrupt("what is no key", e)));
    Ok((names.collect::<Result<_>>()?, answer.index))
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
    let does = match behind {
        None => Does::Read,
        Some((index, wait)) => {
            request =
                request.with("index", index.to_string()).with("wait", format!("{}ms", wait.as_millis()));
            Does::Poll
        }
    };
    let answer = client.call(does, deadline, &request).await?;
    Ok(Listing { pairs: listed(&answer)?, index: answer.index })
}

/// A session that is asked for: `PUT /v1/session/create`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct NewSession<'a> {
    name: &'a str,
    #[serde(rename = "TTL")]
    ttl: String,
    behavior: &'static str,
    lock_delay: &'static str,
    /// Nobody's health ends it: it ends by its time, or with its node.
    node_checks: [&'static str; 0],
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
}

#[derive(Deserialize)]
struct Session {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Name", default)]
    name: String,
}

/// Whose end deletes its keys, at once and without a delay for the next one: who depends on having a key uses its fence.
pub(crate) async fn create_session(
    client: &Client,
    deadline: Deadline,
    name: &str,
    ttl: Duration,
    node: Option<&str>,
) -> Result<Arc<str>> {
    let ttl = format!("{}ms", ttl.as_millis());
    let new = NewSession { name, ttl, behavior: "delete", lock_delay: "0s", node_checks: [], node };
    let body = serde_json::to_vec(&new).map_err(|e| corrupt("nothing: a session cannot be written", e))?;
    let answer = client.call(Does::Write, deadline, &Request::put("/v1/session/create", body)).await?;
    let session: Session =
        serde_json::from_slice(&answer.body).map_err(|e| corrupt("what is no session", e))?;
    Ok(session.id.into())
}

/// Begins the life of a session anew; `false` when it has ended.
pub(crate) async fn renew_session(client: &Client, deadline: Deadline, id: &str) -> Result<bool> {
    let answer =
        client.call(Does::Repeatable, deadline, &Request::put(format!("/v1/session/renew/{id}"), "")).await?;
    Ok(!answer.is_missing())
}

/// Ends a session, and its keys.
pub(crate) async fn destroy_session(client: &Client, deadline: Deadline, id: &str) -> Result<()> {
    client.call(Does::Repeatable, deadline, &Request::put(format!("/v1/session/destroy/{id}"), "")).await?;
    Ok(())
}

/// The sessions of this name.
pub(crate) async fn sessions_named(client: &Client, deadline: Deadline, name: &str) -> Result<Vec<Arc<str>>> {
    let answer = client.call(Does::Read, deadline, &Request::get("/v1/session/list")).await?;
    let all: Vec<Session> =
        serde_json::from_slice(&answer.body).map_err(|e| corrupt("sessions that cannot be read", e))?;
    Ok(all.into_iter().filter(|session| session.name == name).map(|session| session.id.into()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_text_are_told_apart() {
        assert!(is_replaced(r#""a\ufffdb""#));
        assert!(is_replaced(r#""\\\ufffd""#));
        assert!(!is_replaced(r#""a\\ufffdb""#));
        assert!(!is_replaced("\"a\u{fffd}b\""));
    }

    #[test]
    fn a_listing_is_read_without_its_values() {
        let body = Bytes::from_static(
            br#"[{"LockIndex":0,"Key":"a\"b","Flags":7,"Value":"aGk=","CreateIndex":3,"ModifyIndex":5},
                 {"LockIndex":0,"Key":"a\ufffd","Flags":0,"Value":null,"CreateIndex":3,"ModifyIndex":5},
                 {"LockIndex":1,"Key":"c","Flags":0,"Value":null,"Session":"x","CreateIndex":4,"ModifyIndex":4}]"#,
        );
        let pairs = pairs(&body).unwrap();
        let seen: Vec<_> =
            pairs.iter().map(|p| (&*p.name, p.value().unwrap(), p.created, p.modified)).collect();
        assert_eq!(seen, [("a\"b", Bytes::from_static(b"hi"), 3, 5), ("c", Bytes::new(), 4, 4)]);
    }
}
