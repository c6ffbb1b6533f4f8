//! Reads revisions, versions, fencing tokens and entries from the server's answers.

use crate::error::unexpected;
use etcd_client::{KeyValue, ResponseHeader};
use kv_core::{Entry, Holder, Key, Result, Version};

/// Returns the revision of an answer.
pub(crate) fn revision(header: Option<&ResponseHeader>) -> Result<i64> {
    header
        .map(ResponseHeader::revision)
        .filter(|&revision| revision > 0)
        .ok_or_else(|| unexpected("the server's answer has no revision"))
}

/// Returns the version of what was written at this revision.
pub(crate) fn version(revision: i64) -> Version {
    Version::new(u64::try_from(revision).unwrap_or_default(), 0)
}

/// Returns the entry of a key, from what was found at it.
pub(crate) fn entry(key: Key, found: KeyValue) -> Entry {
    let version = version(found.mod_revision());
    Entry::new(key, found.into_key_value().1, version)
}

/// Returns the fencing token of a contender that was created at this revision.
pub(crate) fn token(create_revision: i64) -> u64 {
    u64::try_from(create_revision).unwrap_or_default()
}

/// Returns the holder that a contender is.
pub(crate) fn holder(contender: KeyValue) -> Holder {
    // The server counts the writes of a key, the first of which made the contender.
    let changes = u64::try_from(contender.version() - 1).unwrap_or_default();
    let token = token(contender.create_revision());
    Holder::new(token, contender.into_key_value().1).with_changes(changes)
}

/// Returns the revision at which the contender with this fencing token was created; for a token
/// that is none of etcd's, a revision that nothing has.
pub(crate) fn create_revision(token: u64) -> i64 {
    i64::try_from(token).unwrap_or(-1)
}
