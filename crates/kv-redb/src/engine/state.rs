//! The state that the writer keeps in memory: the holders and contenders of locks, the leases that
//! live, and what ends next.

use super::{
    format::{MOST, Stored},
    past::{At, Ended, Past},
    queue::Queue,
    time::Time,
};
use kv_core::backend::{ExpiryQueue, Mutex};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, MutexGuard},
};

/// The holder of a lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// The number of the acquisition; 0 for one of an earlier process.
    pub(crate) id: u64,
    pub(crate) token: u64,
    pub(crate) ttl: u64,
    pub(crate) until: u64,
}

/// A lease that lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leased {
    pub(crate) ttl: u64,
    pub(crate) until: u64,
}

/// The state that a change in memory replaced, for a batch that is not committed.
#[derive(Debug)]
pub(crate) enum Replaced {
    Lock(Arc<str>, Option<Held>),
    Lease(u64, Option<Leased>),
    /// Tells whether the lease, which is over, still had keys to clear away.
    Rest(u64, bool),
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// The last number that was given out, a version, a token or the stamp of a batch, or the one
    /// behind which the next is given out.
    pub(crate) counter: u64,
    /// The counter that the last commit has left in the file.
    pub(crate) committed: u64,
    /// The count up to which numbers were given out before, and the one behind which they are given
    /// out since: none of those between was ever given out.
    before: u64,
    since: u64,
    /// The first expiry of a key.
    pub(crate) first_expiry: Option<u64>,
    living: Shared,
}

/// The locks and leases that live, in reach of those who renew them and of reads: neither must wait
/// for a commit, which a slow disk or a large value makes longer than a TTL.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared(Arc<Mutex<Living>>);

impl Shared {
    /// Locks the state. The guard is never kept over anything that blocks.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Living> {
        self.0.lock()
    }
}

/// The locks that are held, and the leases. Only the writer grants and ends them.
#[derive(Debug, Default)]
pub(crate) struct Living {
    pub(crate) holders: HashMap<Arc<str>, Held>,
    pub(crate) queues: HashMap<Arc<str>, Queue>,
    /// The acquisitions that wait until they have the lock or a place in its queue: by name and
    /// number.
    pub(super) asking: BTreeSet<(Arc<str>, u64)>,
    pub(crate) leases: HashMap<u64, Leased>,
    pub(super) past: Past,
    /// Leases that are over, whose keys are still to be cleared away.
    rest: BTreeSet<u64>,
    lease_expiries: ExpiryQueue<u64, u64>,
    lock_expiries: ExpiryQueue<Arc<str>, u64>,
}

impl State {
    /// Makes the state of a file that is opened. The locks and leases in the file are over: a file
    /// is for one process at a time, so whoever had them is gone. Nobody sees them from now on,
    /// and the first batches clear them away, when there is space for it.
    ///
    /// Numbers are counted on from the wall clock's microseconds, if the file has not counted as far:
    /// a file that was put back from an older copy knows nothing of what was given out since, and
    /// nobody writes a million times a second for as long as a file is open.
    pub(crate) fn new(stored: Stored, time: &Time) -> Self {
        let mut state = Self::default();
        state.take_over(stored, time.now());
        state.counter = state.counter.max(time.began()).min(MOST);
        state.since = state.counter;
        state
    }

    /// Tells whether a number can have been given out.
    pub(crate) fn was_given(&self, number: u64) -> bool {
        number <= self.before || (self.since < number && number <= self.counter)
    }

    /// Takes over a file that another process has written. All locks and leases are over, those in
    /// the file and those that were granted here before.
    pub(crate) fn take_over(&mut self, stored: Stored, now: u64) {
        let Stored { counter, first_expiry, leases, locks, .. } = stored;
        self.counter = self.counter.max(counter);
        (self.committed, self.first_expiry) = (counter, first_expiry);
        self.before = self.before.max(counter);
        let mut living = self.living();
        living.end_all(now);
        for (lease, ttl) in leases {
            living.set_lease(lease, Some(Leased { ttl, until: now }));
        }
        for (name, token, ttl) in locks {
            living.set_holder(&name.into(), Some(Held { id: 0, token, ttl, until: now }));
        }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Returns the moment at which something is to be ended or cleared away next.
    pub(crate) fn due(&self) -> Option<u64> {
        let living = self.living();
        let lease = living.lease_expiries.first().map(|(at, _)| at);
        let lock = living.lock_expiries.first().map(|(at, _)| at);
        let rest = living.rest.first().map(|_| 0);
        [lease, lock, rest, self.first_expiry].into_iter().flatten().min()
    }

    pub(crate) fn shared(&self) -> Shared {
        self.living.clone()
    }

    pub(crate) fn living(&self) -> MutexGuard<'_, Living> {
        self.living.lock()
    }
}

