//! A store as its parts: one, or several that its keys are spread over, each in a slot of its own.
//! It chooses the part of a call, or joins the answers of all parts.

use crate::{
    client::script,
    core::Core,
    error::invalid,
    list,
    lock::{listed, session::Sessions},
    names::Names,
    watch,
    write::{adopt, tree},
};
use fred::types::Value;
use futures::{
    StreamExt, TryStreamExt,
    future::{join_all, try_join_all},
    stream,
};
use kv_core::{
    Capabilities, Directory, Entry, Error, ErrorKind, Health, Item, Key, Result, WatchEvent,
    backend::{
        retry::{RetrySafety, outcome_unknown},
        stream as stream_of,
    },
    driver::{
        Batch, Cursor, Deadline, ListOptions, LockPage, Page, ReadOptions, Target, WatchOptions, WatchStream,
        WriteOptions,
    },
};
use std::{collections::BTreeMap, future::poll_fn, sync::Arc, task::Poll};

/// One part: a store in one slot, and the sessions that end with it.
pub(crate) struct Part {
    pub(crate) core: Arc<Core>,
    pub(crate) sessions: Sessions,
}

impl Part {
    /// Gives back open locks and leases, and ends the connections. Returns the first error of one
    /// that could not be given back.
    async fn close(&self) -> Result<()> {
        let given_back = self.core.tasks.finish().await;
        let ended = self.sessions.end().await;
        // A renewal that was under way may have begun to take out who came late.
        let given_back = given_back.and(self.core.tasks.finish().await);
        self.core.feed.close();
        self.core.client.close();
        given_back.and(ended)
    }
}

/// The parts of a store, most often one.
pub(crate) struct Spread {
    parts: Vec<Part>,
    pub(crate) capabilities: Capabilities,
}

impl Spread {
    /// Makes one store of these parts.
    pub(crate) fn of(cores: Vec<Core>) -> Result<Self> {
        let none = || Error::new(ErrorKind::InvalidArgument, "a store of no part");
        let mut capabilities = cores.first().ok_or_else(none)?.capabilities.clone();
        if cores.len() > 1 {
            // These need one slot.
            capabilities.max_txn_ops = 0;
            capabilities.max_txn_bytes = 0;
            capabilities.lease = None;
            capabilities.watch_ordered = false;
            if let Some(lock) = &mut capabilities.lock {
                lock.fenced_writes = false;
            }
        }
        let part = |core| Part { core: Arc::new(core), sessions: Sessions::default() };
        Ok(Self { parts: cores.into_iter().map(part).collect(), capabilities })
    }

    /// Returns the number of parts.
    pub(crate) fn len(&self) -> usize {
        self.parts.len()
    }

    /// Returns the first part.
    pub(crate) fn first(&self) -> Option<&Arc<Core>> {
        self.parts.first().map(|part| &part.core)
    }

    /// Returns the part of a key, or of a lock.
    pub(crate) fn part(&self, key: &Key) -> &Part {
        let count = u16::try_from(self.parts.len()).unwrap_or(u16::MAX);
        &self.parts[usize::from(Names::part_of(key.as_str(), count))]
    }

    /// Returns the core of the part of this key.
    pub(crate) fn core(&self, key: &Key) -> &Arc<Core> {
        &self.part(key).core
    }

    /// Returns the part, where there is only one.
    fn whole(&self) -> Option<&Arc<Core>> {
        self.first().filter(|_| self.parts.len() == 1)
    }

    /// Returns the part, for a call that needs one slot.
    ///
    /// # Errors
    /// `Unsupported` where there are several parts.
    pub(crate) fn only(&self, what: &str) -> Result<&Arc<Core>> {
        self.whole().ok_or_else(|| self.capabilities.unsupported(what))
    }

