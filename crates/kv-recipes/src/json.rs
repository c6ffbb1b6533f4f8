//! JSON, and its errors without what stands in the values.

use kv_core::{Bytes, Error, ErrorKind, Key, Result};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::error::Category;

/// Writes a value as JSON.
pub(crate) fn write<T: Serialize + ?Sized>(value: &T) -> Result<Bytes> {
    let json = serde_json::to_vec(value).map_err(|e| {
        let why = "the value cannot be written as JSON; give a type that serde can write, with text as keys";
        Error::new(ErrorKind::InvalidArgument, why).with_cause(e)
    })?;
    Ok(Bytes::from(json))
}

/// Reads a value of this key, or a part of it.
pub(crate) fn read<T: DeserializeOwned>(key: &Key, json: &[u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(|e| unreadable(key, &e))
}

/// Says where the JSON is wrong. The parser's own words would show a piece of the value.
#[cold]
fn unreadable(key: &Key, error: &serde_json::Error) -> Error {
    let what = match error.classify() {
        Category::Data => "JSON of another type than is read here",
        Category::Eof => "cut off: its JSON has no end",
        Category::Syntax | Category::Io => "no JSON",
    };
    let (line, column) = (error.line(), error.column());
    corrupt(key, format!("is {what}, at line {line}, column {column}"))
}

/// Returns the error of a key that holds something unexpected.
#[cold]
pub(crate) fn corrupt(key: &Key, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the value of the key {key:?} {why}"))
}
