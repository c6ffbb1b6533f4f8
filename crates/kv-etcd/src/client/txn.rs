//! Makes the parts of the server's transactions, and takes their answers apart.

use etcd_client::{Compare, CompareOp, GetOptions, KeyValue, TxnOp, TxnOpResponse, TxnResponse};
use kv_core::Version;

/// Returns the server's revision of a version. For a version that cannot be etcd's it is one that
/// equals nothing there, not even *missing*, which is 0.
pub(crate) fn mod_revision(version: Version) -> i64 {
    match version.parts() {
        (revision @ 1.., 0) => i64::try_from(revision).unwrap_or(-1),
        _ => -1,
    }
}

/// Compares a key's version with this one.
pub(crate) fn is_at(name: Vec<u8>, at: Version) -> Compare {
    Compare::mod_revision(name, CompareOp::Equal, mod_revision(at))
}

/// Asks whether there is no such key.
pub(crate) fn is_missing(name: Vec<u8>) -> Compare {
    Compare::create_revision(name, CompareOp::Equal, 0)
}

/// Reads a key without its value.
pub(crate) fn only_the_key(name: Vec<u8>) -> TxnOp {
    TxnOp::get(name, Some(GetOptions::new().with_keys_only()))
}

/// Returns what the ranges of a transaction found, in their order.
pub(crate) fn found(answer: &TxnResponse) -> Vec<Vec<KeyValue>> {
    let ranges = answer.op_responses().into_iter().filter_map(|op| match op {
        TxnOpResponse::Get(mut found) => Some(found.take_kvs()),
        _ => None,
    });
    ranges.collect()
}

/// Returns how many names the deletions of a transaction deleted.
pub(crate) fn deleted(answer: &TxnResponse) -> Option<u64> {
    let deletions = answer.op_responses().into_iter().filter_map(|op| match op {
        TxnOpResponse::Delete(deleted) => Some(u64::try_from(deleted.deleted()).unwrap_or_default()),
        _ => None,
    });
    deletions.reduce(|one, other| one + other)
}
