//! The watches of the store below, which readers share.

use super::fold::Fold;
use kv_core::{
    Error, ErrorKind, Key, Result, Version, WatchEvent,
    backend::{AbortOnDrop, Backoff, Inbox, Mutex},
    driver::{Store, Target, WatchOptions, WatchStream},
};
use std::{
    collections::HashMap,
    fmt,
    future::poll_fn,
    hash::RandomState,
    mem,
    sync::{Arc, Weak},
};
use tokio::{
    runtime::{Handle, Id},
    task::coop::consume_budget,
};

/// Returns the next event of a watch.
///
/// # Errors
/// The end of the watch.
pub(super) async fn next(changes: &mut WatchStream) -> Result<WatchEvent> {
    match poll_fn(|cx| changes.as_mut().poll_next(cx)).await {
        Some(event) => event,
        None => Err(Error::new(ErrorKind::Other, "the store ended the watch without a reason")),
    }
}

/// The watches of one store: of each target one in each runtime, since one that stands still would
/// hold up the readers in the others.
pub(super) struct Upstreams {
    pub(super) store: Arc<dyn Store>,
    pub(super) hashes: RandomState,
    open: Mutex<HashMap<(Id, Target), Weak<Upstream>>>,
}

impl Upstreams {
    pub(super) fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { store, hashes: RandomState::new(), open: Mutex::default() })
    }

    /// Joins the watch of this target, or begins it; `None` outside of a runtime, where nothing
    /// could read it.
    pub(super) fn join(&self, target: &Target, options: &WatchOptions) -> Option<Link> {
        let runtime = Handle::try_current().ok()?;
        let (mut open, place) = (self.open.lock(), (runtime.id(), target.clone()));
        let there = open.get(&place).and_then(Weak::upgrade);
        if let Some(link) = there.and_then(Link::of) {
            return Some(link);
        }
        if open.len() == open.capacity() {
            open.retain(|_, upstream| upstream.strong_count() > 0);
        }
        let state = Arc::new(State { told: Mutex::default(), hashes: self.hashes.clone() });
        let over = Over(state.clone());
        let task = runtime.spawn(follow(over, self.store.clone(), target.clone(), options.clone()));
        let task = AbortOnDrop::new(task.abort_handle());
        let upstream = Arc::new(Upstream { state, runtime: runtime.id(), task });
        open.insert(place, Arc::downgrade(&upstream));
        Link::of(upstream)
    }

    /// Ends all watches.
    pub(super) fn close(&self) {
        let open = mem::take(&mut *self.open.lock());
        for upstream in open.into_values().filter_map(|upstream| upstream.upgrade()) {
            upstream.state.end(Some(&Error::new(ErrorKind::Closed, "the store was closed")));
            upstream.task.abort();
        }
    }
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.open.lock().values().filter(|upstream| upstream.strong_count() > 0).count();
        write!(f, "Upstreams({open} open)")
    }
}

/// One watch of the store below; it ends with the last reader.
struct Upstream {
    state: Arc<State>,
    /// The runtime that reads it.
    runtime: Id,
    task: AbortOnDrop,
}

/// The state that a watch and its readers share.
struct State {
    told: Mutex<Told>,
    hashes: RandomState,
}

#[derive(Default)]
struct Told {
    /// The fold of the events of the stream that is read now.
    fold: Fold,
    is_over: bool,
    readers: Vec<Arc<Inbox<WatchEvent>>>,
}

impl State {
    /// Hands an event to all readers. The fold and the inboxes change in one step, so that a
    /// reader that looks at the fold knows which events are still to come.
    fn tell(&self, event: &WatchEvent) {
        let mut told = self.told.lock();
        told.fold.apply(event, &self.hashes);
        let bytes = if let WatchEvent::Put(entry) = event { entry.value.len() } else { 0 };
        told.readers.iter().for_each(|reader| reader.push(event.clone(), bytes));
    }

    /// Notes that another stream is read from now on: nobody knows what was not told in between.
    fn begin_anew(&self) {
        let mut told = self.told.lock();
        told.fold = Fold::default();
        told.readers.iter().for_each(|reader| reader.lag());
    }

