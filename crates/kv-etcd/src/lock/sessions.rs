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
    /// Tells whether the key was seen to hold what this session never wrote.
    damaged: AtomicBool,
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

    /// Tells whether this session wrote what was found at the key: the number of an acquisition
    /// that there was. Notes it otherwise, since what another program wrote there may keep out all
    /// that come.
    pub(crate) fn check(&self, found: &[u8]) -> bool {
        let last = Self::spelt(self.last.load(Ordering::Relaxed));
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_ours = found.len() == last.len() && found.iter().all(is_digit) && found <= last.as_bytes();
        if !is_ours {
            self.damaged.store(true, Ordering::Relaxed);
        }
        is_ours
    }

    /// Tells whether the key was seen to hold what this session never wrote.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Spells a number as the key holds it: the order of the bytes is that of the numbers.
    pub(crate) fn spelt(number: u64) -> String {
        format!("{number:016x}")
    }
}

pub(crate) type Sessions = backend::Sessions<LockSession>;
pub(crate) type Use = backend::Use<LockSession>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_holds_a_number_that_was_given() {
        let floor = Floor::default();
        for number in 1..=20 {
            assert_eq!(floor.next(), number);
            assert!(floor.check(Floor::spelt(number).as_bytes()) && floor.check(Floor::spelt(0).as_bytes()));
        }
        assert!(!floor.is_damaged());
        for junk in ["", "junk", "14", "+000000000000014", "000000000000000A", "0000000000000015"] {
            let floor = Floor { last: AtomicU64::new(20), ..Floor::default() };
            assert!(!floor.check(junk.as_bytes()) && floor.is_damaged(), "{junk:?}");
        }
    }
}
