//! One source of changes for many watches of one process.

use super::{Told, lock, stream};
use crate::{Cursor, Item, Key, Page, Result, Target, WatchEvent, WatchStream};
use std::{
    borrow::Borrow,
    collections::{HashMap, VecDeque},
    fmt,
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex},
};
use tokio::sync::Notify;

/// How many events, and how many bytes of values in them, wait for a slow reader before they are dropped and the reader
/// has to list again.
const MOST_EVENTS: usize = 4096;
const MOST_BYTES: usize = 1 << 20;

/// Hands the changes of a store to the watches of this process: a change costs its own watchers, whatever else is
/// watched, and a slow reader costs the others nothing. Clones are the same hub.
///
/// Publish in the order of the changes, after they are certain and before anyone is told that they happened.
#[derive(Clone, Default)]
pub struct Hub(Arc<Mutex<Topics>>);

#[derive(Default)]
struct Topics {
    keys: HashMap<Key, Readers>,
    trees: HashMap<crate::Directory, Readers>,
    holders: HashMap<Key, Readers>,
}

type Readers = Vec<Arc<Reader>>;

#[derive(Default)]
struct Reader {
    queue: Mutex<Queue>,
    news: Notify,
}

#[derive(Default)]
struct Queue {
    events: VecDeque<WatchEvent>,
    bytes: usize,
    missed: bool,
}

impl Queue {
    fn missed() -> Self {
        Self { missed: true, ..Self::default() }
    }
}

fn bytes(event: &WatchEvent) -> usize {
    if let WatchEvent::Put(entry) = event { entry.value.len() } else { 0 }
}

impl Reader {
    fn push(&self, event: &WatchEvent) {
        let mut queue = lock(&self.queue);
        if queue.missed {
            return;
        }
        // One event always fits, however large.
        let full = queue.events.len() >= MOST_EVENTS || queue.bytes + bytes(event) > MOST_BYTES;
        if full && !queue.events.is_empty() {
            *queue = Queue::missed();
        } else {
            queue.bytes += bytes(event);
            queue.events.push_back(event.clone());
        }
        drop(queue);
        self.news.notify_one();
    }
}

fn tell<K: Borrow<str> + Eq + Hash>(topics: &HashMap<K, Readers>, name: &str, event: &WatchEvent) {
    for reader in topics.get(name).into_iter().flatten() {
        reader.push(event);
    }
}

fn leave<K: Eq + Hash>(topics: &mut HashMap<K, Readers>, name: &K, reader: &Arc<Reader>) {
    if let Some(readers) = topics.get_mut(name) {
        readers.retain(|r| !Arc::ptr_eq(r, reader));
        if readers.is_empty() {
            topics.remove(name);
        }
    }
}

impl Topics {
    fn readers(&self) -> impl Iterator<Item = &Arc<Reader>> {
        self.keys.values().chain(self.trees.values()).chain(self.holders.values()).flatten()
    }
}

impl Hub {
    /// A hub that nobody listens to.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells a change of a data key to those who watch it, or a directory above it.
    pub fn publish(&self, event: &WatchEvent) {
        let Some(key) = event.key() else { return };
        let topics = lock(&self.0);
        tell(&topics.keys, key.as_str(), event);
        if !topics.trees.is_empty() && !key.is_internal() {
            for directory in key.ancestors() {
                tell(&topics.trees, directory, event);
            }
        }
    }

    /// Tells a change of the holder of a lock, as [`Target::Holder`] describes it.
    pub fn publish_holder(&self, event: &WatchEvent) {
        if let Some(name) = event.key() {
            tell(&lock(&self.0).holders, name.as_str(), event);
        }
    }

    /// Has all who listen read again what is there: the source of the changes was cut, and nobody knows what it did not
    /// tell.
    pub fn missed(&self) {
        for reader in lock(&self.0).readers() {
            *lock(&reader.queue) = Queue::missed();
            reader.news.notify_one();
        }
    }

    /// Listens from now on.
    pub fn subscribe(&self, target: &Target) -> Subscription {
        let reader = Arc::new(Reader::default());
        let mut topics = lock(&self.0);
        match target {
            Target::Key(key) => topics.keys.entry(key.clone()).or_default(),
            Target::Tree(directory) => topics.trees.entry(directory.clone()).or_default(),
            Target::Holder(name) => topics.holders.entry(name.clone()).or_default(),
        }
        .push(reader.clone());
        Subscription { hub: self.clone(), target: target.clone(), reader }
    }

    /// Whether anybody watches this key, or a directory above it: for backends that would do more than publish.
    pub fn is_watched(&self, key: &Key) -> bool {
        let topics = lock(&self.0);
        let of_trees = || !topics.trees.is_empty() && key.ancestors().any(|d| topics.trees.contains_key(d));
        topics.keys.contains_key(key) || of_trees()
    }

    /// Whether anybody watches the holder of this lock.
    pub fn is_holder_watched(&self, name: &Key) -> bool {
        lock(&self.0).holders.contains_key(name)
    }

    /// How many listen, for tests that a dropped watch leaves nothing behind.
    pub fn subscribers(&self) -> usize {
        lock(&self.0).readers().count()
    }

    /// A whole watch: subscribes, reads what is there by `read`, page by page, then tells what changes; who was too
    /// slow gets the difference to a new reading.
    ///
    /// The entries that `read` gives are those of the target; items without a value are left out.
    pub fn watch<R, F>(&self, target: &Target, mut read: R) -> WatchStream
    where
        R: FnMut(Option<Cursor>) -> F + Send + 'static,
        F: Future<Output = Result<Page>> + Send + 'static,
    {
        let mut news = self.subscribe(target);
        stream(|out| async move {
            let mut told = Told::default();
            loop {
                told.relist();
                let mut from = None;
                loop {
                    let page = read(from).await?;
                    for item in page.items {
                        let Item::Entry(entry) = item else { continue };
                        for event in told.listed(entry) {
                            out.send(event).await;
                        }
                    }
                    from = page.next;
                    if from.is_none() {
                        break;
                    }
                }
                for event in told.rest() {
                    out.send(event).await;
                }
                out.send(WatchEvent::Synced).await;
                while let Change::Event(event) = news.next().await {
                    if let Some(event) = told.change(event) {
                        out.send(event).await;
                    }
                }
            }
        })
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hub({} subscribers)", self.subscribers())
    }
}

/// What a [`Subscription`] gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A change.
    Event(WatchEvent),
    /// Changes were dropped, since the reader was too slow or by [`Hub::missed`]: read again what is there. Changes from
    /// here on come.
    Missed,
}

/// One reader of a [`Hub`]; dropping it ends it.
pub struct Subscription {
    hub: Hub,
    target: Target,
    reader: Arc<Reader>,
}

impl Subscription {
    /// The next change. Cancel safe.
    pub async fn next(&mut self) -> Change {
        loop {
            {
                let mut queue = lock(&self.reader.queue);
                if std::mem::take(&mut queue.missed) {
                    return Change::Missed;
                }
                if let Some(event) = queue.events.pop_front() {
                    queue.bytes -= bytes(&event);
                    return Change::Event(event);
                }
            }
            self.reader.news.notified().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut topics = lock(&self.hub.0);
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
