//! What the server's answers speak of: revisions, and the keys with their values.

use crate::error::unexpected;
use etcd_client::{KeyValue, ResponseHeader};
use kv_core::{Entry, Key, Result, Version};

/// Returns the revision that an answer speaks of.
pub(crate) fn revision(header: Option<&ResponseHeader>) -> Result<i64> {
    header
        .map(ResponseHeader::revision)
        .filter(|&revision| revision > 0)
        .ok_or_else(|| unexpected("the server's answer has no revision"))
}

pub(crate) fn version(revision: i64) -> Version {
    Version::new(u64::try_from(revision).unwrap_or_default(), 0)
}

pub(crate) fn entry(key: Key, found: KeyValue) -> Entry {
    let version = version(found.mod_revision());
    Entry::new(key, found.into_key_value().1, version)
}
