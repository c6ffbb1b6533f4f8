//! The whole suite on handles that have a layer and are on a part of one store: a layer that
//! forwards everything keeps every promise, and so does a part of the tree.

use kv_core::{
    Bytes, Capabilities, Directory, Entry, Fence, Health, Holder, Key, Kv, Result, Written,
    driver::{
        Acquired, Batch, Cursor, Decision, Expect, Layer, LeaseOptions, Leased, ListOptions, LockOptions,
        LockPage, Page, PutOptions, ReadOptions, Store, Target, Transaction, WatchOptions, WatchStream,
        WriteOptions, async_trait,
    },
};
use kv_memory::{Config, Memory};
use kv_testsuite::{Failure, Foreign, Harness};
use std::{sync::Arc, time::Duration};

const NAME: &str = "layered";

/// The store, under the name by which the cases open it.
#[derive(Clone)]
struct Layered(Memory);

#[async_trait]
impl Harness for Layered {
    fn name(&self) -> String {
        NAME.into()
    }

    async fn open(&self, prefix: &str) -> Result<Kv> {
        Config::new().name(NAME).open().await?.layer(Nothing).within(prefix)
    }

    fn foreign(&self) -> Option<Arc<dyn Foreign>> {
        Some(Arc::new(self.clone()))
    }

    fn is_documented(&self) -> bool {
        false
    }
}

#[async_trait]
impl Foreign for Layered {
    async fn put(&self, name: &str, value: Bytes) {
        self.0.raw_put(name, value);
    }

    async fn get(&self, name: &str) -> Option<Bytes> {
        self.0.raw_get(name)
    }

    async fn delete(&self, name: &str) {
        self.0.raw_delete(name);
    }
}

/// A layer that changes nothing.
struct Nothing;

impl Layer for Nothing {
    fn layer(&self, inner: Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(Forwards(inner))
    }
}

#[derive(Debug)]
struct Forwards(Arc<dyn Store>);

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Forwards {
    fn capabilities(&self) -> &Capabilities {
        self.0.as_ref().capabilities()
    }
    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        self.0.as_ref().get(key, options).await
    }
    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        self.0.as_ref().put(key, value, expect, options).await
    }
    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        self.0.as_ref().delete(key, expect, options).await
    }
    async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        self.0.as_ref().list(directory, from, options).await
    }
    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        self.0.as_ref().watch(target, options).await
    }
    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
        self.0.as_ref().get_many(keys, options).await
    }
    async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool> {
        self.0.as_ref().exists(key, options).await
    }
    async fn delete_tree(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &WriteOptions,
    ) -> Result<Batch> {
        self.0.as_ref().delete_tree(directory, from, options).await
    }
    async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
        self.0.as_ref().transact(transaction, options).await
    }
    async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        self.0.as_ref().lease(ttl, options).await
    }
    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        self.0.as_ref().lock(name, options).await
    }
    async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
        self.0.as_ref().lock_holder(name, options).await
    }
    async fn locks(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ReadOptions,
    ) -> Result<LockPage> {
        self.0.as_ref().locks(directory, from, options).await
    }
    async fn set_holder(
        &self,
        name: &Key,
        fence: &Fence,
        value: Bytes,
        options: &WriteOptions,
    ) -> Result<bool> {
        self.0.as_ref().set_holder(name, fence, value, options).await
    }
    async fn break_lock(&self, name: &Key, token: u64, options: &WriteOptions) -> Result<bool> {
        self.0.as_ref().break_lock(name, token, options).await
    }
    async fn adopt(&self, directory: &Directory, options: &WriteOptions) -> Result<u64> {
        self.0.as_ref().adopt(directory, options).await
    }
    async fn health(&self, options: &ReadOptions) -> Result<Health> {
        self.0.as_ref().health(options).await
    }
    fn describe(&self) -> String {
        "Nothing".into()
    }
    fn inner(&self) -> Option<&dyn Store> {
        Some(self.0.as_ref())
    }
    async fn close(&self) -> Result<()> {
        self.0.as_ref().close().await
    }
}

async fn suite() -> Result<Layered, Failure> {
    Ok(Layered(Config::new().name(NAME).build().await?))
}

fn main() {
    kv_testsuite::main(suite)
}
