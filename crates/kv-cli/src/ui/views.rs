//! Answers what the page reads: the store, its tree, a value, its locks and elections.

use super::{
    Site,
    answer::{answer, not_found},
};
use crate::{
    commands::locks::LockLine,
    exit::{Failure, Run},
    lines::{EntryLine, V},
};
use axum::response::Response;
use kv_core::{Directory, HeldLock, Item, Key, Position, Watching};
use kv_recipes::Election;
use serde::{Deserialize, Serialize};

/// The keys and directories that one answer has, and the locks.
const PAGE: usize = 500;

/// Returns a parameter of a query.
fn parameter(query: &str, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
}

#[derive(Serialize)]
pub(super) struct StoreView {
    v: u8,
    backend: &'static str,
    writable: bool,
    watches: bool,
    locks: bool,
}

pub(super) fn store(site: &Site) -> Run<StoreView> {
    let capabilities = site.kv.capabilities();
    Ok(StoreView {
        v: V,
        backend: capabilities.backend,
        writable: site.is_writable,
        watches: capabilities.watch != Watching::Unsupported,
        locks: capabilities.lock.as_ref().is_some_and(|locking| locking.lists),
    })
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Child {
    Key(String),
    Directory(String),
}

#[derive(Serialize)]
pub(super) struct ListView {
    v: u8,
    items: Vec<Child>,
    /// There are more behind the last one.
    more: bool,
}

/// Lists the children of a directory, from behind one of them on.
pub(super) async fn list(site: &Site, query: &str) -> Run<ListView> {
    let directory = Directory::parse(&parameter(query, "directory").unwrap_or_default())?;
    let mut list = site.kv.list(&directory).limit(PAGE + 1);
    if let Some(after) = parameter(query, "after") {
        let place: Position = match after.strip_suffix('/') {
            Some(directory) => Directory::parse(directory)?.into(),
            None => Key::parse(&after)?.into(),
        };
        list = list.start_after(place);
    }
    let mut items: Vec<_> = list
        .child_keys()
        .await?
        .into_iter()
        .map(|item| match item {
            Item::Entry(entry) => Child::Key(entry.key.to_string()),
            Item::Key(key, _) => Child::Key(key.to_string()),
            Item::Directory(directory) => Child::Directory(directory.start()),
        })
        .collect();
    let more = items.len() > PAGE;
    items.truncate(PAGE);
    Ok(ListView { v: V, items, more })
}

/// Shows a key with its value.
pub(super) async fn key(site: &Site, query: &str) -> Response {
    let found = async {
        let name = parameter(query, "key").ok_or_else(|| Failure::usage("the request names no key"))?;
        Ok::<_, Failure>(site.kv.get(Key::parse(&name)?).await?)
    };
    match found.await {
        Ok(None) => not_found("there is no such key"),
        Ok(Some(entry)) => answer(Ok(EntryLine::of(&entry))),
        Err(failure) => answer::<()>(Err(failure)),
    }
}

#[derive(Serialize)]
pub(super) struct LocksView {
    v: u8,
    locks: Vec<serde_json::Value>,
    more: bool,
}

/// The value of an election's lock, by which its holder names itself; other locks have other
/// values.
#[derive(Deserialize)]
struct Candidate {
    v: u8,
    candidate: String,
}

/// Lists the locks that are held. Of an election it tells the candidate, and whether it leads.
pub(super) async fn locks(site: &Site) -> Run<LocksView> {
    let (mut stream, mut locks) = (site.kv.locks("").stream(), Vec::new());
    while let Some(lock) = stream.next().await {
        if locks.len() == PAGE {
            return Ok(LocksView { v: V, locks, more: true });
        }
        let lock = lock?;
        let mut object = serde_json::to_value(LockLine::of(&lock))
            .map_err(|e| Failure::here(format!("a lock cannot be shown: {e}")))?;
        if let Some(candidate) = candidate(&lock) {
            // An election that cannot be read is a lock all the same.
            let leader = Election::new(&site.kv, &lock.name).leader().await.ok().flatten();
            let leads = leader.as_ref().is_some_and(|leader| leader.term == lock.holder.token);
            let says = leader.as_ref().map(|leader| String::from_utf8_lossy(&leader.value).into_owned());
            object["candidate"] = candidate.into();
            object["leads"] = leads.into();
            object["says"] = says.filter(|_| leads).into();
        }
        locks.push(object);
    }
    Ok(LocksView { v: V, locks, more: false })
}

fn candidate(lock: &HeldLock) -> Option<String> {
    let record: Candidate = serde_json::from_slice(&lock.holder.value).ok()?;
    (record.v == 1).then_some(record.candidate)
}
