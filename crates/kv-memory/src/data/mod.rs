//! The data set, which all clients of one store share, and which changes only under its mutex.

mod expiry;
mod leases;
mod locks;
pub(crate) mod named;
mod records;

pub(crate) use records::{Asked, Life, LockName, Name, Record};

use bytes::Bytes;
use kv_core::{
    Entry, Key, Version, WatchEvent,
    backend::{Clock, ExpiryQueue, Hub, Instant, Mutex},
};
use records::{Due, Lease, Line, key_of};
use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::{
        Arc, MutexGuard, Weak,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{runtime, sync::watch, task::AbortHandle};

/// The counter of all stores of the process, so that what one of them gave out means nothing to
/// another, nor to one that is opened anew under the same name. It is moved under a store's mutex,
/// so it grows in the order of the store's changes.
static COUNT: AtomicU64 = AtomicU64::new(1);

/// The clients of one prefix: the number and the hub of each.
type Seat = Vec<(u64, Hub)>;

/// The data set, inside its mutex.
pub(crate) struct Data {
    me: Weak<Shared>,
    pub(crate) clock: Clock,
    pub(crate) entries: BTreeMap<Name, Record>,
    pub(crate) leases: HashMap<u64, Lease>,
    pub(crate) locks: HashMap<LockName, Line>,
    seats: BTreeMap<Name, Seat>,
    expiries: ExpiryQueue<Due, Instant>,
    /// Tells the sweepers the first moment of `expiries`; they end with this sender.
    next_due: watch::Sender<Option<Instant>>,
    sweepers: Vec<(runtime::Id, AbortHandle)>,
}

/// The data set and its mutex.
pub(crate) struct Shared(Mutex<Data>);

impl Shared {
    pub(crate) fn new(clock: Clock) -> Arc<Self> {
        Arc::new_cyclic(|me| {
            Self(Mutex::new(Data {
                me: me.clone(),
                clock,
                entries: BTreeMap::new(),
                leases: HashMap::new(),
                locks: HashMap::new(),
                seats: BTreeMap::new(),
                expiries: ExpiryQueue::default(),
                next_due: watch::Sender::new(None),
                sweepers: Vec::new(),
            }))
        })
    }

    /// Removes what is past its time, and returns the data as of now.
    pub(crate) fn look(&self) -> MutexGuard<'_, Data> {
        let mut data = self.0.lock();
        data.purge();
        data
    }
}

impl Data {
    /// Returns the next number, for a version, a token or a lease.
    pub(crate) fn count(&mut self) -> u64 {
        COUNT.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn version(&self, name: &str) -> Option<Version> {
        self.entries.get(name).map(|record| record.version)
    }

    /// Creates or replaces what is stored under the name. The lease in `life` has to be alive.
    pub(crate) fn put(&mut self, name: &str, key: Option<&Key>, value: Bytes, life: Life) -> Version {
        let version = Version::new(self.count(), 0);
        let record = Record { key: key.cloned(), value: value.clone(), version, life };
        match self.entries.get_mut(name) {
            Some(old) => {
                let before = std::mem::replace(old, record).life;
                // A new expiry takes the place of the old one by itself.
                if !matches!((before, life), (Life::Until(_), Life::Until(_))) {
                    self.unlink(name, before);
                }
            }
            None => drop(self.entries.insert(name.into(), record)),
        }
        match life {
            Life::Forever => {}
            Life::Until(at) => self.schedule(at, Due::Key(name.into())),
            Life::Lease(id) => {
                if let Some(lease) = self.leases.get_mut(&id) {
                    lease.keys.insert(name.into());
                }
            }
        }
        self.publish(name, key, |key| WatchEvent::Put(Entry::new(key, value.clone(), version)));
        version
    }

    /// Deletes the name; tells whether it was there.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        let Some(record) = self.entries.remove(name) else { return false };
        self.unlink(name, record.life);
        let version = Version::new(self.count(), 0);
        self.publish(name, record.key.as_ref(), |key| WatchEvent::Delete { key, version });
        true
    }

    fn unlink(&mut self, name: &str, life: Life) {
        match life {
            Life::Forever => {}
            Life::Until(_) => self.cancel(&Due::Key(name.into())),
            Life::Lease(id) => {
                if let Some(lease) = self.leases.get_mut(&id) {
                    lease.keys.remove(name);
                }
            }
        }
    }

