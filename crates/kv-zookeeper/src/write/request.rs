//! Describes a request: the conditions, the writes, and the keys that they speak of.

use super::known::Seen;
use crate::{client::node::Node, core::Core, lease::life::Life};
use kv_core::{
    Condition, Key, Version,
    driver::{Deadline, Write},
};
use std::collections::BTreeSet;

/// Conditions and writes that are done in one step.
pub(crate) struct Request<'a> {
    pub(crate) conditions: &'a [Condition],
    pub(crate) writes: &'a [Write],
    pub(crate) life: Life,
    pub(crate) deadline: Deadline,
}

/// The outcome of a request. If it was done, holds its version, and for each write whether its key
/// was there; if not, the index of the condition that is false.
pub(crate) enum Done {
    Committed { at: Version, were: Vec<bool> },
    Refused(usize),
}

/// Returns whether a write leaves its key without a TTL and a lease.
pub(crate) fn is_forever(write: &Write) -> bool {
    matches!(write, Write::Delete { .. })
        || matches!(write, Write::Put { options, .. } if options.ttl.is_none() && options.lease.is_none())
}

/// A key, and what is known of it.
pub(crate) struct Subject {
    pub(crate) key: Key,
    pub(crate) path: String,
    /// The node as it was seen; `None` where the key is taken to be missing without a look.
    pub(crate) seen: Option<Seen>,
}

impl Subject {
    pub(crate) fn node(&self) -> Option<Node> {
        self.seen.and_then(|seen| seen.node)
    }
}

/// Returns the keys of a request, each once, as they are remembered.
pub(super) fn subjects(core: &Core, request: &Request<'_>) -> Vec<Subject> {
    let conditions = request.conditions.iter().filter_map(|condition| match condition {
        Condition::Version(key, _) | Condition::Exists(key) | Condition::Missing(key) => Some(key),
        Condition::Held(_) => None,
    });
    let keys: BTreeSet<_> = request.writes.iter().map(Write::key).chain(conditions).collect();
    let known = core.known();
    let subject = |key: &Key| Subject {
        key: key.clone(),
        path: core.names.key(key),
        // Only a seen count of the slot can prove later that a key was missing.
        seen: known.get(key).filter(|seen| seen.epoch.is_some()),
    };
    keys.into_iter().map(subject).collect()
}

/// Returns the index of the first condition that is false, as far as is known.
pub(super) fn first_false(
    conditions: &[Condition],
    subjects: &[Subject],
    unheld: &BTreeSet<usize>,
) -> Option<usize> {
    let at = |key: &Key| {
        let seen = subjects.iter().find(|subject| subject.key == *key).and_then(|subject| subject.seen);
        seen.and_then(|seen| seen.at())
    };
    conditions.iter().enumerate().position(|(index, condition)| match condition {
        Condition::Version(key, expected) => at(key) != Some(*expected),
        Condition::Exists(key) => at(key).is_none(),
        Condition::Missing(key) => at(key).is_some(),
        Condition::Held(_) => unheld.contains(&index),
    })
}
