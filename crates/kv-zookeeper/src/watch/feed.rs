//! Reads changed nodes, once for all watches of a handle: the server's events only name the node.

use crate::{
    client::{
        connection::Connection,
        multi::{Ask, Got, request, request_each},
        node::{Mark, Node, gone_at},
    },
    lock::order::first,
    names::{Named, Names, parent},
};
use kv_core::{
    Entry, Key, WatchEvent,
    backend::{AbortOnDrop, Hub, Mutex},
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, MutexGuard, Weak},
};
use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinHandle},
};
use zookeeper_client::Error as ClientError;

/// The most changed names that wait to be read. Beyond it all watches have to list again.
const MOST: usize = 16 << 10;
/// The most keys that are read at once.
const AT_ONCE: usize = 32;

/// The changes that were not read yet, and the watches that are told of them.
#[derive(Clone)]
pub(crate) struct Feed(Arc<Shared>);

struct Shared {
    names: Names,
    hub: Hub,
    changed: Mutex<Changed>,
    news: Notify,
    /// The server's watches, by their node: one for all streams that watch the same node.
    armed: Mutex<HashMap<String, Weak<Armed>>>,
}

#[derive(Default)]
struct Changed {
    /// The changed keys, each with whether its node was seen to be deleted.
    keys: HashMap<Key, bool>,
    locks: HashSet<Key>,
}

/// The server's watch of one node, on one connection.
pub(crate) struct Armed {
    pub(crate) generation: u64,
    _task: AbortOnDrop,
}

impl Armed {
    /// Keeps the task that takes the server's events, as long as this lives.
    pub(crate) fn new(generation: u64, task: AbortHandle) -> Self {
        Self { generation, _task: AbortOnDrop::new(task) }
    }
}

/// The task that reads changes on one connection. Dropping this ends it.
pub(crate) struct Following(JoinHandle<()>);

