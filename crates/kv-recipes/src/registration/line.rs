//! The record of a registered key.

use crate::record::{self, Format};
use kv_core::{Bytes, Entry, Result};
use serde::{Deserialize, Serialize};

/// The line in front of a registered value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(super) v: Format,
    pub(crate) id: String,
    pub(super) generation: u64,
    pub(super) change: u64,
}

/// Reads who registered a key, and the value.
pub(crate) fn read(entry: &Entry) -> Result<(Line, Bytes)> {
    record::read(&entry.key, &entry.value)
}
