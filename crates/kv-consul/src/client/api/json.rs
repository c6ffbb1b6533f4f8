//! Reads and writes JSON as the API has it.

use crate::client::Answer;
use kv_core::{Error, ErrorKind};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Reads what an answer holds; `None` where it is no JSON of this shape, and so not Consul's.
pub(super) fn json<'a, T: Deserialize<'a>>(answer: &'a Answer) -> Option<T> {
    if answer.status == 200 { serde_json::from_slice(&answer.body).ok() } else { None }
}

/// Returns the error of a request that cannot be written.
pub(super) fn unwritable(e: serde_json::Error) -> Error {
    Error::new(ErrorKind::Other, "a request cannot be written as JSON").with_cause(e)
}

/// Tells whether a JSON text holds the character, escaped, that the server puts in the place of
/// bytes that are no UTF-8. Where a name has that character itself, it is not escaped.
pub(super) fn is_replaced(json: &str) -> bool {
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let escape = &rest[at + 1..];
        if escape.get(..5).is_some_and(|e| e.eq_ignore_ascii_case("ufffd")) {
            return true;
        }
        // The character behind a backslash is ASCII.
        rest = escape.get(1..).unwrap_or_default();
    }
    false
}

/// Reads a name; `None` where it is no text.
pub(super) fn name(json: &RawValue) -> Option<String> {
    if is_replaced(json.get()) { None } else { serde_json::from_str(json.get()).ok() }
}
