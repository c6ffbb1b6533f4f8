//! Watches: a reading at one revision, then the changes from there on.

use crate::{
    client::Does,
    error::{failed, says},
    lease::unique,
    names::{Range, after},
    store::{ANSWER, Inner, entry, revision, version},
};
use etcd_client::{
    Event, GetOptions, GetResponse, KeyValue, WatchOptions as ServerWatch, WatchStream as ServerStream,
};
use kv_core::{
    backend::{Emit, Told, stream},
    *,
};
use std::{sync::Arc, time::Duration};

/// How many keys a reading asks for at once, with and without values.
const VALUES: usize = 256;
const KEYS: usize = 4096;

/// Pauses between attempts: longer and longer, and not all at the same moment.
#[derive(Debug, Default)]
pub(crate) struct Backoff(u32);

impl Backoff {
    pub(crate) async fn pause(&mut self) {
        let most = 50 << self.0.min(4);
        self.0 += 1;
        tokio::time::sleep(Duration::from_millis(most / 2 + unique() % (most / 2))).await;
    }

    pub(crate) fn reset(&mut self) {
        self.0 = 0;
    }
}

/// The server's changes of a range from a revision on.
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
    pub(crate) async fn open(
        inner: &Inner,
        range: &Range,
        from: i64,
        each_request: Duration,
    ) -> Result<Self> {
        let mut options = ServerWatch::new().with_start_revision(from).with_fragment();
        if !range.end.is_empty() {
            options = options.with_range(range.end.clone());
        }
        let open = || {
            inner.client.call(Does::Stream, Deadline::after(each_request), |service| {
                let (start, options) = (range.start.clone(), options.clone());
                async move {
                    let mut watch = service.watch_client().max_decoding_message_size(ANSWER);
                    let mut stream = watch.watch(start.clone(), Some(options.clone())).await?;
                    let mut first = stream.message().await?;
                    // The server says so too where the token has ended.
                    if first.as_ref().is_some_and(is_refused) && service.refresh_token().await.is_ok() {
                        stream = watch.watch(start, Some(options)).await?;
                        first = stream.message().await?;
                    }
                    Ok((stream, first))
                }
            })
        };
        let (stream, first) = open().await?;
        match first {
            Some(first) if is_refused(&first) => {
                let why = format!("the server refused the watch: {}", first.cancel_reason());
                Err(Error::new(ErrorKind::PermissionDenied, why))
            }
            Some(first) if first.created() && !first.canceled() => Ok(Self { stream }),
            _ => Err(Error::new(ErrorKind::Unavailable, "the server ended the watch at once")),
        }
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

fn is_refused(response: &etcd_client::WatchResponse) -> bool {
    let says = |part: &str| response.cancel_reason().contains(part);
    response.canceled() && (says("permission denied") || says("auth token") || says("auth store is old"))
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
    stream(|out| async move {
        let mut watched =
            Watched { inner, range, each_request, told: Told::default(), count: 0, since: None };
        let mut backoff = Backoff::default();
        loop {
            let began = async {
                let at = watched.read(&out).await?;
                let feed = Feed::open(&watched.inner, &watched.range, at + 1, each_request).await?;
                out.send(WatchEvent::Synced).await;
                Ok::<_, Error>(feed)
            };
            match began.await {
                Ok(mut feed) => {
                    backoff.reset();
                    watched.follow(&mut feed, &out).await;
                }
                Err(e) if e.is_transient() || says(&e, "has been compacted") => {}
                Err(e) => return Err(e),
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
    /// How many names the range holds on the server, whoever wrote them.
    count: i64,
    /// The first revision of which not everything is known; `None` before the first whole reading.
    since: Option<i64>,
}

impl Watched {
    /// Tells what is there, or what differs from what was told; the revision of it.
    async fn read(&mut self, out: &Emit<WatchEvent>) -> Result<i64> {
        let since = self.since.unwrap_or(0);
        let (mut place, mut new) = (None::<(i64, i64, Vec<u8>)>, 0);
        if self.since.is_none() {
            self.told.relist();
        }
        let (at, count) = loop {
            let (pinned, start) =
                place.as_ref().map_or((0, &self.range.start), |(at, _, start)| (*at, start));
            let options = GetOptions::new().with_min_mod_revision(since).with_limit(VALUES as i64);
            let mut page = self.page(start, options.with_revision(pinned)).await?;
            let (at, count) = match place {
                Some((at, count, _)) => (at, count),
                None => (revision(page.header())?, page.count()),
            };
            let kvs = page.take_kvs();
            place = kvs.last().filter(|_| page.more()).map(|last| (at, count, after(last.key())));
            for kv in kvs {
                new += i64::from(kv.create_revision() >= since);
                self.put(kv, out).await;
            }
            if place.is_none() {
                break (at, count);
            }
        };
        if self.since.is_some() && count != self.count + new {
            self.still_there(at).await?;
        }
        // When nothing can be missing, nothing was begun that could be ended.
        if self.since.is_none() || count != self.count + new {
            for event in self.told.rest() {
                out.send(event).await;
            }
        }
        (self.count, self.since) = (count, Some(at + 1));
        Ok(at)
    }

    /// Notes the names that are there at this revision.
    async fn still_there(&mut self, at: i64) -> Result<()> {
        self.told.relist();
        let mut start = self.range.start.clone();
        loop {
            let options = GetOptions::new().with_keys_only().with_limit(KEYS as i64).with_revision(at);
            let page = self.page(&start, options).await?;
            for kv in page.kvs() {
                if let Some(key) = self.inner.names.parse(kv.key()) {
                    self.told.still(&key, version(kv.mod_revision()));
                }
            }
            match page.kvs().last().filter(|_| page.more()) {
                Some(last) => start = after(last.key()),
                None => return Ok(()),
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
                // More of this revision may be to come, in another message.
                self.since = Some(kv.mod_revision());
                match change {
                    Change::Put => {
                        self.count += i64::from(kv.version() == 1);
                        self.put(kv, out).await;
                    }
                    Change::Delete => {
                        self.count -= 1;
                        let event = self.inner.names.parse(kv.key());
                        let event = event.and_then(|key| self.told.delete(key, version(kv.mod_revision())));
                        if let Some(event) = event {
                            out.send(event).await;
                        }
                    }
                }
            }
        }
    }

    async fn put(&mut self, kv: KeyValue, out: &Emit<WatchEvent>) {
        let Some(key) = self.inner.names.parse(kv.key()) else { return };
        if let Some(event) = self.told.put(entry(key, kv)) {
            out.send(event).await;
        }
    }
}
