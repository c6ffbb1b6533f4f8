//! Watches: what is there, then every change, by one hub for all of this client's watches.

use crate::{Template, store::Client};
use kv_core::{
    backend::{Backoff, Hub, Outage, stream},
    *,
};
use std::{
    future::poll_fn,
    sync::{Arc, Weak},
    time::Duration,
};

/// Has the server's changes go to the client's hub, as long as the client lives.
// DECIDE: where changes come from. A server that pushes feeds the hub as here, in the order of the changes; one that
// tells too little, or only that something changed, is read again, and `backend::Told` finds what differs.
pub(crate) fn feed(client: &Arc<Client>) {
    let (client, server) = (Arc::downgrade(client), client.server.clone());
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

/// The hub subscribes, reads what is there, and tells what changes, what is missed by a slow reader included.
// DECIDE: what ends a watch. Only what `Error::is_lasting` names does, so that your client's errors get those kinds where they
// are known to last, and no others. When the feed itself was cut, nobody knows what changed meanwhile: call `Hub::missed` when
// it is there again, and all watches read, and tell what differs.
pub(crate) fn watch(store: &Template, target: &Target, options: &WatchOptions) -> WatchStream {
    let hub: &Hub = &store.client().hub;
    let (reader, wanted, each_request) = (store.clone(), target.clone(), options.each_request);
    let mut changes = hub.watch(target, move |from| {
        let (store, target) = (reader.clone(), wanted.clone());
        async move {
            let (mut backoff, mut outage) = (Backoff::default(), Outage::new("watch", "template"));
            loop {
                match there(&store, &target, from.as_ref(), each_request).await {
                    Err(e) if !e.is_lasting() => {
                        outage.failed(&e);
                        backoff.pause().await;
                    }
                    page => return page.inspect(|_| outage.over()),
                }
            }
        }
    });
    // Somebody must look when a TTL passes and nobody calls: who watches, without a task of its own. Not needed for a
    // server that tells of expiry.
    let store = store.clone();
    stream(|out| async move {
        loop {
            tokio::select! {
                change = poll_fn(|cx| changes.as_mut().poll_next(cx)) => match change {
                    Some(event) => out.send(event?).await,
                    None => return Ok(()),
                },
                () = store.client().server.expiry() => {}
            }
        }
    })
}

/// A page of what is there to watch.
async fn there(store: &Template, target: &Target, from: Option<&Cursor>, within: Duration) -> Result<Page> {
    let read = ReadOptions::default().deadline(Deadline::after(within));
    match target {
        Target::Tree(directory) => store.list(directory, from, &ListOptions::default().read(read)).await,
        Target::Key(key) | Target::Holder(key) => {
            let items = store.get(key, &read).await?.map(Item::Entry).into_iter().collect();
            Ok(Page { items, next: None })
        }
    }
}
