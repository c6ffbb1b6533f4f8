//! Watches: the changes from now on, and then a reading at one revision, which the changes may overlap. In this order nothing
//! can come between the two, however slowly the reading is taken: a server that ends ends the changes too.

use crate::{
    client::Does,
    error::{failed, refused},
    list::next_size,
    names::{Range, after},
    recent::Recent,
    store::{ANSWER, Inner, entry, revision, version},
    txn,
};
use etcd_client::{
    Event, GetOptions, GetResponse, KeyValue, WatchOptions as ServerWatch, WatchResponse,
    WatchStream as ServerStream,
};
use kv_core::{
    backend::{Backoff, Emit, Outage, Told, stream},
    *,
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// How many keys the first page of a reading asks for, with values, and each page without.
const FIRST: usize = 64;
const KEYS: usize = 4096;
/// A feed that lived so long was a good one.
pub(crate) const LASTED: Duration = Duration::from_secs(5);

/// The server's changes of a range from now on.
pub(crate) struct Feed {
    stream: ServerStream,
}

/// What a feed gives.
pub(crate) enum News {
    Changes(Vec<(Change, KeyValue)>),
    /// Read again: the link broke, the member lost its leader, or the revision was compacted.
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Put,
    Delete,
}

impl Feed {
    pub(crate) async fn open(inner: &Inner, range: &Range, each_request: Duration) -> Result<Self> {
        let mut options = ServerWatch::new().with_fragment();
        if !range.end.is_empty() {
            options = options.with_range(range.end.clone());
        }
        let open = inner.client.call(Does::Stream, Deadline::after(each_request), |service| {
            let (start, options) = (range.start.clone(), options.clone());
            async move {
                let mut watch = service.watch_client().max_decoding_message_size(ANSWER);
                let mut stream = watch.watch(start, Some(options)).await?;
                match stream.message().await? {
                    Some(first) if first.created() && !first.canceled() => Ok(stream),
                    said => Err(refused(said.as_ref().map_or("", WatchResponse::cancel_reason))),
                }
            }
        });
        Ok(Self { stream: open.await? })
    }

    /// Waits for what changes. Cancel safe.
    pub(crate) async fn next(&mut self) -> News {
        loop {
            let message = match self.stream.message().await {
                Ok(Some(message)) if !message.canceled() => message,
                Ok(end) => {
                    tracing::debug!(
                        reason = end.as_ref().map(|end| end.cancel_reason()),
                        "the server ended a watch"
                    );
                    return News::Broken;
                }
                Err(e) => {
                    tracing::debug!(error = %failed("watch", true, e).error, "a watch broke");
                    return News::Broken;
                }
            };
            let changes: Vec<_> = message.events().iter().filter_map(change).collect();
            if !changes.is_empty() {
                return News::Changes(changes);
            }
        }
    }
}

fn change(event: &Event) -> Option<(Change, KeyValue)> {
    let kv = event.kv()?.clone();
    // What is gone was never created.
    Some((if kv.create_revision() == 0 { Change::Delete } else { Change::Put }, kv))
}

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
        let (told, recent) = (Told::default(), Recent::default());
        let mut watched = Watched { inner, range, each_request, told, recent };
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
                    outage.over();
                    let since = Instant::now();
                    watched.follow(&mut feed, &out).await;
                    // What breaks again and again is not to have the tree read again and again.
                    if since.elapsed() > LASTED {
                        backoff.reset();
                    }
                }
                Err(e) if e.is_lasting() => return Err(e),
                Err(e) => outage.failed(&e),
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
    told: Told,
    recent: Recent,
}

impl Watched {
    /// Tells what is there, or what differs from what was told. Nothing is believed of revisions that were seen before: they
    /// may be of a history that was taken back.
    async fn read(&mut self, out: &Emit<WatchEvent>) -> Result<()> {
        self.told.relist();
        let has_told = self.told.keys().next().is_some();
        let at = match has_told {
            false => self.read_all(out).await?,
            true => self.read_what_differs(out).await?,
        };
        for event in self.told.rest() {
            out.send(event).await;
        }
        self.recent.cut(at);
        Ok(())
    }

    /// With all values.
    async fn read_all(&mut self, out: &Emit<WatchEvent>) -> Result<i64> {
        let (mut start, mut at, mut size) = (self.range.start.clone(), 0, FIRST);
        loop {
            let options = GetOptions::new().with_limit(i64::try_from(size).unwrap_or(1)).with_revision(at);
            let mut page = self.page(&start, options).await?;
            if at == 0 {
                at = revision(page.header())?;
            }
            let (more, kvs) = (page.more(), page.take_kvs());
            size = next_size(&kvs);
            let last = kvs.last().filter(|_| more).map(|last| after(last.key()));
            for kv in kvs {
                self.listed(kv, out).await;
            }
            match last {
                Some(next) => start = next,
                None => return Ok(at),
            }
        }
    }

    /// With the values of what was told otherwise, or not at all.
    async fn read_what_differs(&mut self, out: &Emit<WatchEvent>) -> Result<i64> {
        let (mut start, mut at) = (self.range.start.clone(), 0);
        loop {
            let options = GetOptions::new().with_keys_only().with_limit(KEYS as i64).with_revision(at);
            let page = self.page(&start, options).await?;
            if at == 0 {
                at = revision(page.header())?;
            }
            let mut owed = Vec::new();
            for kv in page.kvs() {
                let Some(key) = self.inner.names.parse(kv.key()) else { continue };
                let differs = self.told.still(&key, version(kv.mod_revision()));
                if differs || self.recent.knows(kv.mod_revision(), &key) {
                    owed.push(kv.key().to_vec());
                }
            }
            let deadline = Deadline::after(self.each_request);
            let pinned = GetOptions::new().with_revision(at);
            for kv in
                txn::read(&self.inner, &owed, Does::Read, deadline, &pinned).await?.into_iter().flatten()
            {
                self.listed(kv, out).await;
            }
            match page.kvs().last().filter(|_| page.more()) {
                Some(last) => start = after(last.key()),
                None => return Ok(at),
            }
        }
    }

    async fn page(&self, start: &[u8], options: GetOptions) -> Result<GetResponse> {
        let options = match self.range.end.is_empty() {
            true => options,
            false => options.with_range(self.range.end.clone()),
        };
        self.inner.range(Does::Read, Deadline::after(self.each_request), start, options).await
    }

    /// Tells changes until the feed breaks.
    async fn follow(&mut self, feed: &mut Feed, out: &Emit<WatchEvent>) {
        while let News::Changes(changes) = feed.next().await {
            for (change, kv) in changes {
                let Some(key) = self.inner.names.parse(kv.key()) else { continue };
                let event = match change {
                    Change::Put => {
                        self.recent.note(kv.mod_revision(), &key, kv.value());
                        self.told.put(entry(key, kv))
                    }
                    Change::Delete => self.told.delete(key, version(kv.mod_revision())),
                };
                if let Some(event) = event {
                    out.send(event).await;
                }
            }
        }
    }

    async fn listed(&mut self, kv: KeyValue, out: &Emit<WatchEvent>) {
        let Some(key) = self.inner.names.parse(kv.key()) else { return };
        let at = kv.mod_revision();
        // Another write under the same revision: of a history that came in the place of the one that was told.
        if self.told.version(&key) == Some(version(at))
            && self.recent.differs(at, &key, kv.value())
            && let Some(event) = self.told.gone(&key)
        {
            out.send(event).await;
        }
        self.recent.note(at, &key, kv.value());
        for event in self.told.listed(entry(key, kv)) {
            out.send(event).await;
        }
    }
}
