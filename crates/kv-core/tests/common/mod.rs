//! A store that counts what reaches it.

use kv_core::{driver::*, *};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

/// Counts every call, and never answers: whatever is refused is refused by the handle alone.
#[derive(Clone, Debug)]
pub(crate) struct Silent {
    pub(crate) capabilities: Capabilities,
    pub(crate) calls: Arc<AtomicU32>,
}

impl Silent {
    pub(crate) fn new(capabilities: Capabilities) -> Self {
        Self { capabilities, calls: Arc::default() }
    }
    /// Makes one that offers everything.
    pub(crate) fn able() -> Self {
        let mut c = Capabilities::new("silent");
        let range = TtlRange::new(Duration::from_secs(1), Duration::from_secs(100));
        (c.ttl, c.lease, c.lock) = (Some(range.clone()), Some(range.clone()), Some(Locking::new(range)));
        (c.max_value, c.max_txn_ops, c.max_txn_bytes, c.health) = (1000, 4, 1500, true);
        Self::new(c)
    }
    #[allow(dead_code, reason = "not every test that has this module counts")]
    pub(crate) fn count(&self) -> u32 {
        self.calls.load(SeqCst)
    }
    async fn silence<T>(&self) -> Result<T> {
        self.calls.fetch_add(1, SeqCst);
        std::future::pending().await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Silent {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
    async fn get(&self, _: &Key, _: &ReadOptions) -> Result<Option<Entry>> {
        self.silence().await
    }
    async fn put(&self, _: &Key, _: Bytes, _: Expect, _: &PutOptions) -> Result<Written> {
        self.silence().await
    }
    async fn delete(&self, _: &Key, _: Expect, _: &WriteOptions) -> Result<bool> {
        self.silence().await
    }
    async fn list(&self, _: &Directory, _: Option<&Cursor>, _: &ListOptions) -> Result<Page> {
        self.silence().await
    }
    async fn watch(&self, _: &Target, _: &WatchOptions) -> Result<WatchStream> {
        self.silence().await
    }
    async fn get_many(&self, _: &[Key], _: &ReadOptions) -> Result<Vec<Option<Entry>>> {
        self.silence().await
    }
    async fn exists(&self, _: &Key, _: &ReadOptions) -> Result<bool> {
        self.silence().await
    }
    async fn delete_tree(&self, _: &Directory, _: Option<&Cursor>, _: &WriteOptions) -> Result<Batch> {
        self.silence().await
    }
    async fn transact(&self, _: Transaction, _: &WriteOptions) -> Result<Decision> {
        self.silence().await
    }
    async fn lease(&self, _: Duration, _: &LeaseOptions) -> Result<Leased> {
        self.silence().await
    }
    async fn lock(&self, _: &Key, _: &LockOptions) -> Result<Option<Acquired>> {
        self.silence().await
    }
    async fn lock_holder(&self, _: &Key, _: &ReadOptions) -> Result<Option<Holder>> {
        self.silence().await
    }
    async fn locks(&self, _: &Directory, _: Option<&Cursor>, _: &ReadOptions) -> Result<LockPage> {
        self.silence().await
    }
    async fn set_holder(&self, _: &Key, _: &Fence, _: Bytes, _: &WriteOptions) -> Result<bool> {
        self.silence().await
    }
    async fn break_lock(&self, _: &Key, _: u64, _: &WriteOptions) -> Result<bool> {
        self.silence().await
    }
    async fn adopt(&self, _: &Directory, _: &WriteOptions) -> Result<u64> {
        self.silence().await
    }
    fn describe(&self) -> String {
        format!("{self:?}")
    }
    fn inner(&self) -> Option<&dyn Store> {
        None
    }
    async fn health(&self, _: &ReadOptions) -> Result<Health> {
        self.silence().await
    }
    async fn close(&self) -> Result<()> {
        self.silence().await
    }
}
