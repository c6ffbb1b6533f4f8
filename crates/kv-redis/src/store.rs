//! The backend itself: a store in one slot, or spread over several.

use crate::{
    core::Part,
    lease, list, lock,
    names::Names,
    spread,
    watch::{holder, keys},
    write::{self, adopt},
};
use futures::{StreamExt, TryStreamExt, stream};
use kv_core::*;
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

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Redis {
    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    fn inner(&self) -> Option<&dyn Store> {
        None
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
        write::put(self.part(key), key, value, expect, options).await
    }

    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        write::delete(self.part(key), key, expect, options).await
    }

    async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        match self.whole() {
            Some(part) => list::page(&part.core, directory, from, options).await,
            None => spread::page(&self.0.parts, directory, from, options).await,
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

    async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
        let part = self.whole().ok_or_else(|| self.0.capabilities.unsupported("transactions"))?;
        write::transact(part, transaction, options).await
    }

    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        Ok(match target {
            Target::Key(key) => keys::watch(self.part(key).core.clone(), target, options),
            Target::Holder(name) => holder::watch(self.part(name).core.clone(), name, options),
            Target::Tree(_) => match self.whole() {
                Some(part) => keys::watch(part.core.clone(), target, options),
                None => spread::joined(
                    self.0.parts.iter().map(|part| keys::watch(part.core.clone(), target, options)).collect(),
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
        let seen = holder::look(&self.part(name).core, name, options.deadline).await?;
        Ok(seen.holder.map(|(holder, ..)| holder))
    }

    async fn adopt(&self, directory: &Directory, options: &WriteOptions) -> Result<u64> {
        let parts = self.0.parts.iter().map(|part| adopt::adopt(part, directory, options));
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
        let closed = futures::future::join_all(self.0.parts.iter().map(|part| part.close())).await;
        closed.into_iter().find(Result::is_err).unwrap_or(Ok(()))
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
