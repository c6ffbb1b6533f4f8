//! Watches of the holder of a lock: they follow the queue, and tell its first contender.

use super::feed::{Feed, is_deletion};
use crate::{
    client::{
        Purpose,
        answer::{self, revision},
    },
    core::Core,
    names::{Names, Range, after},
};
use etcd_client::{GetOptions, KeyValue};
use kv_core::{
    Entry, Holder, Key, Result, Version,
    backend::watch::{self, Change, Listed, Listing, Source, WatchState},
    driver::{Deadline, WatchOptions, WatchStream},
};
use std::{
    collections::{BTreeMap, HashMap},
    iter::Peekable,
    sync::Arc,
    time::Duration,
    vec,
};

/// Limits how many contenders are read at once.
const MANY: i64 = 128;

/// The source of the watch of one lock's holder.
struct Holders {
    core: Arc<Core>,
    name: Key,
    queue: Range,
    each_request: Duration,
    feed: Option<Feed>,
    /// Holds the changes that the feed gave and that were not looked at yet.
    changes: Peekable<vec::IntoIter<KeyValue>>,
    /// Holds the revision of the list.
    listed: i64,
    /// Holds the contenders in the queue, in the order in which they came.
    waiting: BTreeMap<(i64, Vec<u8>), Holder>,
    /// Holds the revision at which each of these contenders came into the queue.
    since: HashMap<Vec<u8>, i64>,
}

impl Source for Holders {
    type Token = ();

    fn backend(&self) -> &'static str {
        "etcd"
    }

    async fn subscribe(&mut self) -> Result<()> {
        self.changes = Vec::new().into_iter().peekable();
        // The feed from before ends first: its watch may be the one that the server has too many
        // of.
        self.feed = None;
        self.feed = Some(Feed::open(&self.core, &self.queue, self.each_request).await?);
        Ok(())
    }

    /// Lists the holder, without a position: a contender that waits is older than what is told of
    /// it later.
    async fn list(&mut self, _: &WatchState, _: Option<&()>) -> Result<Listing<()>> {
        self.read_queue().await?;
        let entries = self.holder().map(Listed::Entry).into_iter().collect();
        Ok(Listing::Page { entries, position: None, next: None })
    }

    async fn next(&mut self, delivered: &WatchState) -> Result<Change> {
        loop {
            while let Some(kv) = self.changes.next() {
                let at = kv.mod_revision();
                // The list has what happened up to its revision.
                if at <= self.listed {
                    continue;
                }
                match is_deletion(&kv) {
                    true => self.leaves(kv.key()),
                    false => self.enters(kv),
                }
                // Contenders that go together, with their session, never held the lock one after
                // another.
                let is_whole = self.changes.peek().is_none_or(|next| next.mod_revision() != at);
                if is_whole && let Some(change) = self.owed(delivered.version(&self.name)) {
                    return Ok(change);
                }
            }
            let Some(feed) = &mut self.feed else { return Ok(Change::Lagged) };
            match feed.next().await {
                Some(changes) => self.changes = changes.into_iter().peekable(),
                None => return Ok(Change::Lagged),
            }
        }
    }
}

impl Holders {
    async fn read_queue(&mut self) -> Result<()> {
        self.waiting.clear();
        self.since.clear();
        let (mut start, mut pinned) = (self.queue.start.clone(), 0);
        loop {
            let page =
                GetOptions::new().with_range(self.queue.end.clone()).with_limit(MANY).with_revision(pinned);
            let deadline = Deadline::after(self.each_request);
            let mut page = self.core.range(Purpose::Read, deadline, &start, page).await?;
            if pinned == 0 {
                pinned = revision(page.header())?;
            }
            let (more, kvs) = (page.more(), page.take_kvs());
            let last = kvs.last().filter(|_| more).map(|last| after(last.key()));
            kvs.into_iter().for_each(|kv| self.enters(kv));
            match last {
                Some(next) => start = next,
                None => break,
            }
        }
        self.listed = pinned;
        Ok(())
    }

    fn enters(&mut self, kv: KeyValue) {
        self.leaves(kv.key());
        if Names::is_contender(&self.queue, kv.key(), kv.lease()) {
            let (since, name) = (kv.create_revision(), kv.key().to_vec());
            self.since.insert(name.clone(), since);
            self.waiting.insert((since, name), answer::holder(kv));
        }
    }

    fn leaves(&mut self, name: &[u8]) {
        if let Some((name, since)) = self.since.remove_entry(name) {
            self.waiting.remove(&(since, name));
        }
    }

    fn holder(&self) -> Option<Entry> {
        let (_, holder) = self.waiting.first_key_value()?;
        Some(holder.clone().entry(self.name.clone()))
    }

    /// Returns the change to tell, where another holder was told, or none, or another value.
    fn owed(&self, told: Option<Version>) -> Option<Change> {
        match self.waiting.first_key_value() {
            Some((_, holder)) if told == Some(holder.version()) => None,
            Some(_) => self.holder().map(Change::Found),
            None => told.map(|_| Change::Gone { key: self.name.clone(), last: None }),
        }
    }
}

/// Watches the holder of the lock of this name.
pub(super) fn watch_holder(core: Arc<Core>, name: &Key, options: &WatchOptions) -> WatchStream {
    watch::start(Holders {
        queue: core.names.contenders(name),
        core,
        name: name.clone(),
        each_request: options.each_request,
        feed: None,
        changes: Vec::new().into_iter().peekable(),
        listed: 0,
        waiting: BTreeMap::new(),
        since: HashMap::new(),
    })
}
