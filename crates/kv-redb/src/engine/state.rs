//! What the writer keeps in memory: who holds and waits for locks, which leases live, what ends next.

use super::{format::Stored, time::Time};
use kv_core::{Bytes, backend::Instant};
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
};
use tokio::sync::oneshot;

/// A lock that was granted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grant {
    pub(crate) token: u64,
    /// The moment from which its TTL counts.
    pub(crate) from: Instant,
}

/// The holder of a lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// The acquisition; 0 for that of an earlier process.
    pub(crate) id: u64,
    pub(crate) token: u64,
    pub(crate) ttl: u64,
    pub(crate) until: u64,
}

/// One who waits for a lock.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) id: u64,
    pub(crate) ttl: u64,
    pub(crate) value: Bytes,
    pub(crate) granted: oneshot::Sender<kv_core::Result<Grant>>,
}

/// A lease that lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leased {
    pub(crate) ttl: u64,
    pub(crate) until: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Life {
    Lease(u64),
    Lock(Arc<str>),
}

/// What a change in memory replaced, for a batch that is not committed.
#[derive(Debug)]
pub(crate) enum Replaced {
    Lock(Arc<str>, Option<Held>),
    Lease(u64, Option<Leased>),
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// The last number given out: version, token or stamp of a batch.
    pub(crate) counter: u64,
    pub(crate) holders: HashMap<Arc<str>, Held>,
    pub(crate) queues: HashMap<Arc<str>, VecDeque<Waiter>>,
    pub(crate) leases: HashMap<u64, Leased>,
    /// The first expiry of a key.
    pub(crate) first_expiry: Option<u64>,
    /// When each lock and lease ends.
    ends: BTreeSet<(u64, Life)>,
}

impl State {
    /// Locks and leases of a process that is gone live on for their whole TTL from now: how long ago they were renewed,
    /// the file does not know.
    pub(crate) fn new(stored: Stored, time: &Time) -> Self {
        let Stored { counter, first_expiry, leases, locks, .. } = stored;
        let mut state = Self { counter, first_expiry, ..Self::default() };
        let now = time.now();
        for (lease, ttl) in leases {
            state.set_lease(lease, Some(Leased { ttl, until: now.saturating_add(ttl) }));
        }
        for (name, token, ttl) in locks {
            let held = Held { id: 0, token, ttl, until: now.saturating_add(ttl) };
            state.set_holder(&name.into(), Some(held));
        }
        state
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// When something ends next.
    pub(crate) fn due(&self) -> Option<u64> {
        let end = self.ends.first().map(|(at, _)| *at);
        end.into_iter().chain(self.first_expiry).min()
    }

    /// A lock or lease whose time is over.
    pub(crate) fn ended(&self, now: u64) -> Option<Life> {
        self.ends.first().filter(|(at, _)| *at <= now).map(|(_, life)| life.clone())
    }

    pub(crate) fn set_holder(&mut self, name: &Arc<str>, held: Option<Held>) -> Replaced {
        let until = held.map(|h| h.until);
        let old = match held {
            Some(held) => self.holders.insert(name.clone(), held),
            None => self.holders.remove(name),
        };
        self.ends_at(Life::Lock(name.clone()), old.map(|h| h.until), until);
        Replaced::Lock(name.clone(), old)
    }

    pub(crate) fn set_lease(&mut self, lease: u64, life: Option<Leased>) -> Replaced {
        let old = match life {
            Some(life) => self.leases.insert(lease, life),
            None => self.leases.remove(&lease),
        };
        self.ends_at(Life::Lease(lease), old.map(|l| l.until), life.map(|l| l.until));
        Replaced::Lease(lease, old)
    }

    fn ends_at(&mut self, life: Life, old: Option<u64>, new: Option<u64>) {
        if let Some(old) = old {
            self.ends.remove(&(old, life.clone()));
        }
        if let Some(new) = new {
            self.ends.insert((new, life));
        }
    }

    /// Undoes the changes, the last one first.
    pub(crate) fn restore(&mut self, replaced: Vec<Replaced>) {
        for old in replaced.into_iter().rev() {
            match old {
                Replaced::Lock(name, held) => drop(self.set_holder(&name, held)),
                Replaced::Lease(lease, life) => drop(self.set_lease(lease, life)),
            }
        }
    }
}
