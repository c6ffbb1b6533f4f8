//! The objects that are printed with `--json`, one a line. README.md documents them.

use crate::exit::Failure;
use base64::{Engine, prelude::BASE64_STANDARD};
use kv_core::{Bytes, Entry, Key};
use serde::{Deserialize, Serialize};

/// The version of all objects. It changes when a field goes or means something else; fields may be
/// added.
pub(crate) const V: u8 = 1;

/// A value: text where it is UTF-8, else base64.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Content<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl<'a> Content<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { value: Some(text), base64: None },
            Err(_) => Self { value: None, base64: Some(BASE64_STANDARD.encode(bytes)) },
        }
    }
}

/// A key with its value.
#[derive(Debug, Serialize)]
pub(crate) struct EntryLine<'a> {
    v: u8,
    key: &'a str,
    #[serde(flatten)]
    content: Content<'a>,
    version: String,
}

impl<'a> EntryLine<'a> {
    pub(crate) fn of(entry: &'a Entry) -> Self {
        let (key, content) = (entry.key.as_str(), Content::of(&entry.value));
        Self { v: V, key, content, version: entry.version.to_string() }
    }
}

/// A key with its value, as exports have it: without a version, which another store would not
/// have.
#[derive(Debug, Serialize)]
pub(crate) struct ExportLine<'a> {
    v: u8,
    key: &'a str,
    #[serde(flatten)]
    content: Content<'a>,
}

impl<'a> ExportLine<'a> {
    pub(crate) fn of(key: &'a Key, value: &'a [u8]) -> Self {
        Self { v: V, key: key.as_str(), content: Content::of(value) }
    }
}

/// The last line of an export, by which a whole one can be told from one that was cut: the number
/// of the keys before it.
#[derive(Debug, Serialize)]
pub(crate) struct ExportedLine {
    v: u8,
    exported: u64,
}

impl ExportedLine {
    pub(crate) fn of(exported: u64) -> Self {
        Self { v: V, exported }
    }
}

/// A line of an export, as it is read. What else a line has, such as the version of an entry, is
/// of no use elsewhere.
#[derive(Debug, Deserialize)]
struct GivenLine {
    v: u8,
    key: Option<String>,
    value: Option<String>,
    base64: Option<String>,
    exported: Option<u64>,
}

/// The meaning of a line of an export.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Given {
    Entry(Key, Bytes),
    /// An export of so many keys ends here.
    End(u64),
}

/// Reads a line of an export. The message says what is wrong, and nothing of a value.
pub(crate) fn given(line: &str) -> Result<Given, String> {
    let none = || r#"it is no object such as {"v":1,"key":"app/color","value":"red"}"#.to_owned();
    // The parser's own words may hold a piece of a value.
    let given: GivenLine = serde_json::from_str(line).map_err(|_| none())?;
    if given.v != V {
        return Err(format!("it is of version {}; this program reads version {V}", given.v));
    }
    let name = match (given.key, given.exported) {
        (Some(name), None) => name,
        (None, Some(exported)) => return Ok(Given::End(exported)),
        _ => return Err(none()),
    };
    // A name that other tools wrote may be longer than one that a user may give.
    let known = Key::from_stored(&name);
    let key = known.map_or_else(|| Key::parse(&name), Ok).map_err(|e| e.message().to_owned())?;
    let value = match (given.value, given.base64) {
        (Some(text), None) => Bytes::from(text),
        (None, Some(base64)) => Bytes::from(unbase64(&base64)?),
        _ => return Err(format!("the key {key:?} needs one of `value` and `base64`")),
    };
    Ok(Given::Entry(key, value))
}

/// Decodes base64.
pub(crate) fn unbase64(text: &str) -> Result<Vec<u8>, String> {
    BASE64_STANDARD.decode(text).map_err(|_| "the base64 is damaged".to_owned())
}

/// An error, which goes to standard error.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorLine<'a> {
    v: u8,
    error: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    /// Something was done before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partly: bool,
}

impl<'a> ErrorLine<'a> {
    pub(crate) fn of(failure: &'a Failure, error: &'a str, message: &'a str, partly: bool) -> Self {
        let key = if let Failure::Store(error) = failure { error.key() } else { None };
        Self { v: V, error, message, key, partly }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exported_is_read_as_it_was() {
        for value in [&b"red"[..], b"", b"\xff\x00", "ü\n\"".as_bytes()] {
            let key = Key::parse("a/b").unwrap();
            let line = serde_json::to_string(&ExportLine::of(&key, value)).unwrap();
            assert_eq!(given(&line), Ok(Given::Entry(key, Bytes::copy_from_slice(value))), "{line}");
        }
        let key = Key::parse("a").unwrap();
        assert_eq!(
            serde_json::to_string(&ExportLine::of(&key, b"\xff")).unwrap(),
            r#"{"v":1,"key":"a","base64":"/w=="}"#
        );
        let end = serde_json::to_string(&ExportedLine::of(3)).unwrap();
        assert_eq!((&*end, given(&end)), (r#"{"v":1,"exported":3}"#, Ok(Given::End(3))));
    }

    #[test]
    fn a_line_that_is_no_export_says_why_and_shows_no_value() {
        for (line, part) in [
            ("secret", "no object"),
            (r#"{"v":2,"key":"a","value":"secret"}"#, "version 2"),
            (r#"{"v":1,"key":"a/../b","value":"secret"}"#, "reserved"),
            (r#"{"v":1,"key":"a"}"#, "one of"),
            (r#"{"v":1,"value":"secret"}"#, "no object"),
            (r#"{"v":1,"key":"a","value":"secret","exported":1}"#, "no object"),
            (r#"{"v":1,"key":"a","value":"secret","base64":""}"#, "one of"),
            (r#"{"v":1,"key":"a","base64":"secret!"}"#, "damaged"),
        ] {
            let why = given(line).unwrap_err();
            assert!(why.contains(part) && !why.contains("secret"), "{line}: {why}");
        }
    }
}
