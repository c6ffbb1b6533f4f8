//! The record of a registered key.

use crate::{
    json::corrupt,
    record::{self, Format},
};
use kv_core::{Bytes, Entry, Result, Version};
use serde::{Deserialize, Serialize};

/// The line in front of a registered value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    v: Format,
    pub(crate) id: String,
    /// The version that the first put of this registration gave the key; `None` in that put.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    born: Option<String>,
    pub(super) change: u64,
}

impl Line {
    pub(super) fn new(id: &str, born: Option<Version>, change: u64) -> Self {
        Self { v: Format, id: id.to_owned(), born: born.map(|version| version.to_string()), change }
    }

    /// Returns the version that the first put of this registration gave the key; the line is that of
    /// this entry.
    pub(super) fn born(&self, entry: &Entry) -> Result<Version> {
        let Some(born) = &self.born else { return Ok(entry.version) };
        born.parse().map_err(|_| corrupt(&entry.key, "bears a version that is none"))
    }
}

/// Reads who registered a key, and the value.
pub(crate) fn read(entry: &Entry) -> Result<(Line, Bytes)> {
    record::read(&entry.key, &entry.value)
}
