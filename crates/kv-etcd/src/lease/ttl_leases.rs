//! Keeps the leases of puts with a TTL: puts of one TTL that follow each other closely share one.
//!
//! Such a lease is not renewed, and ends by itself, and its keys with it. Nobody revokes it because
//! a key of it was replaced or deleted, since it may have others. Only a lease under which nothing
//! was put is revoked: by the store that asked for it, which alone puts under it.

use super::granted::{Grant, renew};
use crate::client::{Client, shared::Shared};
use kv_core::{
    Result,
    backend::{Clock, Instant, Mutex, Undo},
    driver::Deadline,
};
use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{runtime::Id, task::AbortHandle};

/// Sets by what part of a TTL, and by how much at least, its lease is longer than it: the lease is
/// granted before keys are put, and must not end before their TTL has.
const AHEAD: u32 = 30;
const LEAST_AHEAD: Duration = Duration::from_secs(1);
/// Sets for how long behind that time a lease that several puts have is renewed for one that took
/// long: the keys of the others live on with it.
const LATE: Duration = Duration::from_secs(1);
/// Sets after which time a lease under which nothing was put is revoked.
const UNUSED: Duration = Duration::from_millis(500);
/// Limits leases, as the server does.
const LONGEST: Duration = Duration::from_secs(9_000_000_000);

/// Returns by how much the lease of a TTL is longer than it.
pub(super) fn ahead(ttl: Duration) -> Duration {
    let part = Duration::from_secs((ttl / AHEAD).as_secs());
    part.min(LONGEST.saturating_sub(ttl)).max(LEAST_AHEAD)
}

/// A lease under which this store puts keys of one TTL.
pub(crate) struct TtlLease {
    pub(crate) id: i64,
    /// Holds the TTL as the server granted it, without what the lease is longer.
    pub(crate) ttl: Duration,
    ahead: Duration,
    /// Holds a moment before the lease was granted.
    asked: Instant,
    /// Holds a moment before the lease was granted or renewed last.
    begun: Mutex<Instant>,
    /// Counts the puts and transactions that took the lease.
    taken: AtomicUsize,
    /// Counts those of them that may have put keys under it.
    used: AtomicUsize,
    end: Mutex<Option<Undo>>,
    retires: Mutex<Option<AbortHandle>>,
}

impl TtlLease {
    pub(super) fn new(ttl: Duration, asked: Instant, grant: Grant) -> Arc<Self> {
        let ahead = ahead(ttl);
        Arc::new(Self {
            id: grant.id,
            // The least TTL depends on the server's election time-out.
            ttl: ttl.max(grant.ttl.saturating_sub(ahead)),
            ahead,
            asked,
            begun: Mutex::new(asked),
            taken: AtomicUsize::new(0),
            used: AtomicUsize::new(0),
            end: Mutex::new(Some(grant.revoke)),
            retires: Mutex::default(),
        })
    }

    /// Returns for how long the lease is given to puts. As much time again is left for the last of
    /// them.
    fn open_for(&self) -> Duration {
        self.ahead / 2
    }

    pub(super) fn is_open(&self) -> bool {
        since(self.asked) <= self.open_for()
    }

    fn is_used(&self) -> bool {
        self.used.load(Ordering::Acquire) > 0
    }

    pub(super) fn take(self: &Arc<Self>) -> Arc<Self> {
        self.taken.fetch_add(1, Ordering::AcqRel);
        self.clone()
    }

    /// Returns the TTL of what was put under the lease, counted from now. Where the write took so
    /// long that the lease may end before, the lease is renewed once, unless the keys of others
    /// would live on for long.
    pub(crate) async fn granted(&self, client: &Client, deadline: Deadline) -> Duration {
        let left = |begun| (self.ttl + self.ahead).saturating_sub(since(begun)).min(self.ttl);
        let begun = *self.begun.lock();
        let is_alone = self.taken.load(Ordering::Acquire) == 1;
        if left(begun) == self.ttl || !is_alone && since(self.asked) > self.ahead + LATE {
            return left(begun);
        }
        let now = Clock::system().now();
        let deadline = if is_alone { deadline } else { Deadline::after(deadline.remaining().min(LATE)) };
        match renew(client, self.id, deadline).await {
            Ok(()) => {
                *self.begun.lock() = now;
                self.ttl
            }
            Err(_) => left(begun),
        }
    }
}

/// Ends in the background a lease under which nothing was put; others end by their time.
impl Drop for TtlLease {
    fn drop(&mut self) {
        let retires = self.retires.lock().take();
        if let Some(retires) = retires {
            retires.abort();
        }
        let end = self.end.lock().take();
        match end {
            Some(end) if self.is_used() => end.forget(),
            end => drop(end),
        }
    }
}