impl Following {
    /// Ends the task, and waits until it publishes nothing more.
    pub(crate) async fn end(mut self) {
        self.0.abort();
        let _ = (&mut self.0).await;
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Feed {
    pub(crate) fn new(names: Names) -> Self {
        let (hub, changed, news, armed) = (Hub::new(), Mutex::default(), Notify::new(), Mutex::default());
        Self(Arc::new(Shared { names, hub, changed, news, armed }))
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.0.hub
    }

    /// Returns the server's watches, by their node.
    pub(crate) fn armed(&self) -> MutexGuard<'_, HashMap<String, Weak<Armed>>> {
        self.0.armed.lock()
    }

    /// Reads changes on this connection, as long as the result lives.
    pub(crate) fn follow(&self, connection: &Arc<Connection>) -> Following {
        let (feed, connection) = (self.clone(), connection.clone());
        Following(tokio::spawn(async move { feed.read(connection).await }))
    }

    /// Has all watches list again: the connection is gone, and with it the events that it would
    /// have brought.
    pub(crate) fn missed(&self) {
        *self.0.changed.lock() = Changed::default();
        self.0.hub.missed();
    }

    /// Notes that the server sent an event of this node. The watch of one node tells of all nodes
    /// below it as well, also of those that nobody here watches.
    pub(crate) fn changed(&self, path: &str, gone: bool) {
        let Some(named) = self.0.names.parse(path) else { return };
        let is_watched = match &named {
            Named::Key(key) => self.0.hub.is_watched(key),
            Named::Lock(name) => self.0.hub.is_holder_watched(name),
        };
        if !is_watched {
            return;
        }
        let mut changed = self.0.changed.lock();
        match named {
            Named::Key(key) => {
                // The mark of a key may be deleted while the key stays.
                *changed.keys.entry(key).or_default() |= gone;
            }
            Named::Lock(name) => drop(changed.locks.insert(name)),
        }
        if changed.keys.len() + changed.locks.len() > MOST {
            *changed = Changed::default();
            drop(changed);
            self.0.hub.missed();
            return;
        }
        drop(changed);
        self.0.news.notify_one();
    }

    /// Takes some of the changes: keys, and one lock.
    fn take(&self) -> (Vec<(Key, bool)>, Option<Key>) {
        let mut changed = self.0.changed.lock();
        let keys: Vec<_> = changed.keys.keys().take(AT_ONCE).cloned().collect();
        let keys = keys.into_iter().filter_map(|key| changed.keys.remove_entry(&key)).collect();
        let name = changed.locks.iter().next().cloned();
        if let Some(name) = &name {
            changed.locks.remove(name);
        }
        (keys, name)
    }

    async fn read(&self, connection: Arc<Connection>) {
        loop {
            let (keys, name) = self.take();
            if keys.is_empty() && name.is_none() {
                self.0.news.notified().await;
                continue;
            }
            let read = async {
                if !keys.is_empty() {
                    self.read_keys(&connection, &keys).await?;
                }
                if let Some(name) = &name {
                    match first(&connection, &self.0.names, name).await {
                        Ok(now) => match now.event(name) {
                            Some(event) => self.0.hub.publish_holder(&event),
                            // A listing ends what it does not show, whatever its version.
                            None => self.0.hub.missed_holder(name),
                        },
                        Err(ClientError::NoAuth) => self.0.hub.missed_holder(name),
                        Err(e) => return Err(e),
                    }
                }
                Ok::<_, ClientError>(())
            };
            if let Err(e) = read.await {
                // A connection that is lost is replaced.
                tracing::debug!(error = %e, "what changed could not be read");
                self.0.hub.missed();
            }
        }
    }

    /// Reads these keys, each with whether its node was seen to be deleted, and tells what they
    /// are now. Where something of a key may not be read, its watches alone list again, and are
    /// told then what they may not read.
    async fn read_keys(&self, connection: &Connection, keys: &[(Key, bool)]) -> Result<(), ClientError> {
        let names = &self.0.names;
        let mut asks = Vec::with_capacity(keys.len() * 3);
        for (key, gone) in keys {
            let path = names.key(key);
            if *gone {
                // The stat of the parent tells the zxid of the deletion. It is read first, so that
                // it is no later than what is read of the node.
                asks.push(Ask::Data(parent(&path).to_owned()));
            }
            asks.extend(Ask::marked(path));
        }
        let mut got = request_each(connection, &asks).await?.into_iter();
        let mut next = || got.next().unwrap_or(Ok(Got::Nothing));
        for (key, gone) in keys {
            let parent = if *gone { next() } else { Ok(Got::Nothing) };
            match self.now(connection, key, parent, next(), next()).await {
                Ok(event) => self.0.hub.publish(&event),
                Err(ClientError::NoAuth) => self.0.hub.missed_key(key),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Returns the event of a key, by what was read of its parent, its node and its mark.
    async fn now(
        &self,
        connection: &Connection,
        key: &Key,
        parent: Result<Got, ClientError>,
        node: Result<Got, ClientError>,
        mark: Result<Got, ClientError>,
    ) -> Result<WatchEvent, ClientError> {
        if let Some(event) = event(key, node?, mark?) {
            return Ok(event);
        }
        match parent? {
            Got::Data(_, stat) => Ok(WatchEvent::Delete { key: key.clone(), version: gone_at(stat.pzxid) }),
            _ => self.gone(connection, key).await,
        }
    }

    /// Returns the event of a node whose parent was deleted too, or was not asked for: the zxid of
    /// the deletion comes from the nearest ancestor that exists.
    async fn gone(&self, connection: &Connection, key: &Key) -> Result<WatchEvent, ClientError> {
        let path = self.0.names.key(key);
        let mut above = parent(&path);
        loop {
            let [node, mark] = Ask::marked(path.clone());
            let asks = [Ask::Data(above.to_owned()), node, mark];
            let mut got = request(connection, &asks).await?.into_iter();
            let mut next = || got.next().unwrap_or(Got::Nothing);
            let above_it = next();
            if let Some(event) = event(key, next(), next()) {
                return Ok(event);
            }
            if let Got::Data(_, stat) = above_it {
                return Ok(WatchEvent::Delete { key: key.clone(), version: gone_at(stat.pzxid) });
            }
            if above == "/" {
                return Err(ClientError::NoNode);
            }
            above = parent(above);
        }
    }
}

/// Returns the event of a node that exists; `None` if it does not.
fn event(key: &Key, node: Got, mark: Got) -> Option<WatchEvent> {
    let Got::Data(value, stat) = node else { return None };
    let node = Node::new(value.is_empty(), &stat, Mark::of(&mark));
    Some(match node.at() {
        Some(at) => WatchEvent::Put(Entry::new(key.clone(), value, at)),
        // The node has been a directory since that version.
        None => WatchEvent::Delete { key: key.clone(), version: node.at },
    })
}
