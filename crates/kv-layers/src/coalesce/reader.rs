//! One watch of the layer: it begins by a watch of its own below, and goes on by a shared one.

use super::{
    fold::Fold,
    upstream::{Link, Upstreams, next},
};
use kv_core::{
    Error, ErrorKind, Key, Result, Version, WatchEvent, Watching,
    backend::watch::{Change, Detail, Listed, Listing, Source, WatchState},
    driver::{Target, WatchOptions, WatchStream},
};
use std::{collections::VecDeque, future::pending, hash::RandomState, sync::Arc, time::Duration};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until},
};

/// The most keys, and the most bytes of values, of one page.
const PAGE_KEYS: usize = 1000;
const PAGE_BYTES: usize = 1 << 20;
/// The time in which neither watch tells anything, by which the shared one is taken to have told
/// all that was before.
const QUIET: Duration = Duration::from_millis(50);

/// A reader of a target, as a source of the watch engine.
pub(super) struct Reader {
    upstreams: Arc<Upstreams>,
    target: Target,
    options: WatchOptions,
    backend: &'static str,
    /// The changes of the target come in one order, or some of them may be skipped.
    is_ordered: bool,
    feed: Feed,
    /// `None` where there is no shared watch to join, or where the last one is over for good.
    link: Option<Link>,
    /// A list is being taken.
    is_listing: bool,
}

/// The watch that the events of a reader come from.
enum Feed {
    /// Nothing is read yet, or not any more.
    None,
    /// A watch of this reader alone, which is as fresh as a watch without the layer.
    Own(Own),
    /// The shared watch, once it has come to what the own one had told.
    Shared,
}

struct Own {
    changes: WatchStream,
    fold: Fold,
    /// The events before the first `Synced` that are no part of a list.
    late: VecDeque<WatchEvent>,
    /// The moment at which it has been quiet for long enough, unless something is told before;
    /// `None` once that was of no use.
    quiet: Option<Instant>,
}

impl Own {
    fn apply(&mut self, event: &WatchEvent, hashes: &RandomState) {
        self.fold.apply(event, hashes);
        self.heard();
    }

    /// Notes that something was told, by this watch or by the shared one.
    fn heard(&mut self) {
        self.quiet = Some(Instant::now() + QUIET);
    }
}

impl Reader {
    pub(super) fn new(upstreams: &Arc<Upstreams>, target: &Target, options: &WatchOptions) -> Self {
        let can = upstreams.store.as_ref().capabilities();
        let is_ordered =
            can.watch_ordered || can.watch == Watching::NewestState || !matches!(target, Target::Tree(_));
        let (upstreams, backend) = (upstreams.clone(), can.backend);
        let (target, options) = (target.clone(), options.clone());
        let (feed, link, is_listing) = (Feed::None, None, false);
        Self { upstreams, target, options, backend, is_ordered, feed, link, is_listing }
    }

    fn join(&mut self) {
        self.link = self.upstreams.join(&self.target, &self.options);
    }

    /// Begins a watch of this reader alone.
    async fn begin(&mut self) -> Result<()> {
        let changes = self.upstreams.store.as_ref().watch(&self.target, &self.options).await?;
        let (fold, late) = (Fold::default(), VecDeque::new());
        self.feed = Feed::Own(Own { changes, fold, late, quiet: None });
        Ok(())
    }

    /// Reads a page of what the own watch tells up to its first `Synced`.
    async fn page(&mut self) -> Result<Listing<()>> {
        let Feed::Own(own) = &mut self.feed else {
            return Err(Error::new(ErrorKind::Other, "the watch that was listed has ended"));
        };
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while !own.fold.is_synced() && entries.len() < PAGE_KEYS && bytes < PAGE_BYTES {
            let event = match next(&mut own.changes).await {
                Ok(event) => event,
                Err(e) => {
                    self.feed = Feed::None;
                    return Err(e);
                }
            };
            own.apply(&event, &self.upstreams.hashes);
            match event {
                WatchEvent::Put(entry) => {
                    bytes += entry.value.len();
                    entries.push(Listed::Entry(entry));
                }
                // It may be on an earlier page.
                delete @ WatchEvent::Delete { .. } => own.late.push_back(delete),
                WatchEvent::Synced => {}
            }
        }
        let next = (!own.fold.is_synced()).then_some(());
        Ok(Listing::Page { entries, position: None, next })
    }

