//! Watches of keys: a watch asks for the changes from now on, and then for a list at one revision,
//! which the changes may overlap. In this order nothing can come between the two, however slowly
//! the list is read: when a server ends, the changes end too.

use super::{
    feed::{Feed, is_deletion},
    history::History,
};
use crate::{
    client::{
        Purpose,
        answer::{entry, version},
        limits::MOST_OPS,
    },
    core::Core,
    list::{next_size, read_names},
    names::{Range, after},
};
use etcd_client::{GetOptions, GetResponse, KeyValue};
use kv_core::{
    Entry, Key, Result, WatchEvent,
    backend::watch::{self, Change, Detail, Listed, Listing, Source, WatchState},
    driver::{Deadline, WatchOptions, WatchStream},
};
use std::{sync::Arc, time::Duration, vec};
use tokio::time::Instant;

/// Counts the keys that the first page of a list asks for, with values; `KEYS` counts those of
/// each page without.
const FIRST: usize = 64;
const KEYS: usize = 4096;
/// Sets how long the server is left alone between two parts of the values that are compared behind
/// a list.
const CALM: Duration = Duration::from_millis(500);

/// Watches the keys of a range.
pub(super) fn watch_range(core: Arc<Core>, range: Range, options: &WatchOptions) -> WatchStream {
    watch::start(Changes {
        core,
        range,
        each_request: options.each_request,
        feed: None,
        changes: Vec::new().into_iter(),
        history: History::default(),
        listed: None,
        size: PartSize { next: FIRST, max: KEYS },
        compare_from: None,
        compare_at: Instant::now(),
        compared: Vec::new().into_iter(),
    })
}

/// The number of keys that the next request for values asks for.
struct PartSize {
    next: usize,
    max: usize,
}

impl PartSize {
    fn read<'a>(&mut self, kvs: impl IntoIterator<Item = &'a KeyValue>) {
        self.max = (4 * self.max).min(KEYS);
        self.next = next_size(kvs).min(self.max);
    }

    /// Makes the parts smaller, after one that was too much for the connection within its
    /// deadline.
    fn failed(&mut self) {
        self.max = (self.next / 4).max(1);
        self.next = self.max;
    }
}

/// The source of a watch of keys.
struct Changes {
    core: Arc<Core>,
    range: Range,
    each_request: Duration,
    feed: Option<Feed>,
    /// Holds the changes that the feed gave and that the watch has not taken yet.
    changes: vec::IntoIter<KeyValue>,
    /// Holds the history of what was delivered.
    history: History,
    /// Holds the history of the list that is being read, or that was read last and is not followed
    /// yet.
    listed: Option<History>,
    size: PartSize,
    /// Holds the name at which the values begin that the list did not compare, though they may be
    /// of another history.
    compare_from: Option<Vec<u8>>,
    compare_at: Instant,
    /// Holds the entries that were read to be compared.
    compared: vec::IntoIter<Entry>,
}

/// A part of the values.
struct Part {
    of: History,
    kvs: Vec<KeyValue>,
    next: Option<Vec<u8>>,
}

impl Source for Changes {
    /// The name at which a page begins.
    type Token = Vec<u8>;

    fn backend(&self) -> &'static str {
        "etcd"
    }

    async fn subscribe(&mut self) -> Result<()> {
        (self.changes, self.compared) = (Vec::new().into_iter(), Vec::new().into_iter());
        // The feed from before ends first: its watch may be the one that the server has too many
        // of.
        self.feed = None;
        self.feed = Some(Feed::open(&self.core, &self.range, self.each_request).await?);
        Ok(())
    }

    async fn list(&mut self, delivered: &WatchState, from: Option<&Vec<u8>>) -> Result<Listing<Vec<u8>>> {
        let detail = delivered.detail();
        if from.is_none() {
            (self.listed, self.compare_from) = (None, None);
            self.size.next = FIRST.min(self.size.max);
            if detail == Detail::Values {
                self.history = History::default();
            }
        }
        let start = from.unwrap_or(&self.range.start).clone();
        match detail {
            Detail::Values => self.list_values(&start).await,
            Detail::Versions => self.list_versions(&start, delivered).await,
        }
    }

    /// Reads keys at the revision of the list.
    async fn fetch(&mut self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        let keys = &keys[..keys.len().min(self.size.next).min(MOST_OPS)];
        let names: Vec<_> = keys.iter().map(|key| self.core.names.key(key.as_str())).collect();
        let pinned = GetOptions::new().with_revision(self.revision());
        let read = read_names(&self.core, &names, Purpose::Read, self.deadline(), &pinned).await;
        let found = read.inspect_err(|_| self.size.failed())?;
        self.size.read(found.iter().flatten());
        found.iter().flatten().for_each(|kv| self.history.noted(kv.mod_revision()));
        let pairs = keys.iter().zip(found);
        Ok(pairs.map(|(key, found)| found.map(|kv| entry(key.clone(), kv))).collect())
    }

    async fn next(&mut self, delivered: &WatchState) -> Result<Change> {
        if let Some(now) = self.listed.take() {
            self.history.read(now);
            self.compare_at = Instant::now() + CALM;
        }
        loop {
            if let Some(entry) = self.compared.next() {
                return Ok(Change::Found(entry));
            }
            if let Some(event) = self.changes.find_map(|kv| event(&self.core, &mut self.history, kv)) {
                return Ok(Change::Event(event));
            }
            let Some(feed) = &mut self.feed else { return Ok(Change::Lagged) };
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(self.compare_at), if self.compare_from.is_some() => {
                    self.compare(delivered).await?;
                }
                changes = feed.next() => match changes {
                    Some(changes) => self.changes = changes.into_iter(),
                    None => return Ok(Change::Lagged),
                },
            }
        }
    }
}