    /// Notes that there will be no more events, for this reason, or because the runtime has ended.
    fn end(&self, error: Option<&Error>) {
        let mut told = self.told.lock();
        if mem::replace(&mut told.is_over, true) {
            return;
        }
        for reader in told.readers.drain(..) {
            match error {
                Some(error) => reader.end(error.clone()),
                None => reader.lag(),
            }
        }
    }
}

/// Notes the end of the task, also when its runtime ends.
struct Over(Arc<State>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.end(None);
    }
}

/// Reads the watch, and begins it anew after an error that does not last.
async fn follow(over: Over, store: Arc<dyn Store>, target: Target, options: WatchOptions) {
    let mut pauses = Backoff::default();
    loop {
        let error = read(&over.0, &store, &target, &options, &mut pauses).await;
        if error.is_lasting() {
            return over.0.end(Some(&error));
        }
        over.0.begin_anew();
        pauses.pause().await;
    }
}

/// Reads one stream to its end, and returns the reason for that.
async fn read(
    state: &State,
    store: &Arc<dyn Store>,
    target: &Target,
    options: &WatchOptions,
    pauses: &mut Backoff,
) -> Error {
    let mut changes = match store.as_ref().watch(target, options).await {
        Ok(changes) => changes,
        Err(e) => return e,
    };
    loop {
        // A store that always has an event at once would never let other tasks run.
        consume_budget().await;
        match next(&mut changes).await {
            Ok(event) => {
                pauses.reset();
                state.tell(&event);
            }
            Err(e) => return e,
        }
    }
}

/// A reader's part in a watch, which ends when this is dropped.
pub(super) struct Link {
    upstream: Arc<Upstream>,
    inbox: Arc<Inbox<WatchEvent>>,
}

impl Link {
    /// Joins a watch; `None` for one that is over.
    fn of(upstream: Arc<Upstream>) -> Option<Self> {
        let inbox = Arc::<Inbox<_>>::default();
        {
            let mut told = upstream.state.told.lock();
            if told.is_over {
                return None;
            }
            told.readers.push(inbox.clone());
        }
        Some(Self { upstream, inbox })
    }

    /// Waits for the next event; `None` when events were dropped. Cancel safe.
    ///
    /// # Errors
    /// The reason for which the watch is over.
    pub(super) async fn next(&self) -> Result<Option<WatchEvent>> {
        self.inbox.next().await
    }

    pub(super) fn is_over(&self) -> bool {
        self.upstream.state.told.lock().is_over
    }

    /// Tells whether another runtime reads the watch than the one that asks.
    pub(super) fn is_elsewhere(&self) -> bool {
        Handle::try_current().is_ok_and(|here| here.id() != self.upstream.runtime)
    }

    /// Tells whether the watch is where another one is that has told this. If so, the events that
    /// come are those from here on.
    ///
    /// The same keys and versions alone do not show that: what was put and has ended leaves nothing
    /// behind, and would be told again, or never. It takes a change that both have told last, where
    /// changes come in one order; without any, a moment in which neither told anything.
    pub(super) fn is_at(&self, fold: &Fold, is_ordered: bool, is_quiet: bool) -> bool {
        let told = self.upstream.state.told.lock();
        let is_there = match fold.last() {
            None => is_quiet,
            last => (is_ordered || is_quiet) && told.fold.last() == last,
        };
        let is_synced = fold.is_synced() && told.fold.is_synced();
        let is_at = !told.is_over && is_synced && is_there && told.fold.is_like(fold);
        if is_at {
            self.inbox.clear();
        }
        is_at
    }

    /// Returns what is there, if it is these many keys, at the versions that `delivered` says. If
    /// so, the events that come are those from here on.
    pub(super) fn is_as(
        &self,
        many: usize,
        delivered: impl Fn(&Key) -> Option<Version>,
    ) -> Option<Vec<(Key, Version)>> {
        let told = self.upstream.state.told.lock();
        if told.is_over || !told.fold.is_synced() || told.fold.len() != many {
            return None;
        }
        let there = told
            .fold
            .iter()
            .map(|(key, version)| (delivered(key) == Some(version)).then(|| (key.clone(), version)));
        let there = there.collect::<Option<Vec<_>>>()?;
        self.inbox.clear();
        Some(there)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let mut told = self.upstream.state.told.lock();
        told.readers.retain(|reader| !Arc::ptr_eq(reader, &self.inbox));
    }
}