    /// Reads several keys, of all parts at once.
    pub(crate) async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
        if let Some(core) = self.whole() {
            return list::read(core, keys, options.deadline).await;
        }
        let reads = self.parts.iter().map(|part| async move {
            let own: Vec<_> = keys.iter().filter(|key| std::ptr::eq(self.part(key), part)).cloned().collect();
            if own.is_empty() { Ok(Vec::new()) } else { list::read(&part.core, &own, options.deadline).await }
        });
        let found = try_join_all(reads).await?;
        let found: BTreeMap<Key, Entry> =
            found.into_iter().flatten().flatten().map(|entry| (entry.key.clone(), entry)).collect();
        Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
    }

    /// Lists a page of what is in a directory.
    pub(crate) async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        if let Some((part, step)) = from.and_then(scanned) {
            return self.scan(part, &step, directory, options).await;
        }
        let mut page = match self.whole() {
            Some(core) => list::page(core, directory, from, options).await?,
            None => self.page(directory, from, options).await?,
        };
        if page.next.is_none() && options.left_out.is_wanted() {
            page.next = Some(scan_at(0, "0"));
        }
        Ok(page)
    }

    /// Makes an empty page, behind the last key, of a step through all names of a part.
    async fn scan(
        &self,
        part: usize,
        step: &str,
        directory: &Directory,
        options: &ListOptions,
    ) -> Result<Page> {
        let Some(of) = self.parts.get(part) else { return Err(Cursor::refused()) };
        let next = list::left_out(&of.core, directory, step, options).await?;
        let other = part + 1;
        let next = next.map(|step| scan_at(part, &step));
        let next = next.or_else(|| (other < self.parts.len()).then(|| scan_at(other, "0")));
        Ok(Page { items: Vec::new(), next })
    }

    /// Makes one page of the parts' pages, in order: their first items, up to where one of them
    /// was cut.
    async fn page(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        let mut options = options.clone();
        if let Some(place) = from.and_then(Page::place) {
            options.start_after = Some(place);
        }
        let pages = self.parts.iter().map(|part| first_page(&part.core, directory, &options));
        let pages: Vec<Page> = try_join_all(pages).await?;
        // Behind the last item of a page that has a next one, its part may have more.
        let last = |page: &Page| page.items.last().filter(|_| page.next.is_some()).map(Item::position);
        let cut = pages.iter().filter_map(last).min();
        let mut items = BTreeMap::new();
        for item in pages.into_iter().flat_map(|page| page.items) {
            if cut.as_ref().is_none_or(|cut| item.position() <= *cut) {
                // A directory may be in every part.
                items.entry(item.position()).or_insert(item);
            }
        }
        let most = options.limit.unwrap_or(usize::MAX);
        let more = cut.is_some() || items.len() > most;
        let items: Vec<Item> = items.into_values().take(most).collect();
        let next = items.last().filter(|_| more).map(|last| Page::behind(&last.position()));
        Ok(Page { items, next })
    }

    /// Deletes the first keys below a directory, of all parts at once.
    pub(crate) async fn delete_tree(&self, directory: &Directory, options: &WriteOptions) -> Result<Batch> {
        let parts = self.parts.iter().map(|part| tree::delete_tree(&part.core, directory, options));
        let batches = all_done(join_all(parts).await, |batch| batch.deleted != Some(0))?;
        let deleted = batches.iter().filter_map(|batch| batch.deleted).sum();
        Ok(Batch { deleted: Some(deleted), next: batches.into_iter().find_map(|batch| batch.next) })
    }

    /// Lists the locks of all parts.
    pub(crate) async fn locks(&self, directory: &Directory, options: &ReadOptions) -> Result<LockPage> {
        let parts = self.parts.iter().map(|part| listed::locks(&part.core, directory, options.deadline));
        Ok(LockPage::select(try_join_all(parts).await?.into_iter().flatten(), directory))
    }

    /// Starts the watch of a target.
    pub(crate) fn watch(&self, target: &Target, options: &WatchOptions) -> WatchStream {
        let start = |core: &Arc<Core>| watch::watch(core.clone(), target, options);
        match target {
            Target::Key(key) | Target::Holder(key) => start(self.core(key)),
            Target::Tree(_) => match self.whole() {
                Some(core) => start(core),
                None => joined(self.parts.iter().map(|part| start(&part.core)).collect()),
            },
        }
    }

    /// Adopts the changes of other tools, in all parts at once.
    pub(crate) async fn adopt(&self, directory: &Directory, options: &WriteOptions) -> Result<u64> {
        let parts = self.parts.iter().map(|part| adopt::adopt(&part.core, directory, options));
        Ok(all_done(join_all(parts).await, |adopted| *adopted > 0)?.into_iter().sum())
    }

    /// Returns the health of the servers.
    pub(crate) async fn health(&self, options: &ReadOptions) -> Result<Health> {
        let parts = stream::iter(&self.parts).then(|part| part.core.health(options));
        let all: Vec<Health> = parts.try_collect().await?;
        let mut health = all.first().cloned().unwrap_or_default();
        if all.len() > 1 {
            health.leader = None;
            health.members = all.into_iter().flat_map(|health| health.members).collect();
            health.members.sort();
            health.members.dedup();
        }
        Ok(health)
    }

    /// Gives back open locks and leases, and ends the connections.
    pub(crate) async fn close(&self) -> Result<()> {
        let closed = join_all(self.parts.iter().map(|part| part.close())).await;
        closed.into_iter().find(Result::is_err).unwrap_or(Ok(()))
    }
}

