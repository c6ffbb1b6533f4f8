//! A layer over a store in memory, for what faults cannot plan: other capabilities, and what others
//! do between two requests of a call.

use futures::future::BoxFuture;
use kv_core::{
    Bytes, Capabilities, Directory, Entry, Holder, Key, Kv, Result, Written,
    driver::{
        Acquired, Cursor, Decision, Expect, LeaseOptions, Leased, ListOptions, LockOptions, Page, PutOptions,
        ReadOptions, Store, Target, Transaction, WatchOptions, WatchStream, WriteOptions, async_trait,
    },
};
use kv_memory::Memory;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

/// A function that is called before a key is put, by itself or in a transaction.
type Before = dyn Fn(&Key) -> BoxFuture<'static, ()> + Send + Sync;

pub(crate) struct Layer {
    inner: Memory,
    can: Capabilities,
    calls: Arc<AtomicUsize>,
    before: Box<Before>,
}

impl Layer {
    /// Makes a handle on a layer over these data, with what happens before a key is put.
    pub(crate) fn busy<F>(memory: &Memory, before: F) -> Kv
    where
        F: Fn(&Key) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    {
        let inner = memory.with_prefix("");
        let (can, calls) = (inner.capabilities().clone(), Arc::default());
        Kv::new(Self { inner, can, calls, before: Box::new(before) })
    }

    /// Makes a handle on a layer that can do no more than this, and the count of its calls.
    pub(crate) fn poor(memory: &Memory, can: Capabilities) -> (Kv, Arc<AtomicUsize>) {
        let calls = Arc::<AtomicUsize>::default();
        let before = Box::new(|_: &Key| -> BoxFuture<'static, ()> { Box::pin(std::future::ready(())) });
        let layer = Self { inner: memory.with_prefix(""), can, calls: calls.clone(), before };
        (Kv::new(layer), calls)
    }

    fn count(&self) -> &Memory {
        self.calls.fetch_add(1, SeqCst);
        &self.inner
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Layer").field(&self.inner).finish()
    }
}

#[async_trait]
impl Store for Layer {
    fn capabilities(&self) -> &Capabilities {
        &self.can
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        self.count().get(key, options).await
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        (self.before)(key).await;
        self.count().put(key, value, expect, options).await
    }

    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        self.count().delete(key, expect, options).await
    }

    async fn list(&self, dir: &Directory, from: Option<&Cursor>, options: &ListOptions) -> Result<Page> {
        self.count().list(dir, from, options).await
    }

    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        self.count().watch(target, options).await
    }

    async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
        for write in &transaction.writes {
            (self.before)(write.key()).await;
        }
        self.count().transact(transaction, options).await
    }

    async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        self.count().lease(ttl, options).await
    }

    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        self.count().lock(name, options).await
    }

    async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
        self.count().lock_holder(name, options).await
    }
}
