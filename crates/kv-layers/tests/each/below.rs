//! A layer for these tests, which stands below the one that is tried: it counts the watches that
//! are open, and has them, and puts of one key, wait until the test lets them go on.

use kv_core::{
    Bytes, Capabilities, Directory, Entry, Fence, Health, Holder, Key, Result, Written,
    driver::{
        Acquired, Batch, Cursor, Decision, Expect, Layer, LeaseOptions, Leased, ListOptions, LockOptions,
        LockPage, Page, PutOptions, ReadOptions, Store, Target, Transaction, WatchOptions, WatchStream,
        WriteOptions, async_trait,
    },
};
use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Semaphore, watch},
    task::yield_now,
};

/// The key whose puts wait, and whose gets are answered a moment later.
pub(crate) const SLOW: &str = "slow";

/// The counts and the gate that the test and the layer share.
#[derive(Clone, Debug)]
pub(crate) struct Below(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    open: AtomicUsize,
    begun: AtomicUsize,
    puts: AtomicUsize,
    go: Semaphore,
    ahead: AtomicUsize,
    /// The number of the first watch that is not held.
    held: watch::Sender<usize>,
}

impl Below {
    pub(crate) fn new() -> Self {
        let n = AtomicUsize::default;
        let (open, begun, puts, go, ahead) = (n(), n(), n(), Semaphore::new(0), n());
        Self(Arc::new(Shared { open, begun, puts, go, ahead, held: watch::Sender::new(0) }))
    }

    /// Counts the watches that are open.
    pub(crate) fn open(&self) -> usize {
        self.0.open.load(Ordering::SeqCst)
    }

    /// Counts the watches that were begun.
    pub(crate) fn begun(&self) -> usize {
        self.0.begun.load(Ordering::SeqCst)
    }

    /// Holds the events of all watches that were begun, until [`release`](Self::release).
    pub(crate) fn hold(&self) {
        self.0.held.send_replace(self.begun());
    }

    /// Lets all events go on.
    pub(crate) fn release(&self) {
        self.0.held.send_replace(0);
    }

    /// Counts the puts of the slow key that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.0.puts.load(Ordering::SeqCst)
    }

    /// Returns the most puts of the slow key that ever waited at once.
    pub(crate) fn most(&self) -> usize {
        self.0.ahead.load(Ordering::SeqCst)
    }

    /// Lets one put of the slow key go on.
    pub(crate) fn go(&self) {
        self.0.go.add_permits(1);
    }
}

impl Layer for Below {
    fn layer(&self, inner: Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(Counted { inner, shared: self.0.clone() })
    }
}

/// Counts while it lives.
struct Counting(Arc<Shared>, fn(&Shared) -> &AtomicUsize);

impl Counting {
    fn new(shared: &Arc<Shared>, counter: fn(&Shared) -> &AtomicUsize) -> (Self, usize) {
        let now = counter(shared).fetch_add(1, Ordering::SeqCst) + 1;
        (Self(shared.clone(), counter), now)
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct Counted {
    inner: Arc<dyn Store>,
    shared: Arc<Shared>,
}

impl Counted {
    fn below(&self) -> &dyn Store {
        self.inner.as_ref()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Counted {
    fn capabilities(&self) -> &Capabilities {
        self.below().capabilities()
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        if key.as_str() == SLOW {
            yield_now().await;
        }
        self.below().get(key, options).await
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        if key.as_str() == SLOW {
            let (_counting, now) = Counting::new(&self.shared, |shared| &shared.puts);
            self.shared.ahead.fetch_max(now, Ordering::SeqCst);
            self.shared.go.acquire().await.expect("nobody closes it").forget();
        }
        self.below().put(key, value, expect, options).await
    }

    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        self.below().delete(key, expect, options).await
    }

    async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        self.below().list(directory, from, options).await
    }

    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        let mut changes = self.below().watch(target, options).await?;
        let number = self.shared.begun.fetch_add(1, Ordering::SeqCst);
        let mut held = self.shared.held.subscribe();
        let (counting, _) = Counting::new(&self.shared, |shared| &shared.open);
        Ok(kv_core::backend::stream(|out| async move {
            let _counting = counting;
            while let Some(event) = poll_fn(|cx| changes.as_mut().poll_next(cx)).await {
                let _ = held.wait_for(|first| number >= *first).await;
                out.send(event?).await;
            }
            Ok(())
        }))
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
        self.below().get_many(keys, options).await
    }

    async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool> {
        self.below().exists(key, options).await
    }

    async fn delete_tree(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &WriteOptions,
    ) -> Result<Batch> {
        self.below().delete_tree(directory, from, options).await
    }

    async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
        self.below().transact(transaction, options).await
    }

    async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        self.below().lease(ttl, options).await
    }

    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        self.below().lock(name, options).await
    }

    async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
        self.below().lock_holder(name, options).await
    }

    async fn locks(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ReadOptions,
    ) -> Result<LockPage> {
        self.below().locks(directory, from, options).await
    }

    async fn set_holder(
        &self,
        name: &Key,
        fence: &Fence,
        value: Bytes,
        options: &WriteOptions,
    ) -> Result<bool> {
        self.below().set_holder(name, fence, value, options).await
    }

    async fn break_lock(&self, name: &Key, token: u64, options: &WriteOptions) -> Result<bool> {
        self.below().break_lock(name, token, options).await
    }

    async fn adopt(&self, directory: &Directory, options: &WriteOptions) -> Result<u64> {
        self.below().adopt(directory, options).await
    }

    async fn health(&self, options: &ReadOptions) -> Result<Health> {
        self.below().health(options).await
    }

    fn describe(&self) -> String {
        "Counted".into()
    }

    fn inner(&self) -> Option<&dyn Store> {
        Some(self.below())
    }

    async fn close(&self) -> Result<()> {
        self.below().close().await
    }
}
