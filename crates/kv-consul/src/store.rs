//! Implements the trait [`Store`], and hands each call to the module that does it.

use crate::{core::Core, lease, list, lock, watch, write};
use kv_core::{
    Bytes, Capabilities, Directory, Entry, Fence, Health, Holder, Key, Result, Written,
    driver::{
        Acquired, Batch, Cursor, Decision, Expect, LeaseOptions, Leased, ListOptions, LockOptions, LockPage,
        Page, PutOptions, ReadOptions, Store, Target, Transaction, WatchOptions, WatchStream, WriteOptions,
        async_trait,
    },
};
use std::{fmt, sync::Arc, time::Duration};

/// A store in one datacenter, below one prefix; clones share its connections.
/// [`Config`](crate::Config) opens one.
#[derive(Clone)]
pub struct Consul(Arc<Open>);

/// The part of a store that ends with its last clone.
struct Open(Arc<Core>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.polls.dismiss();
    }
}

impl Consul {
    pub(crate) fn new(core: Core) -> Self {
        Self(Arc::new(Open(Arc::new(core))))
    }

    fn core(&self) -> &Arc<Core> {
        &self.0.0
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Consul {
    fn capabilities(&self) -> &Capabilities {
        &self.core().capabilities
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        list::get(self.core(), key, options).await
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
        list::get_many(self.core(), keys, options).await
    }

    async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool> {
        list::exists(self.core(), key, options).await
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        write::put(self.core(), key, value, expect, options).await
    }

    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        write::delete(self.core(), key, expect, options).await
    }

    async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        list::page(self.core(), directory, from, options).await
    }

    async fn delete_tree(
        &self,
        directory: &Directory,
        _: Option<&Cursor>,
        options: &WriteOptions,
    ) -> Result<Batch> {
        write::delete_tree(self.core(), directory, options).await
    }

    async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
        write::transact(self.core(), transaction, options).await
    }

    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        Ok(watch::watch(self.core().clone(), target, options.each_request))
    }

    async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        lease::lease(self.core(), ttl, options).await
    }

    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        lock::lock(self.core(), name, options).await
    }

    async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
        lock::holder(self.core(), name, options).await
    }

    async fn locks(
        &self,
        directory: &Directory,
        _: Option<&Cursor>,
        options: &ReadOptions,
    ) -> Result<LockPage> {
        lock::locks(self.core(), directory, options).await
    }

    async fn set_holder(&self, _: &Key, fence: &Fence, value: Bytes, options: &WriteOptions) -> Result<bool> {
        lock::set_holder(self.core(), fence, &value, options).await
    }

    async fn break_lock(&self, name: &Key, token: u64, options: &WriteOptions) -> Result<bool> {
        lock::break_lock(self.core(), name, token, options).await
    }

    /// Adopts nothing: the server lists what other tools wrote.
    async fn adopt(&self, _: &Directory, _: &WriteOptions) -> Result<u64> {
        Ok(0)
    }

    async fn health(&self, options: &ReadOptions) -> Result<Health> {
        self.core().health(options).await
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }

    fn inner(&self) -> Option<&dyn Store> {
        None
    }

    async fn close(&self) -> Result<()> {
        self.core().clone().close().await
    }
}

impl fmt::Debug for Consul {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Core { client, names, .. } = &**self.core();
        f.debug_struct("Consul")
            .field("agents", client)
            .field("prefix", &names.prefix())
            .finish_non_exhaustive()
    }
}
