//! One source of changes for many watches of one process.

use super::{
    Inbox, Mutex,
    watch::{self, Listed, Listing, Source, WatchState},
};
use crate::{
    Directory, Item, Key, Result, WatchEvent,
    driver::{Cursor, Page, Target, WatchStream},
};
use std::{borrow::Borrow, collections::HashMap, fmt, future::Future, hash::Hash, sync::Arc};

/// Hands the changes of a store to the watches of this process. The cost of a change is that of
/// its own watchers, whatever else is watched, and a slow reader costs the others nothing. Clones
/// are the same hub.
///
/// Publish in the order of the changes, after they are certain and before anyone is told that they
/// happened.
#[derive(Clone, Default)]
pub struct Hub(Arc<Mutex<Topics>>);

#[derive(Default)]
struct Topics {
    keys: HashMap<Key, Readers>,
    trees: HashMap<Directory, Readers>,
    holders: HashMap<Key, Readers>,
}

type Reader = Arc<Inbox<WatchEvent>>;
type Readers = Vec<Reader>;

fn bytes(event: &WatchEvent) -> usize {
    if let WatchEvent::Put(entry) = event { entry.value.len() } else { 0 }
}

fn tell(reader: &Reader, event: &WatchEvent) {
    reader.push(event.clone(), bytes(event));
}

fn readers_of<'a, K>(topics: &'a HashMap<K, Readers>, name: &str) -> impl Iterator<Item = &'a Reader>
where
    K: Borrow<str> + Eq + Hash,
{
    topics.get(name).into_iter().flatten()
}

fn leave<K: Eq + Hash>(topics: &mut HashMap<K, Readers>, name: &K, reader: &Reader) {
    if let Some(readers) = topics.get_mut(name) {
        readers.retain(|r| !Arc::ptr_eq(r, reader));
        if readers.is_empty() {
            topics.remove(name);
        }
    }
}

impl Topics {
    fn readers(&self) -> impl Iterator<Item = &Reader> {
        self.keys.values().chain(self.trees.values()).chain(self.holders.values()).flatten()
    }

    /// Does this for each reader of the key, or of a directory above it.
    fn each_of(&self, key: &Key, what: impl Fn(&Reader)) {
        readers_of(&self.keys, key.as_str()).for_each(&what);
        if !self.trees.is_empty() && !key.is_internal() {
            key.ancestors().for_each(|directory| readers_of(&self.trees, directory).for_each(&what));
        }
    }
}

impl Hub {
    /// Makes a hub that nobody listens to.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells a change of a data key to those who watch the key, or a directory above it.
    pub fn publish(&self, event: &WatchEvent) {
        if let Some(key) = event.key() {
            self.0.lock().each_of(key, |reader| tell(reader, event));
        }
    }

    /// Tells a change of the holder of a lock, as [`Target::Holder`] describes it.
    pub fn publish_holder(&self, event: &WatchEvent) {
        if let Some(name) = event.key() {
            readers_of(&self.0.lock().holders, name.as_str()).for_each(|reader| tell(reader, event));
        }
    }

    /// Has all who listen read again what is there, after the source of the changes was cut:
    /// nobody knows which changes it did not tell.
    pub fn missed(&self) {
        self.0.lock().readers().for_each(|reader| reader.lag());
    }

    /// Has the watches of this key, and of the directories above it, read again what is there: the
    /// key has changed, and the source cannot tell how.
    pub fn missed_key(&self, key: &Key) {
        self.0.lock().each_of(key, |reader| reader.lag());
    }

    /// Has the watches of the holder of this lock read again who it is.
    pub fn missed_holder(&self, name: &Key) {
        readers_of(&self.0.lock().holders, name.as_str()).for_each(|reader| reader.lag());
    }

    /// Returns a subscription to the changes of this target from now on.
    pub fn subscribe(&self, target: &Target) -> Subscription {
        let reader = Reader::default();
        let mut topics = self.0.lock();
        match target {
            Target::Key(key) => topics.keys.entry(key.clone()).or_default(),
            Target::Tree(directory) => topics.trees.entry(directory.clone()).or_default(),
            Target::Holder(name) => topics.holders.entry(name.clone()).or_default(),
        }
        .push(reader.clone());
        Subscription { hub: self.clone(), target: target.clone(), reader }
    }

