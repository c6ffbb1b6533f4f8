//! The server of this template and its client crate in one: a map in this process. Delete this
//! file when you have put your own client in its place; nothing else in the template depends on
//! how it works.

use kv_core::{
    Bytes, Result, Version,
    backend::{Clock, ExpiryQueue, Instant, Mutex},
};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    ops::Bound,
    sync::{Arc, MutexGuard},
    time::Duration,
};
use tokio::sync::watch;

/// A value, with the number of the change that wrote it.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) value: Bytes,
    pub(crate) number: u64,
}

/// A listener, which is told every change, in order: the name, the new record or `None`, and the
/// number of the change. It returns `false` when it wants no more.
type Listener = Box<dyn Fn(&str, Option<&Record>, u64) -> bool + Send>;

#[derive(Default)]
struct State {
    records: BTreeMap<String, Record>,
    expiries: ExpiryQueue<String, Instant>,
    /// Tells the first moment of `expiries` to those who sleep until then.
    first_expiry: watch::Sender<Option<Instant>>,
    /// Holds the number of the last change: it only grows, also over deletions.
    last: u64,
    listeners: Vec<Listener>,
}

#[derive(Default)]
pub(crate) struct Server {
    state: Mutex<State>,
    clock: Clock,
}

impl Server {
    /// Returns the server of this name, and makes it at the first call. Its data outlive its
    /// clients.
    pub(crate) fn connect(name: &str) -> Arc<Self> {
        static SERVERS: Mutex<Option<HashMap<String, Arc<Server>>>> = Mutex::new(None);
        let mut servers = SERVERS.lock();
        servers.get_or_insert_default().entry(name.to_owned()).or_default().clone()
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn get(&self, name: &str) -> Option<Record> {
        self.state().records.get(name).cloned()
    }

    /// Returns all records whose names begin with `start`, in the order of their names.
    pub(crate) fn range(&self, start: &str) -> Vec<(String, Record)> {
        let state = self.state();
        let range = state.records.range::<str, _>((Bound::Included(start), Bound::Unbounded));
        range.take_while(|(name, _)| name.starts_with(start)).map(|(n, r)| (n.clone(), r.clone())).collect()
    }

    /// Puts a value, or deletes the name for `None`, if the current version passes the check.
    /// Returns the number of the change; `None` when there was nothing to delete.
    pub(crate) fn write(
        &self,
        name: &str,
        value: Option<(Bytes, Option<Duration>)>,
        check: impl FnOnce(Option<Version>) -> Result<()>,
    ) -> Result<Option<u64>> {
        let mut state = self.state();
        let found = state.records.get(name).map(|r| Version::new(r.number, 0));
        check(found)?;
        if value.is_none() && found.is_none() {
            return Ok(None);
        }
        state.set(name, value.map(|(value, ttl)| (value, ttl.map(|ttl| self.clock.now() + ttl))));
        Ok(Some(state.last))
    }

    /// Tells the listener every change from now on.
    pub(crate) fn listen(&self, listener: Listener) {
        self.state().listeners.push(listener);
    }

    /// Sleeps until a record expires, or until another expiry is the first. Then removes what has
    /// expired, and tells the listeners.
    pub(crate) async fn expiry(&self) {
        let mut first = self.state().first_expiry.subscribe();
        let at = *first.borrow_and_update();
        let passed = async {
            match at {
                Some(at) => self.clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = first.changed() => {}
            () = passed => {}
        }
        drop(self.state());
    }

    /// Removes what has expired, and returns the state: nobody ever sees a record past its time.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        let now = self.clock.now();
        while let Some((at, name)) = state.expiries.first()
            && at <= now
        {
            let name = name.clone();
            state.set(&name, None);
        }
        state
    }
}

impl State {
    fn set(&mut self, name: &str, value: Option<(Bytes, Option<Instant>)>) {
        self.last += 1;
        let expiry = value.as_ref().and_then(|(_, expiry)| *expiry);
        let record = value.map(|(value, _)| Record { value, number: self.last });
        self.listeners.retain(|tell| tell(name, record.as_ref(), self.last));
        let name = name.to_owned();
        let is_first_another = match expiry {
            Some(at) => self.expiries.set(name.clone(), at),
            None => self.expiries.remove(&name),
        };
        match record {
            Some(record) => self.records.insert(name, record),
            None => self.records.remove(&name),
        };
        if is_first_another {
            self.first_expiry.send_replace(self.expiries.first().map(|(at, _)| at));
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server")
    }
}
