//! Lists for a watch, and passes on what the server says to have changed, by kv-core's engine.

pub(crate) mod feed;

use crate::{
    client::{Place, connection::Gone},
    core::Core,
    error::failed,
    list::{self, read::look_one},
    lock::holder,
};
use feed::{Armed, Feed};
use kv_core::{
    Error, ErrorKind, Item, Result,
    backend::{
        Subscription,
        watch::{self, Change, Listed, Listing, Source, WatchState},
    },
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
    let (target, each_request) = (target.clone(), options.each_request);
    watch::start(Watched { core, target, each_request, following: None })
}

/// The reads of one watch, and the changes that it follows.
struct Watched {
    core: Arc<Core>,
    target: Target,
    each_request: Duration,
    following: Option<Following>,
}

/// The changes that one runtime tells, and the server's watch behind them.
struct Following {
    place: Arc<Place>,
    changes: Subscription,
    armed: Option<Arc<Armed>>,
}

impl Source for Watched {
    type Token = Cursor;

    fn backend(&self) -> &'static str {
        "zookeeper"
    }

    async fn subscribe(&mut self) -> Result<()> {
        let place = self.core.client.here()?;
        match &self.following {
            Some(following) if Arc::ptr_eq(&following.place, &place) => following.changes.clear(),
            _ => {
                let changes = place.feed.hub().subscribe(&self.target);
                self.following = Some(Following { place, changes, armed: None });
            }
        }
        Ok(())
    }

    async fn list(&mut self, _: &WatchState, from: Option<&Cursor>) -> Result<Listing<Cursor>> {
        let Page { items, next } = self.page(from).await?;
        let listed = |item| if let Item::Entry(entry) = item { Some(Listed::Entry(entry)) } else { None };
        Ok(Listing::Page { entries: items.into_iter().filter_map(listed).collect(), position: None, next })
    }

    async fn next(&mut self, _: &WatchState) -> Result<Change> {
        let Some(Following { place, changes, .. }) = &mut self.following else { return Ok(Change::Lagged) };
        tokio::select! {
            biased;
            change = changes.next() => Ok(change.into()),
            () = place.home.gone() => Ok(Change::Lagged),
        }
    }
}

impl Watched {
    /// Reads a page of the target. Before the first page, the server's watch is set.
    async fn page(&mut self, from: Option<&Cursor>) -> Result<Page> {
        let deadline = Deadline::after(self.each_request);
        if from.is_none() {
            self.arm(deadline).await?;
        }
        let (core, read) = (&*self.core, ReadOptions::default().deadline(deadline));
        let entry = match &self.target {
            Target::Tree(directory) => {
                return list::page(core, directory, from, &ListOptions::default().read(read)).await;
            }
            Target::Key(key) => look_one(core, key, &read).await?.entry(key),
            Target::Holder(name) => {
                let holder = holder::holder(core, name, &read).await?;
                holder.map(|now| now.entry(name.clone()))
            }
        };
        Ok(Page { items: entry.map(Item::Entry).into_iter().collect(), next: None })
    }

    /// Sets the server's watch of the node on the current connection, unless this or another
    /// stream has set it.
    async fn arm(&mut self, deadline: Deadline) -> Result<()> {
        let Some(Following { place, armed, .. }) = &mut self.following else { return Ok(()) };
        let connection = place.link(deadline).await?;
        let is_armed = |armed: &Option<Arc<Armed>>| {
            armed.as_ref().is_some_and(|armed| armed.generation == connection.generation)
        };
        if is_armed(armed) {
            return Ok(());
        }
        let names = &self.core.names;
        let path = match &self.target {
            Target::Tree(directory) => names.directory(directory),
            Target::Key(key) => names.key(key),
            Target::Holder(name) => names.queue(name),
        };
        let shared = place.feed.armed().get(&path).and_then(Weak::upgrade);
        if is_armed(&shared) {
            *armed = shared;
            return Ok(());
        }
        let watching = connection.session.watch(&path, AddWatchMode::PersistentRecursive);
        let watcher = match deadline.limit(watching).await {
            Some(Ok(watcher)) => watcher,
            Some(Err(e)) => return Err(failed(e).error),
            None => return Err(Error::new(ErrorKind::Timeout, "the server did not take the watch in time")),
        };
        let task = place.spawn(forward(place.feed.clone(), watcher, connection.gone()));
        let watch = Arc::new(Armed::new(connection.generation, task));
        let mut all = place.feed.armed();
        if all.len() >= MOST_WATCHES && all.len().is_multiple_of(MOST_WATCHES) {
            all.retain(|_, watch| watch.strong_count() > 0);
        }
        all.insert(path, Arc::downgrade(&watch));
        drop(all);
        *armed = Some(watch);
        Ok(())
    }
}
