//! The marker of one counter, under its lease, and the number as it is stored.

use crate::{
    json::corrupt,
    names::{below, new_id},
    record::{self, Format},
};
use kv_core::{Bytes, ErrorKind, Key, Kv, Lease, Result, Version};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The value of the counter, and the version of its key.
#[derive(Clone, Copy)]
pub(super) struct Number {
    pub(super) value: i64,
    /// `None` where the key is not there.
    pub(super) version: Option<Version>,
}

/// The changes of one counter, one after the other, while its lease lives.
pub(super) struct Session {
    pub(super) lease: Lease,
    pub(super) marker: Key,
    /// The number of the last change, which counts from 1.
    pub(super) change: u64,
    /// The version of the marker; `None` when it has to be read, since a change may have moved it.
    pub(super) marked: Option<Version>,
    /// The number as this counter has written it last; `None` when it has to be read.
    pub(super) number: Option<Number>,
    /// The number of changes in a row in which nobody else was first.
    pub(super) in_a_row: u32,
}

/// The line of a marker: the last change that took effect, and the sum behind it.
#[derive(Serialize, Deserialize)]
pub(super) struct Marker {
    v: Format,
    pub(super) change: u64,
    pub(super) result: i64,
}

/// Returns the record of a marker.
pub(super) fn marker(change: u64, result: i64) -> Result<Bytes> {
    record::write(&Marker { v: Format, change, result }, b"")
}

impl Session {
    /// Begins a session, whose marker says that no change was made.
    pub(super) async fn begin(kv: &Kv, name: &Key, ttl: Duration, each: Duration) -> Result<Self> {
        let key = below(name, &format!("callers/{}", new_id()))?;
        let lease = kv.lease(ttl).deadline(each).await?;
        let put = kv.put(&key, marker(0, 0)?).if_missing().lease(&lease).deadline(each);
        let marked = match put.await {
            Ok(written) => Some(written.version),
            Err(e) if e.kind() == ErrorKind::OutcomeUnknown => None,
            Err(e) => return Err(e),
        };
        Ok(Self { lease, marker: key, change: 0, marked, number: None, in_a_row: 0 })
    }

    /// Reads the marker, and its version; `None` when the lease has ended.
    pub(super) async fn read_marker(&self, kv: &Kv, each: Duration) -> Result<Option<(Marker, Version)>> {
        let Some(entry) = kv.get(&self.marker).deadline(each).await? else { return Ok(None) };
        let (marker, _) = record::read(&entry.key, &entry.value)?;
        Ok(Some((marker, entry.version)))
    }
}

/// Reads the number.
pub(super) async fn number(kv: &Kv, name: &Key, each: Duration) -> Result<Number> {
    let Some(entry) = kv.get(name).deadline(each).await? else {
        return Ok(Number { value: 0, version: None });
    };
    let value = entry.text().and_then(|text| text.parse().ok());
    let value = value.ok_or_else(|| corrupt(name, "is no decimal number of 64 bits"))?;
    Ok(Number { value, version: Some(entry.version) })
}
