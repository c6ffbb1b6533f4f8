//! Watches: what is there, then every change, by one hub for all of this client's watches.

use crate::{Template, store::Client};
use kv_core::{
    backend::{Hub, stream},
    *,
};
use std::{
    future::poll_fn,
    sync::{Arc, Weak},
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
// DECIDE: how an outage is ridden out. An error of `read` ends the stream for good, so that a server that is away is
// asked again inside, with a growing pause, and only a refusal is given on. When the feed itself was cut, nobody knows what
// changed meanwhile: call `Hub::missed` when it is there again, and all watches read, and tell what differs.
pub(crate) fn watch(store: &Template, target: &Target, options: &WatchOptions) -> WatchStream {
    let hub: &Hub = &store.client().hub;
    let (reader, wanted, each_request) = (store.clone(), target.clone(), options.each_request);
    let mut changes = hub.watch(target, move |from| {
        let (store, target) = (reader.clone(), wanted.clone());
        let read = ReadOptions::default().deadline(Deadline::after(each_request));
        async move {
            match &target {
                Target::Tree(directory) => {
                    store.list(directory, from.as_ref(), &ListOptions::default().read(read)).await
                }
                Target::Key(key) | Target::Holder(key) => {
                    let items = store.get(key, &read).await?.map(Item::Entry).into_iter().collect();
                    Ok(Page { items, next: None })
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
