//! Remembers the nodes of keys and directories: enough to write on condition without reading
//! first.
//!
//! A node's data version begins anew when the node is made anew, so a version alone is no proof.
//! Therefore every creation by this library adds one to the count of a node of the store, the
//! key's *slot*. When the slot's count and the node's version are both checked in one step, the
//! node is the one that was seen.
//!
//! The counts begin anew as well where the slots are deleted and made again. So they are made
//! together with a node whose name was never given before, the *incarnation* of the counts, and
//! that this node is there is checked with them.

use crate::client::node::Node;
use kv_core::{Key, Version, backend::Mutex};
use std::{
    collections::{BTreeSet, HashMap},
    sync::atomic::{AtomicBool, Ordering},
};

/// The most nodes that each of the two generations remembers.
const REMEMBERED: usize = 4096;

/// The node of a key at the time when its slot had this count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) node: Option<Node>,
    /// The count of the slot; `None` where it is not there, or of no incarnation that is known.
    pub(crate) epoch: Option<Epoch>,
    /// The generation of the connection on which it was seen. On a later connection the server may
    /// hold an older copy, and count through the same numbers again.
    pub(crate) generation: u64,
}

/// The count of a slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epoch {
    /// The incarnation that was known to exist before the count was read.
    pub(crate) incarnation: u128,
    pub(crate) count: i32,
}

/// The data version of an incarnation. The node is written once more in the step that makes it, so
/// that a copy of it, made by another tool, has another one.
pub(crate) const INCARNATE: i32 = 1;

/// The last known state of the store's own nodes: a guess, which the server corrects.
#[derive(Debug, Default)]
pub(crate) struct Own {
    is_prepared: AtomicBool,
    incarnation: Mutex<Option<u128>>,
}

impl Own {
    /// Returns whether the nodes that count creations are taken to be there.
    pub(crate) fn is_prepared(&self) -> bool {
        self.is_prepared.load(Ordering::Relaxed)
    }

    /// Returns the incarnation of the counts. That it exists by now, the server has to check.
    pub(crate) fn incarnation(&self) -> Option<u128> {
        *self.incarnation.lock()
    }

    /// Notes that the nodes are there, and their incarnation, if it is known.
    pub(crate) fn are_there(&self, incarnation: Option<u128>) {
        if incarnation.is_some() {
            *self.incarnation.lock() = incarnation;
        }
        self.is_prepared.store(true, Ordering::Relaxed);
    }
}

impl Seen {
    pub(crate) fn at(&self) -> Option<Version> {
        self.node.and_then(|node| node.at())
    }
}

/// The remembered keys: the latest ones, and those from before.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    generation: u64,
    late: HashMap<Key, Seen>,
    before: HashMap<Key, Seen>,
}

impl Known {
    /// Forgets everything, and begins with this connection.
    pub(crate) fn begin(&self, generation: u64) {
        *self.0.lock() = Remembered { generation, ..Remembered::default() };
    }

    pub(crate) fn generation(&self) -> u64 {
        self.0.lock().generation
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Seen> {
        let known = self.0.lock();
        known.late.get(key).or_else(|| known.before.get(key)).copied()
    }

    /// Remembers a key, unless it was seen on an earlier connection.
    pub(crate) fn set(&self, key: &Key, seen: Seen) {
        let mut known = self.0.lock();
        if known.generation != seen.generation {
            return;
        }
        if known.late.len() >= REMEMBERED {
            known.before = std::mem::take(&mut known.late);
        }
        known.late.insert(key.clone(), seen);
    }

    pub(crate) fn forget(&self, key: &Key) {
        let mut known = self.0.lock();
        known.late.remove(key);
        known.before.remove(key);
    }
}

/// Directories that existed at the last look: a guess, which the server corrects.
#[derive(Debug, Default)]
pub(crate) struct Directories(Mutex<(BTreeSet<String>, BTreeSet<String>)>);

impl Directories {
    pub(crate) fn knows(&self, path: &str) -> bool {
        let known = self.0.lock();
        known.0.contains(path) || known.1.contains(path)
    }

    pub(crate) fn are<'a>(&self, paths: impl IntoIterator<Item = &'a str>) {
        let mut known = self.0.lock();
        for path in paths {
            if known.0.len() >= REMEMBERED {
                known.1 = std::mem::take(&mut known.0);
            }
            if !known.0.contains(path) {
                known.0.insert(path.to_owned());
            }
        }
    }

    pub(crate) fn forget(&self, path: &str) {
        let mut known = self.0.lock();
        known.0.remove(path);
        known.1.remove(path);
    }
}
