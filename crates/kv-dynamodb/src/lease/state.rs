//! The leases of a store, and what is known of each.

use crate::client::{Client, clock::Millis, unique_id};
use kv_core::{
    Error, ErrorKind, Key, LeaseId, Result,
    backend::{Instant, Mutex},
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, MutexGuard, Weak},
};

/// The end that a renewal sets, and the number of that renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Renewal {
    pub(crate) ends: Millis,
    pub(crate) number: u64,
}

/// The leases of this store that handles of this process have made.
#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<HashMap<String, Weak<Lease>>>);

impl Leases {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Weak<Lease>>> {
        self.0.lock()
    }

    pub(crate) fn get(&self, id: &LeaseId) -> Result<Arc<Lease>> {
        let found = self.all().get(id.as_str()).and_then(Weak::upgrade);
        found.ok_or_else(|| over(id.as_str()))
    }

    pub(super) fn add(&self, lease: &Arc<Lease>) {
        let mut all = self.all();
        all.retain(|_, lease| lease.strong_count() > 0);
        all.insert(lease.id.clone(), Arc::downgrade(lease));
    }
}

/// Returns the error of a call that uses a lease after its end.
pub(super) fn over(id: &str) -> Error {
    let why = format!("the lease {id} has ended, or is another process's or store's; ask for a new one");
    Error::new(ErrorKind::LeaseLost, why)
}

/// One lease.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(super) id: String,
    pub(super) client: Arc<Client>,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    /// Holds the last renewal that was done: the record and the keys end by it.
    pub(super) to: Renewal,
    /// Counts the renewals that were begun.
    pub(super) begun: u64,
    /// Until this moment of this machine's clock the lease lives for certain.
    pub(super) held_until: Instant,
    pub(super) over: bool,
    /// Counts, for each key, the renewals in a row that did not find it.
    pub(super) keys: HashMap<Key, u8>,
    /// The keys that were put since the last renewal began.
    pub(super) put: HashSet<Key>,
}

impl Lease {
    /// Makes a lease without keys, which ends by this renewal.
    pub(super) fn new(client: Arc<Client>, to: Renewal, held_until: Instant) -> Self {
        let state = State {
            to,
            begun: to.number,
            held_until,
            over: false,
            keys: HashMap::new(),
            put: HashSet::new(),
        };
        Self { id: unique_id(), client, state: Mutex::new(state) }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Returns the end of a key that is put under the lease now, and the renewal that it is of.
    pub(crate) fn ends(&self) -> Result<Renewal> {
        let state = self.state();
        let held = !state.over && self.client.time.local().now() < state.held_until;
        if held { Ok(state.to) } else { Err(over(&self.id)) }
    }

    /// Notes that a key is about to be put under the lease.
    pub(crate) fn add(&self, key: &Key) -> Result<()> {
        let mut state = self.state();
        if state.over {
            return Err(over(&self.id));
        }
        state.keys.insert(key.clone(), 0);
        Ok(())
    }

    /// Tells whether the key's end is that of the newest renewal, so that the next one comes in
    /// time. A renewal that is under way looks at the key when it is done.
    pub(super) fn is_left_to_renewals(&self, key: &Key, by: u64) -> bool {
        let mut state = self.state();
        let is_newest = state.to.number == by;
        if is_newest {
            state.put.insert(key.clone());
        }
        is_newest
    }
}