/// Returns what a write did in all parts, or its first error: of unknown outcome where another part
/// did something, or may have.
fn all_done<T>(parts: Vec<Result<T>>, did: impl Fn(&T) -> bool) -> Result<Vec<T>> {
    let is_done = |part: &Result<T>| match part {
        Ok(done) => did(done),
        Err(e) => e.kind() == ErrorKind::OutcomeUnknown,
    };
    let may_be_done = parts.iter().any(is_done);
    let all: Result<Vec<T>> = parts.into_iter().collect();
    all.map_err(|e| if may_be_done { outcome_unknown(e) } else { e })
}

/// Returns the cursor of a step through all names of a part. No other cursor begins as it does.
fn scan_at(part: usize, step: &str) -> Cursor {
    Cursor::new(format!("\0{part}:{step}"))
}

fn scanned(cursor: &Cursor) -> Option<(usize, String)> {
    let noted = std::str::from_utf8(cursor.as_bytes()).ok()?.strip_prefix('\0')?;
    let (part, step) = noted.split_once(':')?;
    Some((part.parse().ok()?, step.to_owned()))
}

/// Refuses a number of parts that is not the store's, as its first part notes it. A client with
/// another number would find only some of the keys, and write others a second time.
pub(crate) async fn check_parts(first: &Core, asked: u16, deadline: Deadline) -> Result<()> {
    let note = first.names.parts();
    let number = Value::from(i64::from(asked));
    let is = first.run(RetrySafety::Repeatable, deadline, &script::PARTS, [note.clone()], [number]).await?;
    match is.number()? {
        is if is == i64::from(asked) => Ok(()),
        is => Err(invalid(&format!(
            "`spread` over {asked} parts, and the store is spread over {is}, as {note:?} tells; open it with that number"
        ))),
    }
}

/// Returns the first page of a part that is not empty; an empty one if all are.
async fn first_page(core: &Core, directory: &Directory, options: &ListOptions) -> Result<Page> {
    let mut page = list::page(core, directory, None, options).await?;
    while let Some(next) = page.next.as_ref().filter(|_| page.items.is_empty()) {
        page = list::page(core, directory, Some(next), options).await?;
    }
    Ok(page)
}

/// Makes one watch of the parts' watches. It is `Synced` when all of them are, and again whenever
/// one of them is again.
fn joined(mut parts: Vec<WatchStream>) -> WatchStream {
    stream_of(move |out| async move {
        let (mut synced, mut first) = (vec![false; parts.len()], 0);
        while let Some((n, event)) = next_of(&mut parts, first).await {
            // The others have their turn before the same one again.
            first = n + 1;
            match event? {
                WatchEvent::Synced => {
                    synced[n] = true;
                    if synced.iter().all(|synced| *synced) {
                        out.send(WatchEvent::Synced).await;
                    }
                }
                event => out.send(event).await,
            }
        }
        Ok(())
    })
}

/// Waits for the next event of any part, from this one on. All parts are polled each time, and not
/// only those that have news: each has to notice when another runtime reads it than before.
async fn next_of(parts: &mut [WatchStream], first: usize) -> Option<(usize, Result<WatchEvent>)> {
    poll_fn(|cx| {
        let (mut all, many) = (Poll::Ready(None), parts.len());
        for n in (0..many).map(|n| (first + n) % many) {
            match parts[n].poll_next_unpin(cx) {
                Poll::Ready(Some(event)) => return Poll::Ready(Some((n, event))),
                Poll::Ready(None) => {}
                Poll::Pending => all = Poll::Pending,
            }
        }
        all
    })
    .await
}
