//! Reads: one key, or a page of what lies below a directory.
// DECIDE: how your server is asked for an answer that has seen every acknowledged write. The
// answers of a map always have, so `options.consistency` changes nothing here.

use crate::{core::Core, server::Record};
use kv_core::{
    Directory, Entry, Key, Result, Version,
    backend::retry::RetrySafety,
    driver::{Cursor, ListOptions, Page, ReadOptions},
};

impl Record {
    // DECIDE: which number of your server is the version: it is new with every write, also one of
    // the same bytes, and never comes again after a deletion, a restart or a failover.
    pub(crate) fn entry(self, key: Key) -> Entry {
        Entry::new(key, self.value, Version::new(self.number, 0))
    }
}

/// Returns the entry of the key.
pub(crate) async fn get(core: &Core, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
    let name = core.names.name(key);
    let found = core.send(RetrySafety::Read, options.deadline, |server| server.get(&name)).await?;
    Ok(found.map(|record| record.entry(key.clone())))
}

/// Returns a page of what lies below the directory.
// DECIDE: where your server can seek by name, fetch one page from the name on that `Page::seek`
// says, with the limit, and without values where `keys_only` says so; `Page::behind` is the cursor
// of the next page. Where it answers with all names at once, `Page::select` is enough.
pub(crate) async fn list(
    core: &Core,
    directory: &Directory,
    from: Option<&Cursor>,
    options: &ListOptions,
) -> Result<Page> {
    let (start, deadline) = (core.names.start(directory), options.read.deadline);
    let found = core.send(RetrySafety::Read, deadline, |server| server.range(&start)).await?;
    let entries = found.into_iter().filter_map(|(name, record)| Some(record.entry(core.names.key(&name)?)));
    Ok(Page::select(entries, directory, options, from))
}