impl Changes {
    fn deadline(&self) -> Deadline {
        Deadline::after(self.each_request)
    }

    /// Returns the revision of the list; 0, which is the latest, before its first page.
    fn revision(&self) -> i64 {
        self.listed.as_ref().map_or(0, History::revision)
    }

    async fn list_values(&mut self, start: &[u8]) -> Result<Listing<Vec<u8>>> {
        let Part { of, kvs, next } = self.part(start, self.revision()).await?;
        let now = *self.listed.get_or_insert(of);
        let entries = kvs.into_iter().filter_map(|kv| {
            let key = self.core.names.parse(kv.key())?;
            self.history.noted(kv.mod_revision());
            Some(Listed::Entry(entry(key, kv)))
        });
        let entries = entries.collect();
        Ok(Listing::Page { entries, position: Some(version(now.revision())), next })
    }

    /// Lists keys by their versions, except those of a short while ago, whose versions may have
    /// been given out twice.
    async fn list_versions(&mut self, start: &[u8], delivered: &WatchState) -> Result<Listing<Vec<u8>>> {
        let options =
            GetOptions::new().with_keys_only().with_limit(KEYS as i64).with_revision(self.revision());
        let page = self.page(start, options).await?;
        let of = History::of(page.header())?;
        let now = *self.listed.get_or_insert(of);
        if !self.history.may_go_on(&now) {
            return Ok(Listing::Restored);
        }
        let mut entries = Vec::with_capacity(page.kvs().len());
        for kv in page.kvs() {
            let Some(key) = self.core.names.parse(kv.key()) else { continue };
            let (at, version) = (kv.mod_revision(), version(kv.mod_revision()));
            let is_delivered = delivered.version(&key) == Some(version);
            if !is_delivered && self.history.has(at) {
                return Ok(Listing::Restored);
            }
            if self.history.is_recent(at) {
                entries.push(Listed::Name(key));
                continue;
            }
            if is_delivered {
                self.compare_from = Some(self.range.start.clone());
            }
            entries.push(Listed::Version(key, version));
        }
        let next = page.kvs().last().filter(|_| page.more()).map(|last| after(last.key()));
        Ok(Listing::Page { entries, position: Some(version(now.revision())), next })
    }

    /// Reads a part of the values, at this revision or, where it is 0, at the latest.
    async fn part(&mut self, start: &[u8], at: i64) -> Result<Part> {
        let size = i64::try_from(self.size.next).unwrap_or(1);
        let options = GetOptions::new().with_limit(size).with_revision(at);
        let page = self.page(start, options).await;
        let mut page = page.inspect_err(|_| self.size.failed())?;
        let (of, more, kvs) = (History::of(page.header())?, page.more(), page.take_kvs());
        self.size.read(&kvs);
        let next = kvs.last().filter(|_| more).map(|last| after(last.key()));
        Ok(Part { of, kvs, next })
    }

    async fn page(&self, start: &[u8], options: GetOptions) -> Result<GetResponse> {
        let options = match self.range.end.is_empty() {
            true => options,
            false => options.with_range(self.range.end.clone()),
        };
        self.core.range(Purpose::Read, self.deadline(), start, options).await
    }

    /// Reads a part of the values that the list did not compare. A server that was wiped and
    /// written again by the same program has the same keys at the same revisions, and nothing but
    /// a value tells that it is another history.
    async fn compare(&mut self, delivered: &WatchState) -> Result<()> {
        let Some(start) = self.compare_from.take() else { return Ok(()) };
        match self.part(&start, 0).await {
            Ok(Part { kvs, next, .. }) => {
                self.compare_from = next;
                let same = kvs.into_iter().filter_map(|kv| {
                    let key = self.core.names.parse(kv.key())?;
                    // An entry of another version is told by the feed, and so is all that was
                    // before it.
                    let is_delivered = delivered.version(&key) == Some(version(kv.mod_revision()));
                    is_delivered.then(|| entry(key, kv))
                });
                self.compared = same.collect::<Vec<_>>().into_iter();
            }
            Err(e) if e.is_lasting() => return Err(e),
            // Nothing is lost: the same part is read again.
            Err(_) => self.compare_from = Some(start),
        }
        self.compare_at = Instant::now() + CALM;
        Ok(())
    }
}

/// Returns the event of a change of the feed; `None` for a name that is no key.
fn event(core: &Core, history: &mut History, kv: KeyValue) -> Option<WatchEvent> {
    let key = core.names.parse(kv.key())?;
    history.told(kv.mod_revision());
    Some(match is_deletion(&kv) {
        true => WatchEvent::Delete { key, version: version(kv.mod_revision()) },
        false => WatchEvent::Put(entry(key, kv)),
    })
}
