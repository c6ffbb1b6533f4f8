//! Layers for the suite: one reads through `ReadOnly` and writes beside it, because the suite has to
//! write what it reads; the other has the store below claim little room for transactions.

use kv_core::{
    Bytes, Capabilities, Directory, Entry, Fence, Health, Holder, Key, Result, Written,
    driver::{
        Acquired, Batch, Cursor, Decision, Expect, Layer, LeaseOptions, Leased, ListOptions, LockOptions,
        LockPage, Page, PutOptions, ReadOptions, Store, Target, Transaction, WatchOptions, WatchStream,
        WriteOptions, async_trait,
    },
};
use kv_layers::ReadOnly;
use std::{sync::Arc, time::Duration};

pub(super) struct ReadsThroughReadOnly;

impl Layer for ReadsThroughReadOnly {
    fn layer(&self, inner: Arc<dyn Store>) -> Arc<dyn Store> {
        let capabilities = inner.as_ref().capabilities().clone();
        Arc::new(Split { reads: ReadOnly.layer(inner.clone()), writes: inner, capabilities })
    }
}

/// A store whose transactions have room for one value of the greatest size and its key, as those of
/// most servers. It claims that, and refuses nothing itself.
pub(super) struct LittleRoom;

impl Layer for LittleRoom {
    fn layer(&self, inner: Arc<dyn Store>) -> Arc<dyn Store> {
        let mut capabilities = inner.as_ref().capabilities().clone();
        capabilities.max_value = 1 << 20;
        (capabilities.max_txn_ops, capabilities.max_txn_bytes) = (128, capabilities.max_value + 1000);
        Arc::new(Split { reads: inner.clone(), writes: inner, capabilities })
    }
}

#[derive(Debug)]
struct Split {
    reads: Arc<dyn Store>,
    writes: Arc<dyn Store>,
    capabilities: Capabilities,
}

impl Split {
    fn reads(&self) -> &dyn Store {
        self.reads.as_ref()
    }

    fn writes(&self) -> &dyn Store {
        self.writes.as_ref()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Split {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        self.reads().get(key, options).await
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        self.writes().put(key, value, expect, options).await
    }

    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        self.writes().delete(key, expect, options).await
    }

    async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        self.reads().list(directory, from, options).await
    }

    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        self.reads().watch(target, options).await
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
        self.reads().get_many(keys, options).await
    }

    async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool> {
        self.reads().exists(key, options).await
    }

    async fn delete_tree(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &WriteOptions,
    ) -> Result<Batch> {
        self.writes().delete_tree(directory, from, options).await
    }

    async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
        self.writes().transact(transaction, options).await
    }

    async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        self.writes().lease(ttl, options).await
    }

    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        self.writes().lock(name, options).await
    }

    async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
        self.writes().lock_holder(name, options).await
    }

    async fn locks(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ReadOptions,
    ) -> Result<LockPage> {
        self.writes().locks(directory, from, options).await
    }

    async fn set_holder(
        &self,
        name: &Key,
        fence: &Fence,
        value: Bytes,
        options: &WriteOptions,
    ) -> Result<bool> {
        self.writes().set_holder(name, fence, value, options).await
    }

    async fn break_lock(&self, name: &Key, token: u64, options: &WriteOptions) -> Result<bool> {
        self.writes().break_lock(name, token, options).await
    }

    async fn adopt(&self, directory: &Directory, options: &WriteOptions) -> Result<u64> {
        self.writes().adopt(directory, options).await
    }

    async fn health(&self, options: &ReadOptions) -> Result<Health> {
        self.reads().health(options).await
    }

    fn describe(&self) -> String {
        "ReadsThroughReadOnly".into()
    }

    fn inner(&self) -> Option<&dyn Store> {
        Some(self.reads())
    }

    async fn close(&self) -> Result<()> {
        self.reads().close().await
    }
}
