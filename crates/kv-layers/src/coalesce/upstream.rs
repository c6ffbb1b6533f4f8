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
use tokio::{runtime::Handle, task::coop::consume_budget};

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

/// The watches of one store, of each target one.
pub(super) struct Upstreams {
    pub(super) store: Arc<dyn Store>,
    pub(super) hashes: RandomState,
    open: Mutex<HashMap<Target, Weak<Upstream>>>,
}

impl Upstreams {
    pub(super) fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { store, hashes: RandomState::new(), open: Mutex::default() })
    }

    /// Joins the watch of this target, or begins it; `None` outside of a runtime, where nothing
    /// could read it.
    pub(super) fn join(&self, target: &Target, options: &WatchOptions) -> Option<Link> {
        let runtime = Handle::try_current().ok()?;
        let mut open = self.open.lock();
        let there = open.get(target).and_then(Weak::upgrade);
        if let Some(link) = there.and_then(Link::of) {
            return Some(link);
        }
        if open.len() == open.capacity() {
            open.retain(|_, upstream| upstream.strong_count() > 0);
        }
        let state = Arc::new(State { told: Mutex::default(), hashes: self.hashes.clone() });
        let over = Over(state.clone());
        let task = runtime.spawn(follow(over, self.store.clone(), target.clone(), options.clone()));
        let upstream = Arc::new(Upstream { state, task: AbortOnDrop::new(task.abort_handle()) });
        open.insert(target.clone(), Arc::downgrade(&upstream));
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
    task: AbortOnDrop,
}

/// What a watch and its readers share.
struct State {
    told: Mutex<Told>,
    hashes: RandomState,
}

#[derive(Default)]
struct Told {
    fold: Fold,
    /// All that was there has been told, by the stream that is read now.
    is_synced: bool,
    is_over: bool,
    readers: Vec<Arc<Inbox<WatchEvent>>>,
}

impl State {
    /// Hands an event to all readers. The fold and the inboxes change in one step, so that a
    /// reader that looks at the fold knows which events are still to come.
    fn tell(&self, event: &WatchEvent) {
        let mut told = self.told.lock();
        told.fold.apply(event, &self.hashes);
        told.is_synced |= *event == WatchEvent::Synced;
        let bytes = if let WatchEvent::Put(entry) = event { entry.value.len() } else { 0 };
        told.readers.iter().for_each(|reader| reader.push(event.clone(), bytes));
    }

    /// Notes that another stream is read from now on: nobody knows what was not told in between.
    fn begin_anew(&self) {
        let mut told = self.told.lock();
        (told.fold, told.is_synced) = (Fold::default(), false);
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

    /// Tells whether the watch has come to what this fold has. If so, the events that come are
    /// those from here on.
    pub(super) fn is_at(&self, fold: &Fold) -> bool {
        let told = self.upstream.state.told.lock();
        let is_at = !told.is_over && told.is_synced && told.fold.is_like(fold);
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
        if told.is_over || !told.is_synced || told.fold.len() != many {
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
