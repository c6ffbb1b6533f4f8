//! The backend itself: a store in one slot, or spread over several.

use crate::{lease, list, lock, names::Names, store::Part, txn, watch};
use futures::{StreamExt, TryStreamExt, stream};
use kv_core::{backend::stream as stream_of, *};
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

/// A store on one server or cluster, below one prefix; clones share its connections. [`Config`](crate::Config) opens one.
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

struct Inner {
    parts: Vec<Arc<Part>>,
    capabilities: Capabilities,
}

impl Redis {
    pub(crate) fn of(parts: Vec<Part>) -> Result<Self> {
        let none = || Error::new(ErrorKind::InvalidArgument, "a store of no part");
        let mut capabilities = parts.first().ok_or_else(none)?.capabilities.clone();
        if parts.len() > 1 {
            // What needs one slot.
            capabilities.max_txn_ops = 0;
            capabilities.max_txn_bytes = 0;
            capabilities.lease = None;
            if let Some(lock) = &mut capabilities.lock {
                lock.fenced_writes = false;
            }
        }
        Ok(Self(Arc::new(Inner { parts: parts.into_iter().map(Arc::new).collect(), capabilities })))
    }

    /// The part of a key, or of a lock.
    fn part(&self, key: &Key) -> &Arc<Part> {
        let count = u16::try_from(self.0.parts.len()).unwrap_or(u16::MAX);
        &self.0.parts[usize::from(Names::part_of(key.as_str(), count))]
    }

    /// The part, where there is only one.
    fn whole(&self) -> Option<&Arc<Part>> {
        self.0.parts.first().filter(|_| self.0.parts.len() == 1)
    }
}

/// Pages of the parts as one, in order: the first of what each has, up to where one of them was cut.
async fn merged(
    redis: &Redis,
    directory: &Directory,
    from: Option<&Cursor>,
    options: &ListOptions,
) -> Result<Page> {
    let mut options = options.clone();
    if let Some(place) = from.and_then(Page::place) {
        options.start_after = Some(place);
    }
    let pages = redis.0.parts.iter().map(|part| first_page(part, directory, &options));
    let pages: Vec<Page> = futures::future::try_join_all(pages).await?;
    // Behind the last of a page that has a next one, its part may have more.
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

/// The first page of a part that is not empty, unless all are.
async fn first_page(part: &Part, directory: &Directory, options: &ListOptions) -> Result<Page> {
    let mut page = list::page(&part.core, directory, None, options).await?;
    while let Some(next) = page.next.as_ref().filter(|_| page.items.is_empty()) {
        page = list::page(&part.core, directory, Some(next), options).await?;
    }
    Ok(page)
}

/// The watches of the parts as one; `Synced` when all of them are, and when one of them is again.
fn joined(parts: Vec<WatchStream>) -> WatchStream {
    let waiting = parts.len();
    let parts = parts.into_iter().enumerate().map(|(n, part)| part.map(move |event| (n, event)).boxed());
    let mut all = stream::select_all(parts);
    stream_of(move |out| async move {
        let mut synced = vec![false; waiting];
        while let Some((n, event)) = all.next().await {
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

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Redis {
    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        let found = self.part(key).core.read(std::slice::from_ref(key), options.deadline).await?;
        Ok(found.into_iter().next().flatten())
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
        if let Some(part) = self.whole() {
            return part.core.read(keys, options.deadline).await;
        }
        let reads = self.0.parts.iter().map(|part| async move {
            let own: Vec<_> = keys.iter().filter(|key| Arc::ptr_eq(self.part(key), part)).cloned().collect();
            if own.is_empty() { Ok(Vec::new()) } else { part.core.read(&own, options.deadline).await }
        });
        let found = futures::future::try_join_all(reads).await?;
        let found: BTreeMap<Key, Entry> =
            found.into_iter().flatten().flatten().map(|entry| (entry.key.clone(), entry)).collect();
        Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
    }

    async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool> {
        self.part(key).exists(key, options).await
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        txn::put(self.part(key), key, value, expect, options).await
    }

    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        txn::delete(self.part(key), key, expect, options).await
    }

    async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        match self.whole() {
            Some(part) => list::page(&part.core, directory, from, options).await,
            None => merged(self, directory, from, options).await,
        }
    }

    async fn delete_tree(
        &self,
        directory: &Directory,
        _: Option<&Cursor>,
        options: &WriteOptions,
    ) -> Result<Batch> {
        let parts = self.0.parts.iter().map(|part| list::delete_tree(part, directory, options));
        let batches = futures::future::try_join_all(parts).await?;
        let deleted = batches.iter().filter_map(|batch| batch.deleted).sum();
        Ok(Batch { deleted: Some(deleted), next: batches.into_iter().find_map(|batch| batch.next) })
    }

    async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Outcome> {
        let part = self.whole().ok_or_else(|| self.0.capabilities.unsupported("transactions"))?;
        txn::transact(part, transaction, options).await
    }

    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        Ok(match target {
            Target::Key(key) => watch::watch(self.part(key).core.clone(), target, options),
            Target::Holder(name) => watch::holder(self.part(name).core.clone(), name, options),
            Target::Tree(_) => match self.whole() {
                Some(part) => watch::watch(part.core.clone(), target, options),
                None => joined(
                    self.0
                        .parts
                        .iter()
                        .map(|part| watch::watch(part.core.clone(), target, options))
                        .collect(),
                ),
            },
        })
    }

    async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        let range = self.0.capabilities.lease.as_ref();
        let (Some(range), Some(part)) = (range, self.whole()) else {
            return Err(self.0.capabilities.unsupported("leases"));
        };
        lease::lease(part, range.grant(ttl)?, options).await
    }

    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        lock::lock(self.part(name), name, options).await
    }

    async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
        let found = lock::holder(&self.part(name).core, name, options.deadline).await?;
        Ok(found.map(|(holder, _)| holder))
    }

    async fn adopt(&self, directory: &Directory, options: &WriteOptions) -> Result<u64> {
        let parts = self.0.parts.iter().map(|part| list::adopt(part, directory, options));
        Ok(futures::future::try_join_all(parts).await?.into_iter().sum())
    }

    async fn health(&self, options: &ReadOptions) -> Result<Health> {
        let parts = stream::iter(&self.0.parts).then(|part| part.health(options));
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

    async fn close(&self) -> Result<()> {
        futures::future::join_all(self.0.parts.iter().map(|part| part.close())).await;
        Ok(())
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = self.0.parts.first().map(|part| &part.core);
        f.debug_struct("Redis")
            .field("servers", &core.map(|core| &core.client))
            .field("prefix", &core.map(|core| core.names.prefix()))
            .field("parts", &self.0.parts.len())
            .finish_non_exhaustive()
    }
}