    /// Tells a change to the clients of each prefix with which the name begins.
    fn publish(&self, name: &str, own: Option<&Key>, event: impl Fn(Key) -> WatchEvent) {
        let mut below = Bound::Included(name);
        while let Some((prefix, seat)) = self.seats.range::<str, _>((Bound::Unbounded, below)).next_back() {
            let Some(rest) = name.strip_prefix(&**prefix) else {
                // The other prefixes of the name are prefixes of the text that this one shares
                // with it.
                let common = prefix.chars().zip(name.chars()).take_while(|(a, b)| a == b);
                below = Bound::Included(&name[..common.map(|(c, _)| c.len_utf8()).sum()]);
                continue;
            };
            if let Some(key) = key_of(rest, own) {
                let event = event(key);
                seat.iter().for_each(|(_, hub)| hub.publish(&event));
            }
            below = Bound::Excluded(prefix);
        }
    }

    /// Tells a change to those who watch the holder of the lock.
    pub(crate) fn publish_holder(&self, (prefix, _): &LockName, event: &WatchEvent) {
        for (_, hub) in self.seats.get(prefix).into_iter().flatten() {
            hub.publish_holder(event);
        }
    }

    /// Adds a client with this prefix; returns its number and its hub.
    pub(crate) fn enter(&mut self, prefix: &Name) -> (u64, Hub) {
        let client = (self.count(), Hub::new());
        self.seats.entry(prefix.clone()).or_default().push(client.clone());
        client
    }

    pub(crate) fn leave(&mut self, prefix: &Name, client: u64) {
        if let Some(seat) = self.seats.get_mut(prefix) {
            seat.retain(|(id, _)| *id != client);
            if seat.is_empty() {
                self.seats.remove(prefix);
            }
        }
    }

    /// Counts the watches that the clients of this prefix have.
    pub(crate) fn watches(&self, prefix: &str) -> usize {
        self.seats.get(prefix).into_iter().flatten().map(|(_, hub)| hub.subscribers()).sum()
    }
}

#[cfg(test)]
mod tests {
    use crate::Memory;
    use kv_core::{Kv, WatchEvent};
    use std::{future::Future, task::Context, time::Duration};

    /// Nothing stays behind of what is given back, dropped or over.
    #[tokio::test]
    async fn nothing_grows() {
        let memory = Memory::new();
        for round in 0..3 {
            let kv = Kv::new(memory.with_prefix("app/"));
            let ttl = Duration::from_secs(60);
            let lease = kv.lease(ttl).await.unwrap();
            kv.put("leased", "").lease(&lease).await.unwrap();
            kv.put("expiring", "").ttl(ttl).await.unwrap();
            kv.put("expiring", "").ttl(ttl).await.unwrap();
            let mut watch = kv.watch_tree("").await.unwrap();
            assert!(matches!(watch.event().await.unwrap(), WatchEvent::Put(_)));
            let guard = kv.new_lock("l").acquire().await.unwrap();
            let mut waiting = Box::pin(kv.new_lock("l").acquire());
            assert!(waiting.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending());
            assert!(kv.new_lock("l").try_acquire().await.unwrap().is_none());
            {
                let data = memory.0.look();
                assert_eq!(
                    (data.entries.len(), data.leases.len(), data.expiries.len()),
                    (2, 1, 3),
                    "round {round}"
                );
                assert_eq!((data.locks.len(), data.seats.len(), data.sweepers.len()), (1, 2, 1));
            }
            let left = memory.with_prefix("app/").leftovers();
            assert!(left.len() == 3 && left[1] == "the lock \"l\" with 1 in line", "{left:?}");
            drop((waiting, watch));
            for _ in 0..100 {
                tokio::task::yield_now().await; // what is dropped is undone in the background
            }
            assert!(memory.0.look().locks.values().all(|line| line.waiting() == 0));
            assert!(guard.release().await.unwrap());
            assert!(lease.revoke().await.unwrap());
            assert!(kv.delete("expiring").await.unwrap());
            kv.close().await.unwrap();
            assert!(memory.with_prefix("app/").leftovers().is_empty());
            drop(kv);
            while memory.0.look().seats.len() > 1 {
                tokio::task::yield_now().await;
            }
            let data = memory.0.look();
            assert!(data.entries.is_empty() && data.leases.is_empty() && data.locks.is_empty());
            assert!(data.expiries.is_empty() && data.next_due.borrow().is_none());
            assert_eq!(data.next_due.receiver_count(), 1);
        }
        let sweeper = memory.0.look().sweepers[0].1.clone();
        assert!(!sweeper.is_finished());
        drop(memory);
        while !sweeper.is_finished() {
            tokio::task::yield_now().await; // the sweeper ends with the store
        }
    }
}
