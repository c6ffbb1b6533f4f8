//! Answers the watch engine's questions from the table and its stream.

mod expiry;
pub(crate) mod feed;
mod follow;
mod shards;
mod stream;

use crate::{
    client::{
        clock::Millis,
        item::{Found, is_foreign},
    },
    core::Core,
    list::{
        query::query,
        read::{read_item, read_items},
    },
    names::Names,
    watch::{
        expiry::Subject,
        feed::{End, Reading},
    },
};
use kv_core::{
    Directory, Entry, Key, Result, Version, WatchEvent, Watching,
    backend::{
        Subscription,
        watch::{self, Change, Detail, Listed, Listing, Source, WatchState},
    },
    driver::{Deadline, ReadOptions, Target, WatchOptions, WatchStream},
};
use std::{sync::Arc, time::Duration};

/// The most keys of one page of a list: with their values, and without them.
const MAX_VALUES: usize = 1000;
const MAX_KEYS: usize = 4000;
/// The most values that one request fetches.
const MAX_FETCHED: usize = 100;

/// Does [`Store::watch`](kv_core::driver::Store::watch).
pub(crate) fn start(core: Arc<Core>, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
    if core.capabilities.watch == Watching::Unsupported {
        return Err(core.capabilities.unsupported("watches"));
    }
    let (target, each_request) = (target.clone(), options.each_request);
    Ok(watch::start(Watched { core, target, each_request, following: None, lost: None }))
}

/// The source of one watch.
struct Watched {
    core: Arc<Core>,
    target: Target,
    each_request: Duration,
    following: Option<Following>,
    /// The version of the last holder that was gone. A renewal that was under way when the
    /// holder's time ended may bring its item back; nobody holds the lock by it, since the holder
    /// has counted the time too.
    lost: Option<Version>,
}

/// The changes of one watch, and the reader of the stream from which they come.
struct Following {
    reading: Arc<Reading>,
    changes: Subscription,
}

impl Following {
    /// Waits for the next change. Where the reader's runtime has ended, the watch begins anew with
    /// another reader.
    async fn next(&mut self) -> Result<Change> {
        tokio::select! {
            biased;
            change = self.changes.next() => Ok(change.into()),
            end = self.reading.over() => match end {
                End::Lasting(why) => Err(why),
                End::Gone => Ok(Change::Lagged),
            },
        }
    }
}

impl Source for Watched {
    /// The sort key at which a page begins.
    type Token = String;

    fn backend(&self) -> &'static str {
        "dynamodb"
    }

    async fn subscribe(&mut self) -> Result<()> {
        loop {
            let reading = self.core.feed.join()?;
            // Changes until the list is complete wait here.
            let changes = reading.hub.subscribe(&self.target);
            match reading.live().await {
                Ok(()) => {
                    self.following = Some(Following { reading, changes });
                    return Ok(());
                }
                Err(End::Lasting(why)) => return Err(why),
                Err(End::Gone) => {}
            }
        }
    }

    async fn list(&mut self, delivered: &WatchState, from: Option<&String>) -> Result<Listing<String>> {
        let entry = match &self.target {
            Target::Tree(directory) => {
                return self.list_tree(directory, delivered.detail(), from).await;
            }
            Target::Key(key) => self.key(key).await?,
            Target::Holder(name) => {
                let there = self.holder(name).await?.filter(|entry| !self.is_lost(entry.version));
                if there.is_none() {
                    self.lost = delivered.version(name).or(self.lost);
                }
                there
            }
        };
        let entries = entry.map(Listed::Entry).into_iter().collect();
        Ok(Listing::Page { entries, position: None, next: None })
    }

    async fn fetch(&mut self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        let keys = &keys[..keys.len().min(MAX_FETCHED)];
        let names = keys.iter().map(Key::as_str);
        let mut found = read_items(&self.core, &self.core.names.data, names, &self.read()).await?;
        keys.iter().map(|key| self.entry(key.clone(), found.remove(key.as_str()))).collect()
    }

    async fn next(&mut self, delivered: &WatchState) -> Result<Change> {
        loop {
            let Some(following) = &mut self.following else { return Ok(Change::Lagged) };
            let change = following.next().await?;
            match &change {
                Change::Event(WatchEvent::Put(entry)) if self.is_lost(entry.version) => continue,
                Change::Event(WatchEvent::Delete { key, version })
                    if delivered.version(key).is_some_and(|known| known <= *version) =>
                {
                    self.lost = Some(*version);
                }
                _ => {}
            }
            return Ok(change);
        }
    }

    /// Tells whether `found` is newer than `delivered`. A foreign version always counts as newer,
    /// since it has no place in the order of versions.
    fn follows(&self, delivered: Version, found: Version) -> bool {
        is_foreign(found) || found > delivered
    }
}

impl Watched {
    fn is_lost(&self, version: Version) -> bool {
        let token = |version: Version| version.parts().0;
        matches!(self.target, Target::Holder(_)) && self.lost.map(token) == Some(token(version))
    }

    fn read(&self) -> ReadOptions {
        ReadOptions::default().deadline(Deadline::after(self.each_request))
    }

    /// Has the reader look at the subject when it expires.
    fn note_expiry(&self, subject: impl FnOnce() -> Subject, at: Option<Millis>) {
        if let Some((following, at)) = self.following.as_ref().zip(at) {
            following.reading.expires(subject(), at);
        }
    }

    /// Returns the entry of a key, if there is one; an error if the item is damaged.
    fn entry(&self, key: Key, found: Option<Found>) -> Result<Option<Entry>> {
        let Some(found) = self.core.living(key.as_str(), found)? else { return Ok(None) };
        self.note_expiry(|| Subject::Key(key.clone()), found.ends);
        Ok(found.entry(key))
    }

    async fn key(&self, key: &Key) -> Result<Option<Entry>> {
        let found = read_item(&self.core, &self.core.names.data, key.as_str(), &[], &self.read()).await?;
        self.entry(key.clone(), found)
    }

    async fn holder(&self, name: &Key) -> Result<Option<Entry>> {
        let found = read_item(&self.core, &self.core.names.locks, name.as_str(), &[], &self.read()).await?;
        let Some(found) = self.core.holding(name.as_str(), found)? else { return Ok(None) };
        self.note_expiry(|| Subject::Holder(name.clone()), found.ends);
        Ok(found.holder().map(|holder| holder.entry(name.clone())))
    }

    async fn list_tree(
        &self,
        directory: &Directory,
        detail: Detail,
        from: Option<&String>,
    ) -> Result<Listing<String>> {
        let mut range = Names::below(directory);
        if let Some(from) = from {
            range.start.clone_from(from);
        }
        let has_values = detail == Detail::Values;
        let max = if has_values { MAX_VALUES } else { MAX_KEYS };
        let (client, data) = (&self.core.client, &self.core.names.data);
        let page = query(client, data, &range, Some(max), has_values, &self.read()).await?;
        let mut entries = Vec::with_capacity(page.rows.len());
        for (name, found) in page.rows {
            let Some(key) = Names::parse(&name).filter(|key| key.is_below(directory)) else { continue };
            if has_values {
                entries.extend(self.entry(key, Some(found))?.map(Listed::Entry));
            } else if let Some(found) = self.core.living(&name, Some(found))? {
                self.note_expiry(|| Subject::Key(key.clone()), found.ends);
                entries.push(match found.version {
                    Some(version) => Listed::Version(key, version),
                    None => Listed::Name(key),
                });
            }
        }
        Ok(Listing::Page { entries, position: None, next: page.next })
    }
}
