//! The records of the data set: keys, leases, and the queues of locks.

use bytes::Bytes;
use kv_core::{Entry, Key, Version, backend::Instant};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::sync::oneshot;

/// A whole name, with its prefix.
pub(crate) type Name = Arc<str>;
/// A lock: the prefix that it belongs to, and its name.
pub(crate) type LockName = (Name, Key);

/// The value under a name, with its version and its life.
pub(crate) struct Record {
    /// The key by which the name was written, so that clients of the same prefix need not make it
    /// of the name.
    pub(super) key: Option<Key>,
    pub(super) value: Bytes,
    pub(super) version: Version,
    pub(super) life: Life,
}

/// The life of a key.
#[derive(Clone, Copy)]
pub(crate) enum Life {
    Forever,
    Until(Instant),
    Lease(u64),
}

/// Something that ends at a moment.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Due {
    Key(Name),
    Lease(u64),
    Lock(LockName),
}

impl Record {
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn entry(&self, key: Key) -> Entry {
        Entry::new(key, self.value.clone(), self.version)
    }

    /// Returns the key that the name has behind a prefix, if it has one that is not internal.
    pub(crate) fn key(&self, rest: &str) -> Option<Key> {
        key_of(rest, self.key.as_ref()).filter(|key| !key.is_internal())
    }

    /// Tells whether the key is internal to the client that wrote it.
    pub(crate) fn is_internal(&self) -> bool {
        self.key.as_ref().is_some_and(Key::is_internal)
    }

    pub(crate) fn value(&self) -> &Bytes {
        &self.value
    }
}

/// Returns the key that a name has behind a prefix, if it has one: `own` where the writer's prefix
/// was the same.
pub(super) fn key_of(rest: &str, own: Option<&Key>) -> Option<Key> {
    match own {
        Some(own) if own.as_str().len() == rest.len() => Some(own.clone()),
        _ => Key::from_stored(rest),
    }
}

/// A function that tells an owner that its life is over, and why.
pub(crate) type End = Box<dyn Fn(&str) + Send>;

/// A lease that is alive.
pub(crate) struct Lease {
    pub(crate) prefix: Name,
    pub(crate) keys: BTreeSet<Name>,
    /// Tells the owner that the lease ended early.
    pub(super) end: Option<End>,
}

/// The holder of a lock, and its queue. A free lock has none.
pub(crate) struct Line {
    pub(super) holder: Held,
    pub(super) waiting: VecDeque<Waiter>,
}

/// The holder of a lock.
pub(super) struct Held {
    pub(super) attempt: u64,
    pub(super) token: u64,
    pub(super) value: Bytes,
    /// Counts the changes of the value.
    pub(super) changes: u64,
    /// Tells the holder that its lock was taken away.
    pub(super) end: Option<End>,
}

/// A contender that waits for a lock.
pub(super) struct Waiter {
    pub(super) attempt: u64,
    pub(super) value: Bytes,
    pub(super) ttl: Duration,
    pub(super) turn: oneshot::Sender<Turn>,
}

/// The token of a new holder, and the moment from which its TTL counts.
#[derive(Clone, Copy)]
pub(crate) struct Turn {
    pub(crate) token: u64,
    pub(crate) since: Instant,
}

impl Line {
    /// Returns how many contenders wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

/// The first result of an acquisition.
pub(crate) enum Asked {
    Got(Turn),
    InLine(oneshot::Receiver<Turn>),
    Refused,
}
