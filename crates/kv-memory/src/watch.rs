//! Watches: each subscribes first, then reads, and then is told each change under the mutex.

use crate::{
    core::Core,
    faults::trouble::{Does, Trouble},
    list, lock,
};
use kv_core::{
    Entry, Item,
    backend::stream,
    driver::{Cursor, Deadline, ListOptions, Page, Target, WatchStream},
};
use std::{future::poll_fn, sync::Arc};

/// Watches the target, as long as the stream is kept.
pub(crate) fn watch(core: &Arc<Core>, target: &Target) -> WatchStream {
    core.look().sweep();
    let (own, of) = (core.clone(), target.clone());
    let changes = core.hub.watch("memory", target, move |from| {
        let (core, of) = (own.clone(), of.clone());
        async move {
            let read = || Ok(there(&core, &of, from.as_ref()));
            core.call(Does::Read, Deadline::NEVER, read).await
        }
    });
    pausing(changes, core.trouble.clone())
}

/// Returns a page of what there is to watch.
fn there(core: &Core, target: &Target, from: Option<&Cursor>) -> Page {
    let one = |entry: Option<Entry>| Page { items: entry.map(Item::Entry).into_iter().collect(), next: None };
    match target {
        Target::Key(key) => one(list::get(core, key)),
        Target::Tree(directory) => list::page(core, directory, from, &ListOptions::default()),
        Target::Holder(name) => one(lock::holder(core, name).map(|holder| holder.entry(name.clone()))),
    }
}

/// Returns the watch, which stands still while its client is paused.
fn pausing(mut changes: WatchStream, trouble: Arc<Trouble>) -> WatchStream {
    stream(|out| async move {
        while let Some(event) = poll_fn(|cx| changes.as_mut().poll_next(cx)).await {
            if trouble.is_any() {
                trouble.resumed().await;
            }
            out.send(event?).await;
        }
        Ok(())
    })
}