impl Living {
    /// Returns a lease whose time is over: from this `now` on nothing renews it.
    pub(crate) fn ended_lease(&self, now: u64) -> Option<u64> {
        self.lease_expiries.first().filter(|(at, _)| *at <= now).map(|(_, lease)| *lease)
    }

    /// Returns a lock whose time is over, as [`ended_lease`](Self::ended_lease) does a lease.
    pub(crate) fn ended_lock(&self, now: u64) -> Option<Arc<str>> {
        self.lock_expiries.first().filter(|(at, _)| *at <= now).map(|(_, name)| name.clone())
    }

    /// Tells whether a lease lives at this moment, as the writer sees it.
    pub(crate) fn lives(&self, lease: u64, now: u64) -> bool {
        self.leases.get(&lease).is_some_and(|life| life.until > now)
    }

    /// Returns the holder of a lock at this moment, as the writer sees it.
    pub(crate) fn holder(&self, name: &str, now: u64) -> Option<Held> {
        self.holders.get(name).filter(|held| held.until > now).copied()
    }

    /// Returns a lease whose keys are still to be cleared away.
    pub(crate) fn rest(&self) -> Option<u64> {
        self.rest.first().copied()
    }

    pub(crate) fn set_rest(&mut self, lease: u64, is_left: bool) -> Replaced {
        let was_left = if is_left { !self.rest.insert(lease) } else { self.rest.remove(&lease) };
        Replaced::Rest(lease, was_left)
    }

    /// Counts the contenders that wait for a lock: those in its queue, and those that have asked for
    /// a place in it, which the writer has not seen yet.
    pub(crate) fn waiters(&self, name: &Arc<str>) -> usize {
        let (queue, holder) = (self.queues.get(name), self.holders.get(name));
        let asking = self.asking.range((name.clone(), 0)..=(name.clone(), u64::MAX));
        let is_new =
            |id: u64| queue.is_none_or(|queue| !queue.has(id)) && holder.is_none_or(|holder| holder.id != id);
        queue.map_or(0, Queue::waiting) + asking.filter(|(_, id)| is_new(*id)).count()
    }

    /// Tells whether a lease was over at this moment: its end was written, or its time had passed,
    /// after which nothing renews it.
    pub(crate) fn is_over(&self, lease: u64, at: At) -> bool {
        match self.leases.get(&lease) {
            Some(life) => life.until <= at.now,
            None => self.past.was_over(Ended::Lease(lease), at),
        }
    }

    /// Tells whether this holder of a lock had lost it, by the rule of [`is_over`](Self::is_over).
    pub(crate) fn has_lost(&self, name: &str, token: u64, at: At) -> bool {
        match self.holders.get(name) {
            Some(held) if held.token == token => held.until <= at.now,
            _ => self.past.was_over(Ended::Lock(token), at),
        }
    }

    /// Replaces the holder of a lock within a batch, and notes the end of the one before for reads
    /// that are under way.
    pub(crate) fn hands_on(&mut self, name: &Arc<str>, held: Option<Held>) -> Replaced {
        if let Some(before) = self.holders.get(name) {
            self.past.note(Ended::Lock(before.token), before.until);
        }
        self.set_holder(name, held)
    }

    /// Ends a lease within a batch, and notes its end for reads that are under way.
    pub(crate) fn ends(&mut self, lease: u64) -> Replaced {
        if let Some(life) = self.leases.get(&lease) {
            self.past.note(Ended::Lease(lease), life.until);
        }
        self.set_lease(lease, None)
    }

    pub(crate) fn set_holder(&mut self, name: &Arc<str>, held: Option<Held>) -> Replaced {
        let old = match held {
            Some(held) => {
                self.lock_expiries.set(name.clone(), held.until);
                self.holders.insert(name.clone(), held)
            }
            None => {
                self.lock_expiries.remove(name);
                self.holders.remove(name)
            }
        };
        Replaced::Lock(name.clone(), old)
    }

