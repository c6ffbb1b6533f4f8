//! `ReadOnly`: refuses what writes.

use kv_core::{
    Bytes, Capabilities, Directory, Entry, Error, ErrorKind, Fence, Health, Holder, Key, Result, Written,
    driver::{
        Acquired, Batch, Cursor, Decision, Expect, Layer, LeaseOptions, Leased, ListOptions, LockOptions,
        LockPage, Page, PutOptions, ReadOptions, Store, Target, Transaction, WatchOptions, WatchStream,
        WriteOptions, async_trait,
    },
};
use std::{sync::Arc, time::Duration};

/// A layer that refuses every write before any I/O: for programs, or parts of them, that must not
/// change what they read.
///
/// It guards against mistakes, not against attackers: whoever holds the process can reach the
/// store below. Rights on the server do that.
///
/// # Capabilities
/// `lock` and `lease` become `None`, `max_txn_ops` and `max_txn_bytes` 0, and the `hint` says why.
/// The others stay, those of TTLs too: a reader may want to know how late keys go. Who holds a
/// lock cannot be asked through this layer, as the store has no locks there; ask a handle without
/// it.
///
/// # Errors
/// [`PermissionDenied`](ErrorKind::PermissionDenied) for `put`, `delete`, `delete_tree`, `adopt`;
/// [`Unsupported`](ErrorKind::Unsupported) for transactions, locks and leases.
///
/// # Cost
/// Reads go on to the store below as they are.
///
/// # Example
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::ErrorKind;
/// use kv_layers::ReadOnly;
///
/// let kv = kv_memory::open("memory://").await?;
/// kv.put("color", "red").await?;
/// let reader = kv.clone().layer(ReadOnly);
/// assert_eq!(reader.get("color").await?.unwrap().text(), Some("red"));
/// assert_eq!(reader.put("color", "blue").await.unwrap_err().kind(), ErrorKind::PermissionDenied);
/// assert_eq!(reader.new_lock("l").acquire().await.unwrap_err().kind(), ErrorKind::Unsupported);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOnly;

impl Layer for ReadOnly {
    fn layer(&self, inner: Arc<dyn Store>) -> Arc<dyn Store> {
        let mut capabilities = inner.as_ref().capabilities().clone();
        (capabilities.lock, capabilities.lease) = (None, None);
        (capabilities.max_txn_ops, capabilities.max_txn_bytes) = (0, 0);
        capabilities.hint = Some(WHY.into());
        Arc::new(Reader { inner, capabilities })
    }
}

const WHY: &str = "this handle only reads, by the layer `ReadOnly`; use one without it to write";

#[cold]
fn refused() -> Error {
    Error::new(ErrorKind::PermissionDenied, WHY)
}

#[derive(Debug)]
struct Reader {
    inner: Arc<dyn Store>,
    capabilities: Capabilities,
}

impl Reader {
    fn below(&self) -> &dyn Store {
        self.inner.as_ref()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Reader {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        self.below().get(key, options).await
    }

    async fn put(&self, _: &Key, _: Bytes, _: Expect, _: &PutOptions) -> Result<Written> {
        Err(refused())
    }

    async fn delete(&self, _: &Key, _: Expect, _: &WriteOptions) -> Result<bool> {
        Err(refused())
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
        self.below().watch(target, options).await
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
        self.below().get_many(keys, options).await
    }

    async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool> {
        self.below().exists(key, options).await
    }

    async fn delete_tree(&self, _: &Directory, _: Option<&Cursor>, _: &WriteOptions) -> Result<Batch> {
        Err(refused())
    }

    async fn transact(&self, _: Transaction, _: &WriteOptions) -> Result<Decision> {
        Err(self.capabilities.unsupported("transactions"))
    }

    async fn lease(&self, _: Duration, _: &LeaseOptions) -> Result<Leased> {
        Err(self.capabilities.unsupported("leases"))
    }

    async fn lock(&self, _: &Key, _: &LockOptions) -> Result<Option<Acquired>> {
        Err(self.capabilities.unsupported("locks"))
    }

    async fn lock_holder(&self, _: &Key, _: &ReadOptions) -> Result<Option<Holder>> {
        Err(self.capabilities.unsupported("locks"))
    }

    async fn locks(&self, _: &Directory, _: Option<&Cursor>, _: &ReadOptions) -> Result<LockPage> {
        Err(self.capabilities.unsupported("locks"))
    }

    async fn set_holder(&self, _: &Key, _: &Fence, _: Bytes, _: &WriteOptions) -> Result<bool> {
        Err(self.capabilities.unsupported("locks"))
    }

    async fn break_lock(&self, _: &Key, _: u64, _: &WriteOptions) -> Result<bool> {
        Err(self.capabilities.unsupported("locks"))
    }

    async fn adopt(&self, _: &Directory, _: &WriteOptions) -> Result<u64> {
        Err(refused())
    }

    async fn health(&self, options: &ReadOptions) -> Result<Health> {
        self.below().health(options).await
    }

    fn describe(&self) -> String {
        "ReadOnly".into()
    }

    fn inner(&self) -> Option<&dyn Store> {
        Some(self.below())
    }

    async fn close(&self) -> Result<()> {
        self.below().close().await
    }
}
