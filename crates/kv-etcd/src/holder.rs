//! Who holds a lock, for others to read and to watch.

use crate::{
    client::Purpose,
    feed::{Change, Feed, LASTED, News},
    names::{Names, Range, after},
    store::{Inner, purpose, reading, revision},
};
use etcd_client::{GetOptions, KeyValue, SortOrder, SortTarget};
use kv_core::{
    backend::{Backoff, Emit, Outage, stream},
    *,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::Instant;

/// How many contenders are asked for at once.
const MANY: i64 = 128;

fn token(kv: &KeyValue) -> u64 {
    u64::try_from(kv.create_revision()).unwrap_or_default()
}

/// [`Store::lock_holder`].
pub(crate) async fn holder(inner: &Inner, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
    let line = inner.names.contenders(name);
    let mut since = 0;
    loop {
        let first = reading(options)
            .with_range(line.end.clone())
            .with_sort(SortTarget::Create, SortOrder::Ascend)
            .with_min_create_revision(since)
            .with_limit(1);
        let first = inner.range(purpose(options), options.deadline, &line.start, first).await?.take_kvs();
        match first.into_iter().next() {
            // What another tool wrote there holds nothing.
            Some(junk) if !Names::is_contender(&line, junk.key(), junk.lease()) => {
                since = junk.create_revision() + 1;
            }
            first => return Ok(first.map(|kv| Holder::new(token(&kv), kv.into_key_value().1))),
        }
    }
}

/// A watch of the holder, over all its readings and feeds.
struct Watched {
    inner: Arc<Inner>,
    name: Key,
    line: Range,
    each_request: Duration,
    /// Who is in line, in the order of coming, with what each would tell.
    waiting: BTreeMap<(i64, Vec<u8>), Vec<u8>>,
    /// Whom the watch has told to hold the lock.
    told: Option<(i64, Vec<u8>)>,
}

impl Watched {
    /// Reads who is in line; the revision of it.
    async fn read(&mut self) -> Result<i64> {
        self.waiting.clear();
        let (mut start, mut pinned) = (self.line.start.clone(), 0);
        loop {
            let page =
                GetOptions::new().with_range(self.line.end.clone()).with_limit(MANY).with_revision(pinned);
            let deadline = Deadline::after(self.each_request);
            let mut page = self.inner.range(Purpose::Read, deadline, &start, page).await?;
            if pinned == 0 {
                pinned = revision(page.header())?;
            }
            let (more, kvs) = (page.more(), page.take_kvs());
            let last = kvs.last().filter(|_| more).map(|last| after(last.key()));
            kvs.into_iter().for_each(|kv| self.comes(kv));
            match last {
                Some(next) => start = next,
                None => return Ok(pinned),
            }
        }
    }

    fn comes(&mut self, kv: KeyValue) {
        if !Names::is_contender(&self.line, kv.key(), kv.lease()) {
            return self.goes(kv.key());
        }
        let since = kv.create_revision();
        let (name, value) = kv.into_key_value();
        self.waiting.insert((since, name), value);
    }

    fn goes(&mut self, name: &[u8]) {
        self.waiting.retain(|(_, waits), _| waits != name);
    }

    /// Tells who holds it now.
    async fn tell(&mut self, out: &Emit<WatchEvent>) {
        let version = |token: i64| Version::new(u64::try_from(token).unwrap_or_default(), 0);
        let event = match self.waiting.first_key_value() {
            Some((first, _)) if self.told.as_ref() == Some(first) => return,
            Some((first, value)) => {
                self.told = Some(first.clone());
                WatchEvent::Put(Entry::new(self.name.clone(), value.clone(), version(first.0)))
            }
            None => match self.told.take() {
                Some((token, _)) => WatchEvent::Delete { key: self.name.clone(), version: version(token) },
                None => return,
            },
        };
        out.send(event).await;
    }

    async fn follow(&mut self, out: &Emit<WatchEvent>, up: impl FnOnce()) -> Result<()> {
        let mut feed = Feed::open(&self.inner, &self.line, self.each_request).await?;
        let at = self.read().await?;
        self.tell(out).await;
        out.send(WatchEvent::Synced).await;
        up();
        while let News::Changes(changes) = feed.next().await {
            // The reading knows what happened before it.
            let mut changes = changes.into_iter().filter(|(_, kv)| kv.mod_revision() > at).peekable();
            while let Some((change, kv)) = changes.next() {
                let now = kv.mod_revision();
                match change {
                    Change::Put => self.comes(kv),
                    Change::Delete => self.goes(kv.key()),
                }
                // What goes together, with its session, was never one behind the other.
                if changes.peek().is_none_or(|(_, next)| next.mod_revision() != now) {
                    self.tell(out).await;
                }
            }
        }
        Ok(())
    }
}

/// [`Store::watch`] of a [`Target::Holder`].
pub(crate) fn watch_holder(inner: Arc<Inner>, name: &Key, options: &WatchOptions) -> WatchStream {
    let (line, each_request) = (inner.names.contenders(name), options.each_request);
    let name = name.clone();
    stream(move |out| async move {
        let (waiting, told) = (BTreeMap::new(), None);
        let mut watched = Watched { inner, name, line, each_request, waiting, told };
        let (mut backoff, mut outage) = (Backoff::default(), Outage::new("watch of a lock's holder", "etcd"));
        loop {
            let since = Instant::now();
            let ended = watched.follow(&out, || outage.over()).await;
            if since.elapsed() > LASTED {
                backoff.reset();
            }
            match ended {
                Err(e) if e.is_lasting() => return Err(e),
                Err(e) => outage.failed(&e),
                Ok(()) => {}
            }
            backoff.pause().await;
        }
    })
}
