//! Lists for a watch, and passes on what the server says to have changed, by kv-core's engine.

pub(crate) mod feed;

use crate::{
    client::connection::Gone,
    core::Core,
    error::failed,
    list::{self, read::look_one},
    lock::holder,
};
use feed::{Armed, Feed};
use futures::StreamExt;
use kv_core::{
    Entry, Error, ErrorKind, Item, Result, Version,
    backend::{Mutex, stream},
    driver::{Cursor, Deadline, ListOptions, Page, ReadOptions, Target, WatchOptions, WatchStream},
};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use zookeeper_client::{AddWatchMode, EventType, PersistentWatcher};

/// Entries of ended watches are removed whenever there are a multiple of this number.
const MOST_WATCHES: usize = 1024;

async fn forward(feed: Feed, mut watcher: PersistentWatcher, gone: Gone) {
    while let Some(event) = gone.unless(watcher.changed()).await {
        match event.event_type {
            EventType::Session => return,
            kind => feed.changed(&event.path, kind == EventType::NodeDeleted),
        }
    }
}

/// Makes the stream of a watch: [`Store::watch`](kv_core::driver::Store::watch).
pub(crate) fn watch(core: Arc<Core>, target: &Target, options: &WatchOptions) -> WatchStream {
    let reading = Arc::new(Reading {
        core: core.clone(),
        target: target.clone(),
        each_request: options.each_request,
        armed: Mutex::default(),
    });
    let read = move |from: Option<Cursor>| {
        let reading = reading.clone();
        async move { reading.page(from.as_ref()).await }
    };
    let events = core.feed.hub().watch("zookeeper", target, read);
    kept(core, events)
}

/// Has the connection kept in the runtime that polls the watch, when the earlier runtime has
/// ended: there may be no call that would do it.
fn kept(core: Arc<Core>, mut events: WatchStream) -> WatchStream {
    stream(|out| async move {
        loop {
            let event = tokio::select! {
                biased;
                event = events.next() => event,
                () = core.client.home_gone() => {
                    if core.client.revive() {
                        continue;
                    }
                    events.next().await
                }
            };
            match event {
                Some(event) => out.send(event?).await,
                None => return Ok(()),
            }
        }
    })
}

/// The reads of one watch, and the server's watch behind them.
struct Reading {
    core: Arc<Core>,
    target: Target,
    each_request: Duration,
    armed: Mutex<Option<Arc<Armed>>>,
}

impl Reading {
    /// Reads a page of the target. Before the first page, the server's watch is set.
    async fn page(&self, from: Option<&Cursor>) -> Result<Page> {
        let (core, deadline) = (&*self.core, Deadline::after(self.each_request));
        if from.is_none() {
            self.arm(deadline).await?;
        }
        let read = ReadOptions::default().deadline(deadline);
        let entry = match &self.target {
            Target::Tree(directory) => {
                return list::page(core, directory, from, &ListOptions::default().read(read)).await;
            }
            Target::Key(key) => look_one(core, key, &read).await?.entry(key),
            Target::Holder(name) => {
                let holder = holder::holder(core, name, &read).await?;
                holder.map(|now| Entry::new(name.clone(), now.value, Version::new(now.token, 0)))
            }
        };
        Ok(Page { items: entry.map(Item::Entry).into_iter().collect(), next: None })
    }

    /// Sets the server's watch of the node on the current connection, unless this or another
    /// stream has set it.
    async fn arm(&self, deadline: Deadline) -> Result<()> {
        let core = &*self.core;
        let connection = core.client.link(deadline).await?;
        let is_armed = |armed: &Option<Arc<Armed>>| {
            armed.as_ref().is_some_and(|armed| armed.generation == connection.generation)
        };
        if is_armed(&self.armed.lock()) {
            return Ok(());
        }
        let path = match &self.target {
            Target::Tree(directory) => core.names.directory(directory),
            Target::Key(key) => core.names.key(key),
            Target::Holder(name) => core.names.queue(name),
        };
        let shared = core.feed.armed().get(&path).and_then(Weak::upgrade);
        if is_armed(&shared) {
            *self.armed.lock() = shared;
            return Ok(());
        }
        let watching = connection.session.watch(&path, AddWatchMode::PersistentRecursive);
        let watcher = match deadline.limit(watching).await {
            Some(Ok(watcher)) => watcher,
            Some(Err(e)) => return Err(failed(e).error),
            None => return Err(Error::new(ErrorKind::Timeout, "the server did not take the watch in time")),
        };
        let task = core.client.spawn(forward(core.feed.clone(), watcher, connection.gone()));
        let watch = Arc::new(Armed::new(connection.generation, task));
        let mut all = core.feed.armed();
        if all.len() >= MOST_WATCHES && all.len().is_multiple_of(MOST_WATCHES) {
            all.retain(|_, watch| watch.strong_count() > 0);
        }
        all.insert(path, Arc::downgrade(&watch));
        drop(all);
        *self.armed.lock() = Some(watch);
        Ok(())
    }
}
