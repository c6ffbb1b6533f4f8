//! The server of this template and its client crate in one: a map in this process. Delete this file when you have put
//! your own client in its place; nothing else of the template knows how it works.

use kv_core::{
    Bytes, Result, Version,
    backend::{Clock, Instant},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

/// A value with its number and the end of its life.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) value: Bytes,
    pub(crate) number: u64,
    due: Option<Instant>,
}

/// Hears of every change, in order: the name, the new record or `None`, the number of the change. `false` when it has
/// left.
type Listener = Box<dyn Fn(&str, Option<&Record>, u64) -> bool + Send>;

#[derive(Default)]
struct State {
    records: BTreeMap<String, Record>,
    due: BTreeSet<(Instant, String)>,
    /// The soonest of `due`, for who sleeps until then.
    soonest: watch::Sender<Option<Instant>>,
    /// The number of the last change: it only grows, also over deletions.
    last: u64,
    listeners: Vec<Listener>,
}

#[derive(Default)]
pub(crate) struct Server {
    state: Mutex<State>,
    clock: Clock,
}

impl Server {
    /// The server of this name, made when it is first asked for; its data outlive its clients.
    pub(crate) fn connect(name: &str) -> Arc<Self> {
        static SERVERS: Mutex<Option<HashMap<String, Arc<Server>>>> = Mutex::new(None);
        let mut servers = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
        servers.get_or_insert_default().entry(name.to_owned()).or_default().clone()
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn get(&self, name: &str) -> Option<Record> {
        self.state().records.get(name).cloned()
    }

    /// All records whose names begin with this, in the order of their names.
    pub(crate) fn range(&self, start: &str) -> Vec<(String, Record)> {
        let state = self.state();
        let range = state.records.range::<str, _>((Bound::Included(start), Bound::Unbounded));
        range.take_while(|(name, _)| name.starts_with(start)).map(|(n, r)| (n.clone(), r.clone())).collect()
    }

    /// Puts a value, or deletes with `None`, if what is there passes the check; the number of the change, `None` when
    /// there was nothing to delete.
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

    /// Has the listener hear of every change from now on.
    pub(crate) fn listen(&self, listener: Listener) {
        self.state().listeners.push(listener);
    }

    /// Sleeps until a record expires, or until another moment is the soonest; what has expired is gone then, and told.
    pub(crate) async fn expiry(&self) {
        let mut soonest = self.state().soonest.subscribe();
        let due = *soonest.borrow_and_update();
        let passed = async {
            match due {
                Some(due) => self.clock.sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = soonest.changed() => {}
            () = passed => {}
        }
        drop(self.state());
    }

    /// The state without what has expired: nobody ever sees a record past its time.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        while let Some((_, name)) = state.due.first().filter(|(due, _)| *due <= now).cloned() {
            state.set(&name, None);
        }
        state
    }
}

impl State {
    fn set(&mut self, name: &str, value: Option<(Bytes, Option<Instant>)>) {
        self.last += 1;
        let record = value.map(|(value, due)| Record { value, number: self.last, due });
        self.listeners.retain(|tell| tell(name, record.as_ref(), self.last));
        if let Some(due) = record.as_ref().and_then(|r| r.due) {
            self.due.insert((due, name.to_owned()));
        }
        let before = match record {
            Some(record) => self.records.insert(name.to_owned(), record),
            None => self.records.remove(name),
        };
        if let Some(due) = before.and_then(|r| r.due) {
            self.due.remove(&(due, name.to_owned()));
        }
        let soonest = self.due.first().map(|(due, _)| *due);
        self.soonest.send_if_modified(|at| std::mem::replace(at, soonest) != soonest);
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server")
    }
}