    pub(crate) fn set_lease(&mut self, lease: u64, life: Option<Leased>) -> Replaced {
        let old = match life {
            Some(life) => {
                self.lease_expiries.set(lease, life.until);
                self.leases.insert(lease, life)
            }
            None => {
                self.lease_expiries.remove(&lease);
                self.leases.remove(&lease)
            }
        };
        Replaced::Lease(lease, old)
    }

    /// Has the time of all locks and leases be over.
    pub(crate) fn end_all(&mut self, now: u64) {
        let leases: Vec<_> = self.leases.iter().map(|(lease, life)| (*lease, *life)).collect();
        for (lease, life) in leases {
            self.set_lease(lease, Some(Leased { until: now.min(life.until), ..life }));
        }
        let holders: Vec<_> = self.holders.iter().map(|(name, held)| (name.clone(), *held)).collect();
        for (name, held) in holders {
            self.set_holder(&name, Some(Held { until: now.min(held.until), ..held }));
        }
    }

    /// Prolongs a lease to its whole TTL from `now` on; `false` when it has ended, whether its end
    /// is written yet or not.
    pub(crate) fn renew_lease(&mut self, lease: u64, now: u64) -> bool {
        let Some(&life) = self.leases.get(&lease).filter(|life| life.until > now) else { return false };
        self.set_lease(lease, Some(Leased { until: now.saturating_add(life.ttl), ..life }));
        true
    }

    /// Does the same as [`renew_lease`](Self::renew_lease) for the lock that this acquisition
    /// holds.
    pub(crate) fn renew_lock(&mut self, name: &Arc<str>, id: u64, now: u64) -> bool {
        let held = self.holders.get(name).filter(|held| held.id == id && held.until > now);
        let Some(&held) = held else { return false };
        self.set_holder(name, Some(Held { until: now.saturating_add(held.ttl), ..held }));
        true
    }

    /// Counts a commit, and lets the lives that it granted begin at `now`.
    pub(crate) fn begin(&mut self, changed: &[Replaced], now: u64) {
        self.past.commit();
        for change in changed {
            match change {
                Replaced::Lock(name, _) => {
                    if let Some(&held) = self.holders.get(name) {
                        self.set_holder(name, Some(Held { until: now.saturating_add(held.ttl), ..held }));
                    }
                }
                Replaced::Lease(lease, _) => {
                    if let Some(&life) = self.leases.get(lease) {
                        self.set_lease(*lease, Some(Leased { until: now.saturating_add(life.ttl), ..life }));
                    }
                }
                Replaced::Rest(..) => {}
            }
        }
    }

    /// Undoes the changes, the last one first.
    pub(crate) fn restore(&mut self, replaced: Vec<Replaced>) {
        self.past.undo();
        for old in replaced.into_iter().rev() {
            match old {
                Replaced::Lock(name, held) => drop(self.set_holder(&name, held)),
                Replaced::Lease(lease, life) => drop(self.set_lease(lease, life)),
                Replaced::Rest(lease, was_left) => drop(self.set_rest(lease, was_left)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Held, Leased, Living};

    #[test]
    fn what_is_renewed_undone_or_over_leaves_no_expiry_behind() {
        let (mut living, name) = (Living::default(), "l\0".into());
        let life = Leased { ttl: 10, until: 10 };
        let held = Held { id: 1, token: 1, ttl: 20, until: 20 };
        let granted = vec![living.set_lease(7, Some(life)), living.set_holder(&name, Some(held))];
        for now in 1..9 {
            assert!(living.renew_lease(7, now) && living.renew_lock(&name, 1, now));
        }
        assert_eq!((living.ended_lease(17), living.ended_lease(18)), (None, Some(7)));
        assert_eq!((living.ended_lock(27), living.ended_lock(28)), (None, Some(name.clone())));
        assert_eq!((living.lease_expiries.len(), living.lock_expiries.len()), (1, 1));
        let over = vec![living.ends(7), living.hands_on(&name, None)];
        assert!(living.lease_expiries.is_empty() && living.lock_expiries.is_empty());
        living.restore(over);
        assert_eq!((living.ended_lease(18), living.ended_lock(28)), (Some(7), Some(name)));
        living.restore(granted);
        assert!(living.lease_expiries.is_empty() && living.lock_expiries.is_empty());
    }
}
