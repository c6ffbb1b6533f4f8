//! Watches: each tells what it owes its reader, of what is there and of what the server tells to have changed.

use crate::{error::failed, feed::Feed, holder, link::Gone, list, store::Inner};
use futures::StreamExt;
use kv_core::{
    backend::{AbortOnDrop, Backoff, Mutex, Outage, stream},
    *,
};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use zookeeper_client::{AddWatchMode, EventType, PersistentWatcher};

/// Watches that ended are looked for whenever there are so many more.
const MOST_WATCHES: usize = 1024;

/// The server's watch of one node, on one connection.
pub(crate) struct Armed {
    generation: u64,
    _task: AbortOnDrop,
}

async fn forward(feed: Feed, mut watcher: PersistentWatcher, gone: Gone) {
    while let Some(event) = gone.unless(watcher.changed()).await {
        match event.event_type {
            EventType::Session => return,
            kind => feed.changed(&event.path, kind == EventType::NodeDeleted),
        }
    }
}

pub(crate) fn watch(inner: Arc<Inner>, target: &Target, options: &WatchOptions) -> WatchStream {
    let hub = inner.feed.hub().clone();
    let (armed, each_request) = (Arc::new(Mutex::new(None)), options.each_request);
    let mut told = hub.watch(target, {
        let (inner, target) = (inner.clone(), target.clone());
        move |from| {
            let (inner, target, armed) = (inner.clone(), target.clone(), armed.clone());
            async move {
                let (mut backoff, mut outage) = (Backoff::default(), Outage::new("watch", "zookeeper"));
                loop {
                    match page(&inner, &target, from.as_ref(), armed.clone(), each_request).await {
                        Err(e) if !e.is_lasting() => {
                            outage.failed(&e);
                            backoff.pause().await;
                        }
                        page => {
                            outage.over();
                            return page;
                        }
                    }
                }
            }
        }
    });
    stream(|out| async move {
        loop {
            let event = tokio::select! {
                biased;
                event = told.next() => event,
                // Nobody else may call, and have the connection kept in another runtime.
                () = inner.client.home_gone() => {
                    if inner.client.revive() {
                        continue;
                    }
                    told.next().await
                }
            };
            match event {
                Some(event) => out.send(event?).await,
                None => return Ok(()),
            }
        }
    })
}

/// A page of what is there, read when its changes are told.
async fn page(
    inner: &Inner,
    target: &Target,
    from: Option<&Cursor>,
    armed: Arc<Mutex<Option<Arc<Armed>>>>,
    each_request: Duration,
) -> Result<Page> {
    let deadline = Deadline::after(each_request);
    if from.is_none() {
        arm(inner, target, armed, deadline).await?;
    }
    let read = ReadOptions::default().deadline(deadline);
    match target {
        Target::Tree(directory) => {
            list::page(inner, directory, from, &ListOptions::default().read(read)).await
        }
        Target::Key(key) => {
            let found = inner.look_one(key, &read).await?;
            Ok(Page { items: found.entry(key).map(Item::Entry).into_iter().collect(), next: None })
        }
        Target::Holder(name) => {
            let now = holder::holder(inner, name, &read).await?;
            let entry = now.map(|now| Entry::new(name.clone(), now.value, Version::new(now.token, 0)));
            Ok(Page { items: entry.map(Item::Entry).into_iter().collect(), next: None })
        }
    }
}

async fn arm(
    inner: &Inner,
    target: &Target,
    armed: Arc<Mutex<Option<Arc<Armed>>>>,
    deadline: Deadline,
) -> Result<()> {
    let linked = inner.client.link(deadline).await?;
    let is_armed = |armed: &Option<Arc<Armed>>| {
        armed.as_ref().is_some_and(|armed| armed.generation == linked.generation)
    };
    if is_armed(&armed.lock()) {
        return Ok(());
    }
    let path = match target {
        Target::Tree(directory) => inner.names.directory(directory),
        Target::Key(key) => inner.names.key(key),
        Target::Holder(name) => inner.names.line(name),
    };
    let shared = inner.feed.armed().get(&path).and_then(Weak::upgrade);
    if is_armed(&shared) {
        *armed.lock() = shared;
        return Ok(());
    }
    let watching = linked.session.watch(&path, AddWatchMode::PersistentRecursive);
    let watcher = match deadline.limit(watching).await {
        Some(Ok(watcher)) => watcher,
        Some(Err(e)) => return Err(failed(e).error),
        None => return Err(Error::new(ErrorKind::Timeout, "the server did not take the watch in time")),
    };
    let task = inner.client.spawn(forward(inner.feed.clone(), watcher, linked.gone()));
    let watch = Arc::new(Armed { generation: linked.generation, _task: AbortOnDrop::new(task) });
    let mut all = inner.feed.armed();
    if all.len() >= MOST_WATCHES && all.len().is_multiple_of(MOST_WATCHES) {
        all.retain(|_, watch| watch.strong_count() > 0);
    }
    all.insert(path, Arc::downgrade(&watch));
    drop(all);
    *armed.lock() = Some(watch);
    Ok(())
}