/// This is always the machine's clock, since the server's clock goes on too.
fn since(moment: Instant) -> Duration {
    Clock::system().now().since(moment)
}

/// One write's part in a lease.
pub(crate) struct TtlUse {
    pub(crate) lease: Arc<TtlLease>,
    /// Tells whether the write may have been done.
    is_sent: AtomicBool,
}

impl TtlUse {
    pub(super) fn new(lease: Arc<TtlLease>) -> Self {
        Self { lease, is_sent: AtomicBool::new(false) }
    }

    /// Notes whether the write may have been done: before it is sent, and when it is certain that
    /// it took no effect.
    pub(crate) fn note(&self, is_sent: bool) {
        if self.is_sent.swap(is_sent, Ordering::AcqRel) != is_sent {
            match is_sent {
                true => self.lease.used.fetch_add(1, Ordering::AcqRel),
                false => self.lease.used.fetch_sub(1, Ordering::AcqRel),
            };
        }
    }
}

/// The place of a lease that puts of one TTL share.
#[derive(Default)]
pub(super) struct Slot {
    lease: OnceLock<Arc<TtlLease>>,
    /// Holds the requests for it: the lease is there behind one that went well.
    pub(super) asked: Shared<Result<()>>,
}

impl Slot {
    pub(super) fn lease(&self) -> Option<&Arc<TtlLease>> {
        self.lease.get()
    }

    /// Puts the lease into the slot, which has none.
    pub(super) fn fill(&self, lease: Arc<TtlLease>) {
        // One request at a time is under way, and none once there is a lease.
        let _ = self.lease.set(lease);
    }
}

/// The leases of one store for its puts. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct TtlLeases(Arc<Mutex<Table>>);

/// The leases that further puts of a runtime may have: another runtime may stand still while it
/// asks for a lease.
type Table = HashMap<Place, Arc<Slot>>;

/// The runtime of a slot, and the TTL of its puts.
pub(super) type Place = (Id, Duration);

impl TtlLeases {
    /// Changes the table. What is taken out of it is a part of the answer, and is dropped when the
    /// mutex is free again: the drop of a lease begins the work that ends it.
    fn change<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        change(&mut self.0.lock())
    }

    /// Returns the slot of the lease that a put with this TTL may have: of one that is there or
    /// under way, or of a new one.
    pub(super) fn slot(&self, place: Place) -> Arc<Slot> {
        let (slot, _past) = self.change(|table| {
            let may_be_had = |slot: &&Arc<Slot>| slot.lease().is_none_or(|lease| lease.is_open());
            if let Some(slot) = table.get(&place).filter(may_be_had) {
                return (slot.clone(), Vec::new());
            }
            // Nobody else removes what a runtime that ended has left.
            let is_left = |slot: &Arc<Slot>| match slot.lease() {
                Some(lease) => !lease.is_open(),
                None => Arc::strong_count(slot) == 1,
            };
            let past = table.extract_if(|_, slot| is_left(slot)).map(|(_, slot)| slot).collect();
            (table.entry(place).or_default().clone(), past)
        });
        slot
    }

    /// Gives a lease to puts until its time for that is over, or until it is seen that nobody
    /// needs it.
    pub(super) fn open(&self, place: Place, lease: &Arc<TtlLease>) {
        let (table, own) = (Arc::downgrade(&self.0), Arc::downgrade(lease));
        let (unused, over) = (lease.asked + UNUSED, lease.asked + lease.open_for());
        let retires = tokio::spawn(async move {
            for (at, is_over) in [(unused, false), (over, true)] {
                Clock::system().sleep_until(at).await;
                let Some(table) = table.upgrade() else { return };
                // It is dropped when the mutex is free again.
                let _retired = {
                    let mut table = table.lock();
                    let Some(lease) = table.get(&place).and_then(|slot| slot.lease()) else { return };
                    if !own.ptr_eq(&Arc::downgrade(lease)) {
                        return;
                    }
                    let is_idle = !lease.is_used() && Arc::strong_count(lease) == 1;
                    if is_over || is_idle { table.remove(&place) } else { None }
                };
            }
        });
        *lease.retires.lock() = Some(retires.abort_handle());
    }

    /// Gives this lease to no further puts: it has ended, or another lease of the same transaction.
    pub(crate) fn is_over(&self, lease: &TtlLease) {
        let is_it = |slot: &Slot| slot.lease().is_some_and(|there| there.id == lease.id);
        let _over: Vec<_> = self.change(|table| table.extract_if(|_, slot| is_it(slot)).collect());
    }

    /// Gives out no more of the leases that there are, which ends those under which nothing was
    /// put.
    pub(crate) fn end(&self) {
        drop(self.change(mem::take));
    }
}
