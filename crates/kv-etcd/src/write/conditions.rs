//! The conditions of transactions, as the server compares them.

use crate::{
    client::{
        answer::create_revision,
        txn::{is_at, is_missing, mod_revision},
    },
    names::Names,
};
use etcd_client::{Compare, CompareOp, KeyValue};
use kv_core::{Condition, Key};

/// Returns the comparison of a condition, and the name to look at when it was not true.
pub(super) fn condition(names: &Names, condition: &Condition) -> (Vec<u8>, Compare) {
    let name = |key: &Key| names.key(key.as_str());
    match condition {
        Condition::Version(key, at) => (name(key), is_at(name(key), *at)),
        Condition::Exists(key) => (name(key), Compare::create_revision(name(key), CompareOp::Greater, 0)),
        Condition::Missing(key) => (name(key), is_missing(name(key))),
        Condition::Held(fence) => {
            let contender = fence.proof().to_vec();
            let at = create_revision(fence.token());
            (contender.clone(), Compare::create_revision(contender, CompareOp::Equal, at))
        }
    }
}

/// Compares whether a contender still hangs on its session: one that another tool overwrote is no
/// longer in the queue.
pub(super) fn is_kept(condition: &Condition) -> Option<Compare> {
    match condition {
        Condition::Held(fence) => Some(Compare::lease(fence.proof().to_vec(), CompareOp::NotEqual, 0)),
        _ => None,
    }
}

/// Tells whether a condition is true of what was found at its name.
pub(super) fn is_true(condition: &Condition, found: Option<&KeyValue>) -> bool {
    match condition {
        Condition::Version(_, at) => found.is_some_and(|f| f.mod_revision() == mod_revision(*at)),
        Condition::Exists(_) => found.is_some(),
        Condition::Missing(_) => found.is_none(),
        Condition::Held(fence) => {
            found.is_some_and(|f| u64::try_from(f.create_revision()) == Ok(fence.token()) && f.lease() != 0)
        }
    }
}