    /// Goes on by the shared watch, if it has come to all that the own one has told, and no
    /// further.
    fn switch(&mut self, is_quiet: bool) -> bool {
        let (Feed::Own(own), Some(link)) = (&self.feed, &self.link) else { return false };
        let is_at = own.late.is_empty() && link.is_at(&own.fold, self.is_ordered, is_quiet);
        if is_at {
            self.feed = Feed::Shared;
        }
        is_at
    }

    /// Returns a list of what was delivered, if that is what is there still, and versions are
    /// enough.
    fn as_delivered(&self, delivered: &WatchState) -> Option<Listing<()>> {
        if delivered.detail() == Detail::Values && !delivered.is_empty() {
            return None;
        }
        let at = |key: &Key| delivered.version(key);
        let there = match &self.feed {
            Feed::None => None,
            Feed::Shared => self.link.as_ref()?.is_as(delivered.len(), at),
            Feed::Own(own) if !own.fold.is_synced() || own.fold.len() != delivered.len() => None,
            Feed::Own(own) => {
                let all = own.fold.iter();
                all.map(|(key, version)| (at(key) == Some(version)).then(|| (key.clone(), version))).collect()
            }
        };
        let entries = there?.into_iter().map(|(key, version)| Listed::Version(key, version)).collect();
        Some(Listing::Page { entries, position: None, next: None })
    }
}

impl Source for Reader {
    type Token = ();

    fn backend(&self) -> &'static str {
        self.backend
    }

    async fn subscribe(&mut self) -> Result<()> {
        if self.link.as_ref().is_none_or(|link| link.is_over() || link.is_elsewhere()) {
            if matches!(self.feed, Feed::Shared) {
                self.feed = Feed::None;
            }
            self.join();
        }
        self.is_listing = true;
        Ok(())
    }

    async fn list(&mut self, delivered: &WatchState, from: Option<&()>) -> Result<Listing<()>> {
        if from.is_none() {
            if let Some(listing) = self.as_delivered(delivered) {
                return Ok(listing);
            }
            self.begin().await?;
        }
        self.page().await
    }

    async fn next(&mut self, _: &WatchState) -> Result<Change> {
        self.is_listing = false;
        loop {
            let own = match &mut self.feed {
                Feed::None => return Ok(Change::Lagged),
                Feed::Shared => {
                    let Some(link) = &self.link else { return Ok(Change::Lagged) };
                    return Ok(match link.next().await? {
                        // It was read again: the engine then tells so.
                        Some(WatchEvent::Synced) | None => Change::Lagged,
                        Some(event) => Change::Event(event),
                    });
                }
                Feed::Own(own) => own,
            };
            if let Some(event) = own.late.pop_front() {
                return Ok(Change::Event(event));
            }
            if self.switch(false) {
                continue;
            }
            let Feed::Own(own) = &mut self.feed else { continue };
            let (link, quiet) = (self.link.as_ref(), own.quiet);
            let is_quiet = async {
                match quiet {
                    Some(until) => sleep_until(until).await,
                    None => pending().await,
                }
            };
            let shared = async {
                match link {
                    Some(link) => link.next().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                event = next(&mut own.changes) => {
                    let event = event.inspect_err(|_| self.feed = Feed::None)?;
                    return Ok(self.told(event));
                }
                news = shared => {
                    // The shared watch has come further.
                    own.heard();
                    match news {
                        Ok(None) if self.link.as_ref().is_some_and(Link::is_over) => self.join(),
                        Ok(_) => {}
                        Err(_) => self.link = None,
                    }
                }
                // By now neither has anything more to tell.
                () = is_quiet, if link.is_some() && Handle::try_current().is_ok() => {
                    own.quiet = None;
                    self.switch(true);
                }
            }
        }
    }

    /// The events of a watch below are in order: whatever differs is news. A list is compared with
    /// what was delivered before it by the order of the versions.
    fn follows(&self, delivered: Version, found: Version) -> bool {
        !self.is_listing || found > delivered
    }
}

impl Reader {
    /// Notes an event of the own watch, and returns what it is to the engine.
    fn told(&mut self, event: WatchEvent) -> Change {
        if let Feed::Own(own) = &mut self.feed {
            own.apply(&event, &self.upstreams.hashes);
        }
        match event {
            WatchEvent::Synced => Change::Lagged,
            event => Change::Event(event),
        }
    }
}
