//! Watches: each subscribes first, then reads, and then the writer tells it each change after the
//! commit.

use crate::{core::Core, list, lock};
use kv_core::{
    Entry, Item, Result,
    driver::{Cursor, Deadline, ListOptions, Page, Target, WatchOptions, WatchStream},
};
use std::sync::Arc;

/// Watches the target, as long as the stream is kept.
pub(crate) fn watch(core: &Arc<Core>, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
    core.engine()?;
    let (own, of, each) = (core.clone(), target.clone(), options.each_request);
    Ok(core.view.hub.watch("redb", target, move |from| {
        let (core, target) = (own.clone(), of.clone());
        async move { page(&core, &target, from.as_ref(), Deadline::after(each)).await }
    }))
}

/// Returns a page of what there is to watch.
async fn page(core: &Core, target: &Target, from: Option<&Cursor>, deadline: Deadline) -> Result<Page> {
    let alone =
        |entry: Option<Entry>| Page { items: entry.map(Item::Entry).into_iter().collect(), next: None };
    match target {
        Target::Key(key) => list::get(core, key, deadline).await.map(alone),
        Target::Holder(name) => {
            let holder = lock::holder(core, name, deadline).await?;
            Ok(alone(holder.map(|holder| holder.entry(name.clone()))))
        }
        Target::Tree(directory) => list::list(core, directory, from, &ListOptions::default(), deadline).await,
    }
}
