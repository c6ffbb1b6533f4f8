//! Reads keys: one, all of a directory, or the names alone; and waits for a change of them.

use super::{
    json::{json, name},
    op::Op,
    pair::{Pair, pairs},
    txn::{Done, body, txn},
};
use crate::{
    client::{Answer, Client, Purpose, Request},
    error::AgentError,
    names::{encoded, is_plain},
};
use kv_core::{Error, ErrorKind, Result, backend::retry::Effect, driver::Deadline};
use serde_json::value::RawValue;
use std::{sync::Arc, time::Duration};

/// Reads one key: `GET /v1/kv/KEY`, or a transaction for a name that no path may hold.
pub(crate) async fn get(
    client: &Client,
    purpose: Purpose,
    deadline: Deadline,
    name: &str,
) -> Result<Option<Pair>> {
    if is_plain(name) {
        let request = Request::get(format!("/v1/kv/{}", encoded(name)));
        let name = name.to_owned();
        let one = move |answer: &Answer| {
            let (mut pairs, _) = listed(answer)?;
            let pair = pairs.pop();
            // An answer with another key is somebody else's.
            pair.as_ref().is_none_or(|pair| pair.name == name).then_some(pair)
        };
        return client.call(purpose, deadline, request, one).await;
    }
    match txn(client, purpose, deadline, body(&[Op::get(name)])?).await?.answer {
        // The server leaves out what the token may not read.
        Done::Committed(mut pairs) => pairs.pop().map(Some).ok_or_else(|| hidden(name)),
        Done::Refused(_) => Ok(None),
    }
}

pub(crate) fn hidden(name: &str) -> Error {
    Error::new(ErrorKind::PermissionDenied, format!("the token may not read {name:?} on the server"))
}

/// Returns what is there, and its index. Consul tells an index also where nothing is there:
/// without one nobody knows who says *missing*.
pub(super) fn listed(answer: &Answer) -> Option<(Vec<Pair>, u64)> {
    let index = answer.index?;
    match answer.status {
        200 => Some((pairs(&answer.body)?, index)),
        404 => Some((Vec::new(), index)),
        _ => None,
    }
}

/// Reads all keys whose names begin with these bytes, at one moment: `GET /v1/kv/PREFIX?recurse`,
/// or a transaction.
pub(crate) async fn tree(
    client: &Client,
    purpose: Purpose,
    deadline: Deadline,
    prefix: &str,
) -> Result<Vec<Pair>> {
    if is_plain(prefix) {
        let request = Request::get(format!("/v1/kv/{}", encoded(prefix))).with("recurse", "");
        return Ok(client.call(purpose, deadline, request, listed).await?.0);
    }
    match txn(client, purpose, deadline, body(&[Op::get_tree(prefix)])?).await?.answer {
        Done::Committed(pairs) => Ok(pairs),
        Done::Refused(_) => Ok(Vec::new()),
    }
}

/// Reads all names that begin with these bytes, and an index after which none of them was
/// modified: `GET /v1/kv/PREFIX?keys`.
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
    client.call(purpose, deadline, request, names).await
}

/// A range of names that is asked for again and again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Range {
    /// One name.
    Name(Arc<str>),
    /// All names that begin with these bytes.
    Tree(Arc<str>),
}

/// The keys of a range, and the server's index of them.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) pairs: Vec<Pair>,
    pub(crate) index: u64,
    /// Counts the bytes of the answer.
    pub(crate) bytes: usize,
}

/// Reads a range at one moment. With an index to wait behind, a blocking query reads it as soon as
/// it may have changed since.
///
/// # Errors
/// [`InvalidKey`](ErrorKind::InvalidKey) for a path that the agent seems to take for unprintable:
/// an agent says so without a word and without a mark, so that others may have said it.
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
    let name = name.clone();
    let read = move |answer: &Answer| match listed(answer) {
        Some((pairs, index)) => Some(Ok(Ok(Listing { pairs, index, bytes: answer.body.len() }))),
        None if answer.status == 400 && answer.body.is_empty() && !is_plain(&name) => {
            let why = format!("the server takes the path of {name:?} for unprintable");
            Some(Err(AgentError::new(Effect::RefusedHere, ErrorKind::InvalidKey, why)))
        }
        None => None,
    };
    Ok(client.ask(purpose, deadline, request, read).await?.answer)
}
