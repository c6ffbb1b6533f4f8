//! The trait [`Store`]. Each method calls the module that does its work.

use crate::{core::Core, lease, list, lock, spread::Spread, write};
use kv_core::{
    Bytes, Capabilities, Directory, Entry, Fence, Health, Holder, Key, Result, Written,
    driver::{
        Acquired, Batch, Cursor, Decision, Expect, LeaseOptions, Leased, ListOptions, LockOptions, LockPage,
        Page, PutOptions, ReadOptions, Store, Target, Transaction, WatchOptions, WatchStream, WriteOptions,
        async_trait,
    },
};
use std::{fmt, sync::Arc, time::Duration};

/// A store on one server or cluster, below one prefix; clones share its connections.
/// [`Config`](crate::Config) opens one.
#[derive(Clone)]
pub struct Redis(Arc<Spread>);

impl Redis {
    /// Makes one store of these parts.
    pub(crate) fn of(cores: Vec<Core>) -> Result<Self> {
        Ok(Self(Arc::new(Spread::of(cores)?)))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Redis {
    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }

    fn inner(&self) -> Option<&dyn Store> {
        None
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        list::get(self.0.core(key), key, options).await
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
        self.0.get_many(keys, options).await
    }

    async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool> {
        list::exists(self.0.core(key), key, options).await
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        write::put(self.0.core(key), key, value, expect, options).await
    }

    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        write::delete(self.0.core(key), key, expect, options).await
    }

    async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        self.0.list(directory, from, options).await
    }

    async fn delete_tree(
        &self,
        directory: &Directory,
        _: Option<&Cursor>,
        options: &WriteOptions,
    ) -> Result<Batch> {
        self.0.delete_tree(directory, options).await
    }

    async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
        write::transact(self.0.only("transactions")?, transaction, options).await
    }

    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        Ok(self.0.watch(target, options))
    }

    async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        lease::lease(self.0.only("leases")?, ttl, options).await
    }

    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        let part = self.0.part(name);
        lock::lock(&part.core, &part.sessions, name, options).await
    }

    async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
        lock::holder::holder(self.0.core(name), name, options).await
    }

    async fn locks(
        &self,
        directory: &Directory,
        _: Option<&Cursor>,
        options: &ReadOptions,
    ) -> Result<LockPage> {
        self.0.locks(directory, options).await
    }

    async fn set_holder(&self, _: &Key, fence: &Fence, value: Bytes, options: &WriteOptions) -> Result<bool> {
        lock::holder::set_holder(self.0.core(fence.lock()), fence, value, options).await
    }

    async fn break_lock(&self, name: &Key, token: u64, options: &WriteOptions) -> Result<bool> {
        lock::holder::break_lock(self.0.core(name), name, token, options).await
    }

    async fn adopt(&self, directory: &Directory, options: &WriteOptions) -> Result<u64> {
        self.0.adopt(directory, options).await
    }

    async fn health(&self, options: &ReadOptions) -> Result<Health> {
        self.0.health(options).await
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = self.0.first();
        f.debug_struct("Redis")
            .field("servers", &core.map(|core| &core.client))
            .field("prefix", &core.map(|core| core.names.prefix()))
            .field("parts", &self.0.len())
            .finish_non_exhaustive()
    }
}
