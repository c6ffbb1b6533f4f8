//! Watches: subscribed first, then read, then told by the writer after each commit.

use crate::{engine::Snapshot, store::Inner};
use kv_core::{
    Cursor, Deadline, Directory, Entry, Item, ListOptions, Page, Result, Target, Version, WatchOptions,
    WatchStream,
};
use std::sync::Arc;

pub(crate) fn watch(inner: &Arc<Inner>, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
    inner.engine()?;
    let (own, of, each) = (inner.clone(), target.clone(), options.each_request);
    Ok(inner.view().hub.watch("redb", target, move |from| {
        let (inner, target) = (own.clone(), of.clone());
        async move { page(&inner, &target, from.as_ref(), Deadline::after(each)).await }
    }))
}

async fn page(
    inner: &Arc<Inner>,
    target: &Target,
    from: Option<&Cursor>,
    deadline: Deadline,
) -> Result<Page> {
    let alone =
        |entry: Option<Entry>| Page { items: entry.map(Item::Entry).into_iter().collect(), next: None };
    match target {
        Target::Key(key) => {
            let key = key.clone();
            inner.read(deadline, move |s, prefix| s.get(prefix, &key)).await.map(alone)
        }
        Target::Holder(name) => {
            let lock = inner.lock_name(name);
            let holder = inner.read(deadline, move |s: &Snapshot, _| s.holder(&lock)).await?;
            Ok(alone(holder.map(|h| Entry::new(name.clone(), h.value, Version::new(h.token, 0)))))
        }
        Target::Tree(directory) => list(inner, directory, from, &ListOptions::default(), deadline).await,
    }
}

pub(crate) async fn list(
    inner: &Arc<Inner>,
    directory: &Directory,
    from: Option<&Cursor>,
    options: &ListOptions,
    deadline: Deadline,
) -> Result<Page> {
    let behind = from.and_then(Page::place).or_else(|| options.start_after.clone());
    let (directory, options) = (directory.clone(), options.clone());
    inner.read(deadline, move |s, prefix| s.list(prefix, &directory, behind.as_ref(), &options)).await
}
