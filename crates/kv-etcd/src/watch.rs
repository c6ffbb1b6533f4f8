//! Watches: the changes from now on, and then a reading at one revision, which the changes may overlap. In this order nothing
//! can come between the two, however slowly the reading is taken: a server that ends ends the changes too.

use crate::{
    client::Purpose,
    feed::{Change, Feed, LASTED, News},
    history::History,
    list::next_size,
    names::{Range, after},
    store::{Inner, entry, version},
    txn,
};
use etcd_client::{GetOptions, GetResponse, KeyValue};
use kv_core::{
    backend::{Backoff, Emit, Outage, Told, Values, stream},
    *,
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// How many keys the first page of a reading asks for, with values, and each page without.
const FIRST: usize = 64;
const KEYS: usize = 4096;
/// How long the server is left alone between two pages of what is compared behind a reading.
const CALM: Duration = Duration::from_millis(500);

pub(crate) fn watch(inner: Arc<Inner>, target: &Target, options: &WatchOptions) -> WatchStream {
    let range = match target {
        Target::Tree(directory) => inner.names.below(directory),
        Target::Key(key) | Target::Holder(key) => {
            // Our own keys are watched by nobody.
            Range { start: inner.names.key(key.as_str()), end: Vec::new() }
        }
    };
    let each_request = options.each_request;
    stream(move |out| async move {
        let mut watched = Watched::new(inner, range, each_request);
        let (mut backoff, mut outage) = (Backoff::default(), Outage::new("watch", "etcd"));
        loop {
            let began = async {
                let feed = Feed::open(&watched.inner, &watched.range, each_request).await?;
                watched.read(&out).await?;
                out.send(WatchEvent::Synced).await;
                Ok::<_, Error>(feed)
            };
            match began.await {
                Ok(mut feed) => {
                    watched.first = FIRST;
                    outage.over();
                    let since = Instant::now();
                    watched.follow(&mut feed, &out).await;
                    // What breaks again and again is not to have the tree read again and again.
                    if since.elapsed() > LASTED {
                        backoff.reset();
                    }
                }
                Err(e) if e.is_lasting() => return Err(e),
                Err(e) => {
                    // What is too much for the link within a deadline comes in smaller parts.
                    watched.first = (watched.first / 4).max(1);
                    outage.failed(&e);
                }
            }
            backoff.pause().await;
        }
    })
}

/// One watch, over all its readings and feeds.
struct Watched {
    inner: Arc<Inner>,
    range: Range,
    each_request: Duration,
    /// How many keys the first part of a reading with values asks for.
    first: usize,
    told: Told,
    values: Values,
    history: History,
    /// Whether the server was seen to tell of another history than before, which is to be read whole.
    was_replaced: bool,
    /// What the last reading left out of comparing, though it may be of another history.
    unsure: Option<Place>,
}

/// Where a reading with values goes on, and how many keys it asks for there.
struct Place {
    start: Vec<u8>,
    size: usize,
}

/// A part of a reading with values.
struct Part {
    of: History,
    kvs: Vec<KeyValue>,
    next: Option<Place>,
}

impl Watched {
    fn new(inner: Arc<Inner>, range: Range, each_request: Duration) -> Self {
        let (told, values, history) = (Told::default(), Values::default(), History::default());
        let (first, was_replaced, unsure) = (FIRST, false, None);
        Self { inner, range, each_request, first, told, values, history, was_replaced, unsure }
    }

    fn start(&self) -> Place {
        Place { start: self.range.start.clone(), size: self.first }
    }

    /// Tells what is there, or what differs from what was told. Nothing is believed of revisions that were seen before: they
    /// may be of a history that was taken back.
    async fn read(&mut self, out: &Emit<WatchEvent>) -> Result<()> {
        self.unsure = None;
        let has_told = self.told.keys().next().is_some();
        let mut read = None;
        if has_told && !self.was_replaced {
            self.told.relist();
            read = self.read_what_differs(out).await?;
        }
        let now = match read {
            Some(now) => now,
            None => self.read_all(out).await?,
        };
        for event in self.told.rest() {
            self.values.told(&event);
            out.send(event).await;
        }
        self.history.read(now);
        self.was_replaced = false;
        Ok(())
    }

    /// With all values.
    async fn read_all(&mut self, out: &Emit<WatchEvent>) -> Result<History> {
        if self.was_replaced {
            self.history = History::default();
        }
        self.told.relist();
        let (mut place, mut first) = (self.start(), None::<History>);
        loop {
            let at = first.as_ref().map_or(0, History::revision);
            let Part { of, kvs, next } = self.part(place, at).await?;
            let now = *first.get_or_insert(of);
            for kv in kvs {
                self.listed(kv, out).await;
            }
            match next {
                Some(next) => place = next,
                None => return Ok(now),
            }
        }
    }

    /// At this revision, or, where that is 0, at the latest.
    async fn part(&self, place: Place, at: i64) -> Result<Part> {
        let size = i64::try_from(place.size).unwrap_or(1);
        let options = GetOptions::new().with_limit(size).with_revision(at);
        let mut page = self.page(&place.start, options).await?;
        let (of, more, kvs) = (History::of(page.header())?, page.more(), page.take_kvs());
        let last = kvs.last().filter(|_| more);
        let next = last.map(|last| Place { start: after(last.key()), size: next_size(&kvs) });
        Ok(Part { of, kvs, next })
    }

    /// With the values of what was told otherwise, or not at all, or a short while ago. `None` where the history is another
    /// one than that which was told, so that any value may be.
    async fn read_what_differs(&mut self, out: &Emit<WatchEvent>) -> Result<Option<History>> {
        let (mut start, mut first, mut is_sure) = (self.range.start.clone(), None::<History>, true);
        loop {
            let at = first.as_ref().map_or(0, History::revision);
            let options = GetOptions::new().with_keys_only().with_limit(KEYS as i64).with_revision(at);
            let page = self.page(&start, options).await?;
            let of = History::of(page.header())?;
            let now = *first.get_or_insert(of);
            self.was_replaced |= !self.history.may_go_on(&now);
            let mut owed = Vec::new();
            for kv in page.kvs() {
                let Some(key) = self.inner.names.parse(kv.key()) else { continue };
                let differs = self.told.still(&key, version(kv.mod_revision()));
                self.was_replaced |= differs && self.history.has(kv.mod_revision());
                if differs || self.history.is_recent(kv.mod_revision()) {
                    owed.push(kv.key().to_vec());
                } else {
                    is_sure = false;
                }
            }
            if self.was_replaced {
                return Ok(None);
            }
            self.read_owed(&owed, now.revision(), out).await?;
            if self.was_replaced {
                return Ok(None);
            }
            match page.kvs().last().filter(|_| page.more()) {
                Some(last) => start = after(last.key()),
                None => {
                    self.unsure = (!is_sure).then(|| self.start());
                    return Ok(Some(now));
                }
            }
        }
    }

    /// Reads and tells these, a part at a time: however large they are, each part has a deadline of its own, and is not asked
    /// for again when the next one breaks off.
    async fn read_owed(&mut self, mut owed: &[Vec<u8>], at: i64, out: &Emit<WatchEvent>) -> Result<()> {
        let (pinned, mut size) = (GetOptions::new().with_revision(at), self.first);
        while !owed.is_empty() {
            let (part, behind) = owed.split_at(size.min(owed.len()));
            let deadline = Deadline::after(self.each_request);
            let read = txn::read(&self.inner, part, Purpose::Read, deadline, &pinned).await?;
            let kvs: Vec<_> = read.into_iter().flatten().collect();
            (size, owed) = (next_size(&kvs), behind);
            for kv in kvs {
                self.listed(kv, out).await;
            }
        }
        Ok(())
    }

    async fn page(&self, start: &[u8], options: GetOptions) -> Result<GetResponse> {
        let options = match self.range.end.is_empty() {
            true => options,
            false => options.with_range(self.range.end.clone()),
        };
        self.inner.range(Purpose::Read, Deadline::after(self.each_request), start, options).await
    }

    /// Tells changes until the feed breaks, or is seen to be of another history than what was told before.
    async fn follow(&mut self, feed: &mut Feed, out: &Emit<WatchEvent>) {
        let (read, mut compare_at) = (self.history.revision(), Instant::now() + CALM);
        loop {
            let news = tokio::select! {
                biased;
                () = tokio::time::sleep_until(compare_at), if self.unsure.is_some() => {
                    let compared = self.compare().await;
                    if compared.is_err() || self.was_replaced {
                        return;
                    }
                    compare_at = Instant::now() + CALM;
                    continue;
                }
                news = feed.next() => news,
            };
            let News::Changes(changes) = news else { return };
            // The reading knows what happened before it.
            for (change, kv) in changes.into_iter().filter(|(_, kv)| kv.mod_revision() > read) {
                let Some(key) = self.inner.names.parse(kv.key()) else { continue };
                let at = kv.mod_revision();
                let event = match change {
                    Change::Put => self.told.put(entry(key, kv)),
                    Change::Delete => self.told.delete(key, version(at)),
                };
                self.history.told(at);
                let Some(event) = event else { continue };
                self.values.told(&event);
                out.send(event).await;
            }
        }
    }

    /// Reads a part of the values that the last reading did not compare. A server that was wiped and written again by the same
    /// hand has the same keys at the same revisions, and nothing but a value tells that it is another history.
    async fn compare(&mut self) -> Result<()> {
        let Some(place) = self.unsure.take() else { return Ok(()) };
        let Part { kvs, next, .. } = self.part(place, 0).await?;
        self.was_replaced |= kvs.iter().any(|kv| self.is_another(kv));
        self.unsure = next;
        Ok(())
    }

    /// Whether this is another write, under the same revision, than the one that was told.
    fn is_another(&self, kv: &KeyValue) -> bool {
        let Some(key) = self.inner.names.parse(kv.key()) else { return false };
        self.told.version(&key) == Some(version(kv.mod_revision())) && self.values.differs(&key, kv.value())
    }

    async fn listed(&mut self, kv: KeyValue, out: &Emit<WatchEvent>) {
        let Some(key) = self.inner.names.parse(kv.key()) else { return };
        if self.is_another(&kv) {
            self.was_replaced = true;
            if let Some(event) = self.told.gone(&key) {
                out.send(event).await;
            }
        }
        self.history.noted(kv.mod_revision());
        self.values.note(&key, kv.value());
        for event in self.told.listed(entry(key, kv)) {
            out.send(event).await;
        }
    }
}
