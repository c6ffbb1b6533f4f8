//! Finds services and elections among all values, by the records that `kv-recipes` documents.

use crate::lines::{Content, V};
use axum::response::sse::Event;
use kv_core::Entry;
use serde::{Deserialize, Serialize};

/// The most bytes of a value that an event carries. One that is longer is read when it is chosen.
pub(super) const SHORT: usize = 256;
/// The most bytes of a record's first line. One that is longer is taken for another value.
const LONGEST: usize = 2 << 10;

/// The first line of a record, format 1. A registration has no term; the record of a leader has one.
#[derive(Deserialize)]
struct Line {
    v: u32,
    id: String,
    #[serde(rename = "change")]
    _change: u64,
    term: Option<u64>,
    candidate: Option<String>,
}

/// An instance of a service, or a member of a group.
#[derive(Serialize)]
struct InstanceLine<'a> {
    v: u8,
    key: &'a str,
    id: &'a str,
    #[serde(flatten)]
    content: Content<'a>,
}

/// The record of a leader. It leads only if its term is the token of the lock of this name.
#[derive(Serialize)]
struct ElectionLine<'a> {
    v: u8,
    key: &'a str,
    name: &'a str,
    term: u64,
    candidate: &'a str,
    #[serde(flatten)]
    content: Content<'a>,
}

/// Returns the event for a key that is a record of one of the two; `None` for any other.
pub(super) fn told(entry: &Entry) -> Option<Event> {
    if entry.value.first() != Some(&b'{') {
        return None;
    }
    let end = entry.value.iter().take(LONGEST).position(|byte| *byte == b'\n')?;
    let line: Line = serde_json::from_slice(&entry.value[..end]).ok().filter(|line: &Line| line.v == 1)?;
    let value = &entry.value[end + 1..];
    let content = if value.len() <= SHORT { Content::of(value) } else { Content::default() };
    let (key, parent) = (entry.key.as_str(), entry.key.parent());
    let (name, line) = match (&line.term, &line.candidate) {
        (Some(term), Some(candidate)) if entry.key.name() == "leader" => {
            let name = parent.as_str();
            let line = ElectionLine { v: V, key, name, term: *term, candidate, content };
            ("election", serde_json::to_string(&line))
        }
        (None, None) => {
            let line = InstanceLine { v: V, key, id: &line.id, content };
            ("instance", serde_json::to_string(&line))
        }
        _ => return None,
    };
    Some(Event::default().event(name).data(line.ok()?))
}
