//! Watches: a source for `kv-core`'s watch engine, made of the server's listings and changes.

use crate::{core::Core, list};
use kv_core::{
    Item, Result, Version, WatchEvent,
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

/// Passes the server's changes to the store's hub, as long as the store lives.
// DECIDE: where changes come from. One stream for all watches feeds the hub as here, in the order
// of the changes; when it was cut and is there again, call `Hub::missed`, so that all watches list
// again. A stream for each watch needs no hub: its changes wait in a `backend::Inbox`.
pub(crate) fn feed(core: &Arc<Core>) {
    let (server, core) = (core.server(), Arc::downgrade(core));
    server.listen(Box::new(move |name, record, number| {
        let Some(core) = Weak::upgrade(&core) else { return false };
        if let Some(key) = core.names.key(name).or_else(|| core.names.lock_key(name)) {
            core.hub.publish(&match record {
                Some(record) => WatchEvent::Put(record.clone().entry(key)),
                None => WatchEvent::Delete { key, version: Version::new(number, 0) },
            });
        }
        true
    }));
}

/// Watches a key or a tree, as long as the stream is kept.
pub(crate) fn watch(core: &Arc<Core>, target: &Target, options: &WatchOptions) -> WatchStream {
    let changes = core.hub.subscribe(target);
    watch::start(Watched {
        core: core.clone(),
        target: target.clone(),
        changes,
        within: options.each_request,
    })
}

/// The source of one watch.
struct Watched {
    core: Arc<Core>,
    target: Target,
    changes: Subscription,
    within: Duration,
}

// DECIDE: what your server can list and tell; the docs of `backend::watch` have a line for each
// kind of server. Errors are ridden out, except those that are lasting (`Error::is_lasting`): give
// these where the cause is known to last, and nowhere else.
impl Source for Watched {
    type Token = Cursor;

    fn backend(&self) -> &'static str {
        "template"
    }

    async fn subscribe(&mut self) -> Result<()> {
        self.changes.clear(); // The subscription is there already; what waits in it is older than the list.
        Ok(())
    }

    async fn list(&mut self, _: &WatchState, from: Option<&Cursor>) -> Result<Listing<Cursor>> {
        let read = ReadOptions::default().deadline(Deadline::after(self.within));
        let Page { items, next } = match &self.target {
            Target::Tree(directory) => {
                list::list(&self.core, directory, from, &ListOptions::default().read(read)).await?
            }
            Target::Key(key) | Target::Holder(key) => {
                let found = list::get(&self.core, key, &read).await?;
                Page { items: found.map(Item::Entry).into_iter().collect(), next: None }
            }
        };
        let listed = |item| if let Item::Entry(entry) = item { Some(Listed::Entry(entry)) } else { None };
        let entries = items.into_iter().filter_map(listed).collect();
        Ok(Listing::Page { entries, position: None, next })
    }

    // When a TTL passes and nobody calls, somebody must look: the watch itself does, so that there
    // is no task to stop. A server that tells of expiry does not need this.
    async fn next(&mut self, _: &WatchState) -> Result<Change> {
        loop {
            tokio::select! {
                change = self.changes.next() => return Ok(change.into()),
                () = self.core.server().expiry() => {}
            }
        }
    }
}
