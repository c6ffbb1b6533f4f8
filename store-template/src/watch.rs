//! Watches: what the server lists and tells, as a source of `kv-core`'s engine.

use crate::{Template, store::Client};
use kv_core::{
    Cursor, Deadline, Item, ListOptions, Page, ReadOptions, Result, Store, Target, Version, WatchEvent,
    WatchOptions, WatchStream,
    backend::{
        Subscription,
        watch::{self, Change, Listed, Listing, Source, WatchState},
    },
};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};

/// Has the server's changes go to the client's hub, as long as the client lives.
// DECIDE: where changes come from. One stream for all watches feeds the hub as here, in the order of
// the changes; when it was cut and is there again, call `Hub::missed`, and all watches list again. A
// stream for each watch needs no hub: its changes wait in a `backend::Inbox`.
pub(crate) fn feed(client: &Arc<Client>) {
    let (server, client) = (client.server(), Arc::downgrade(client));
    server.listen(Box::new(move |name, record, number| {
        let Some(client) = Weak::upgrade(&client) else { return false };
        if let Some(key) = client.key(name).or_else(|| client.lock_key(name)) {
            client.hub.publish(&match record {
                Some(record) => WatchEvent::Put(record.clone().entry(key)),
                None => WatchEvent::Delete { key, version: Version::new(number, 0) },
            });
        }
        true
    }));
}

pub(crate) fn watch(store: &Template, target: &Target, options: &WatchOptions) -> WatchStream {
    let changes = store.client().hub.subscribe(target);
    watch::start(Watched {
        store: store.clone(),
        target: target.clone(),
        changes,
        within: options.each_request,
    })
}

/// What one watch looks at.
struct Watched {
    store: Template,
    target: Target,
    changes: Subscription,
    within: Duration,
}

// DECIDE: what your server can list and tell; the docs of `backend::watch` have a line for each kind
// of server. Errors are ridden out, but for those that `Error::is_lasting` names: give these where
// they are known to last, and nowhere else.
impl Source for Watched {
    type Token = Cursor;

    fn backend(&self) -> &'static str {
        "template"
    }

    async fn subscribe(&mut self) -> Result<()> {
        self.changes.clear(); // It listens already; what waits is older than the list.
        Ok(())
    }

    async fn list(&mut self, _: &WatchState, from: Option<&Cursor>) -> Result<Listing<Cursor>> {
        let read = ReadOptions::default().deadline(Deadline::after(self.within));
        let Page { items, next } = match &self.target {
            Target::Tree(directory) => {
                self.store.list(directory, from, &ListOptions::default().read(read)).await?
            }
            Target::Key(key) | Target::Holder(key) => {
                let found = self.store.get(key, &read).await?;
                Page { items: found.map(Item::Entry).into_iter().collect(), next: None }
            }
        };
        let listed = |item| if let Item::Entry(entry) = item { Some(Listed::Entry(entry)) } else { None };
        let entries = items.into_iter().filter_map(listed).collect();
        Ok(Listing::Page { entries, position: None, next })
    }

    // Somebody must look when a TTL passes and nobody calls: the watch itself, without a task to
    // stop. Not needed for a server that tells of expiry.
    async fn next(&mut self, _: &WatchState) -> Result<Change> {
        loop {
            tokio::select! {
                change = self.changes.next() => return Ok(change.into()),
                () = self.store.client().server().expiry() => {}
            }
        }
    }
}