    /// Tells whether anybody watches this key, or a directory above it, for backends that would do
    /// more than publish.
    pub fn is_watched(&self, key: &Key) -> bool {
        let topics = self.0.lock();
        let of_trees = || !topics.trees.is_empty() && key.ancestors().any(|d| topics.trees.contains_key(d));
        topics.keys.contains_key(key) || of_trees()
    }

    /// Tells whether anybody watches the holder of this lock.
    pub fn is_holder_watched(&self, name: &Key) -> bool {
        self.0.lock().holders.contains_key(name)
    }

    /// Counts the subscriptions, for tests that a dropped watch leaves nothing behind.
    pub fn subscribers(&self) -> usize {
        self.0.lock().readers().count()
    }

    /// Starts a whole watch under the engine: it reads what is there by `read`, page by page, then
    /// tells what changes. After [`missed`](Self::missed), and to a reader that was too slow, it
    /// tells the difference to a new reading. It listens from this call on. `backend` is for the
    /// log.
    ///
    /// The entries that `read` gives are those of the target; items without a value are left out.
    /// Of its errors, those that [last](crate::Error::is_lasting) end the watch; all others are
    /// ridden out, so that `read` need not try again.
    pub fn watch<R, F>(&self, backend: &'static str, target: &Target, read: R) -> WatchStream
    where
        R: FnMut(Option<Cursor>) -> F + Send + 'static,
        F: Future<Output = Result<Page>> + Send + 'static,
    {
        watch::start(Listening { backend, changes: self.subscribe(target), read, is_first: true })
    }
}

/// The changes of a hub, and a reader of what is there, as a source.
struct Listening<R> {
    backend: &'static str,
    changes: Subscription,
    read: R,
    /// True until the first `subscribe`: changes that wait by then were published after the watch
    /// was asked for, and are told.
    is_first: bool,
}

fn listed(item: Item) -> Option<Listed> {
    if let Item::Entry(entry) = item { Some(Listed::Entry(entry)) } else { None }
}

impl<R, F> Source for Listening<R>
where
    R: FnMut(Option<Cursor>) -> F + Send + 'static,
    F: Future<Output = Result<Page>> + Send + 'static,
{
    type Token = Cursor;

    fn backend(&self) -> &'static str {
        self.backend
    }

    /// Returns `false`: whoever publishes wakes the readers in all runtimes.
    fn is_bound(&self) -> bool {
        false
    }

    async fn subscribe(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_first) {
            self.changes.clear();
        }
        Ok(())
    }

    // This is no `async fn`: its future would hold `self`, and with it `read`, which need not be
    // `Sync`.
    fn list(
        &mut self,
        _: &WatchState,
        from: Option<&Cursor>,
    ) -> impl Future<Output = Result<Listing<Cursor>>> + Send {
        let page = (self.read)(from.cloned());
        async {
            let Page { items, next } = page.await?;
            let entries = items.into_iter().filter_map(listed).collect();
            Ok(Listing::Page { entries, position: None, next })
        }
    }

    async fn next(&mut self, _: &WatchState) -> Result<watch::Change> {
        Ok(self.changes.next().await.into())
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hub({} subscribers)", self.subscribers())
    }
}

/// The answer of [`Subscription::next`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A change.
    Event(WatchEvent),
    /// Changes were dropped, since the reader was too slow or by [`Hub::missed`]: read again what
    /// is there. The changes from here on come.
    Missed,
}

/// One reader of a [`Hub`]; dropping it ends it.
pub struct Subscription {
    hub: Hub,
    target: Target,
    reader: Reader,
}

impl Subscription {
    /// Drops the changes that wait, and the note that some were dropped, for a reader that is
    /// about to list.
    pub fn clear(&self) {
        self.reader.clear();
    }

    /// Waits for the next change. Cancel safe.
    pub async fn next(&mut self) -> Change {
        match self.reader.next().await {
            Ok(Some(event)) => Change::Event(event),
            // Nobody ends the inbox of a hub.
            Ok(None) | Err(_) => Change::Missed,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut topics = self.hub.0.lock();
        match &self.target {
            Target::Key(key) => leave(&mut topics.keys, key, &self.reader),
            Target::Tree(directory) => leave(&mut topics.trees, directory, &self.reader),
            Target::Holder(name) => leave(&mut topics.holders, name, &self.reader),
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("target", &self.target).finish_non_exhaustive()
    }
}
