//! The sessions of locks: the leases that contenders hang on, and what is remembered of each.

use super::delete_watcher::DeleteWatcher;
use kv_core::backend::{self, LetGo};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// A lease for locks, and what the contenders under it share.
#[derive(Clone, Debug)]
pub(crate) struct LockSession {
    pub(crate) lease: i64,
    /// Watches the names that contenders of the session wait for.
    pub(crate) watcher: Arc<DeleteWatcher>,
    pub(crate) floor: Arc<Floor>,
    pub(crate) let_go: LetGo,
}

/// The floor of a session. The acquisitions of one session are numbered. A key of the session
/// holds the greatest number that was given up while its request was under way; a request to enter
/// a queue is done only if its number is greater. So one key is enough for any number of requests
/// that may still arrive, and the key ends with the session.
#[derive(Debug, Default)]
pub(crate) struct Floor {
    last: AtomicU64,
    /// Tells whether the key exists: the first acquisition that enters a queue makes it.
    made: AtomicBool,
}

impl Floor {
    /// Returns the number of the next acquisition.
    pub(crate) fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Tells whether the key exists, as far as it is known.
    pub(crate) fn is_made(&self) -> bool {
        self.made.load(Ordering::Relaxed)
    }

    /// Notes whether the key exists.
    pub(crate) fn set_made(&self, made: bool) {
        self.made.store(made, Ordering::Relaxed);
    }

    /// Spells a number as the key holds it: the order of the bytes is that of the numbers.
    pub(crate) fn spelt(number: u64) -> String {
        format!("{number:016x}")
    }
}

pub(crate) type Sessions = backend::Sessions<LockSession>;
pub(crate) type Use = backend::Use<LockSession>;
