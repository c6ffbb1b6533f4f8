//! `Coalesce`: one watch below, however many readers.

mod fold;
mod reader;
mod upstream;

use kv_core::{
    Bytes, Capabilities, Directory, Entry, Fence, Health, Holder, Key, Result, Written,
    backend::watch,
    driver::{
        Acquired, Batch, Cursor, Decision, Expect, Layer, LeaseOptions, Leased, ListOptions, LockOptions,
        LockPage, Page, PutOptions, ReadOptions, Store, Target, Transaction, WatchOptions, WatchStream,
        WriteOptions, async_trait,
    },
};
use reader::Reader;
use std::{sync::Arc, time::Duration};
use upstream::Upstreams;

/// A layer that has all watches of one key, one directory or one lock's holder share a watch of
/// the store below: for programs in which many tasks watch the same few things. The server then
/// sends each change once to the process, and not once to each reader.
///
/// Every promise of a watch is kept. To begin with what is there *now*, a new reader opens a watch
/// of its own below. It closes that as soon as the shared one is seen to be at the same place: by
/// the same keys and versions, and the same last change. Where nothing has changed since it began,
/// it waits for a moment in which neither tells anything. Where others write all the time, that may
/// take a while, in which nothing is missed. A reader that is too slow loses what waits for it, and
/// begins again in the same way; the others do not notice. A watch of `app` and one of `app/x` are
/// two.
///
/// A shared watch is that of one runtime, since one that stands still would hold up the readers in
/// the others. It ends with its last reader. A watch that is read in another runtime than before
/// begins anew there, and tells what differs.
///
/// Backends that share a source among all watches of a store by themselves gain little; those that
/// open a stream for each watch, as `kv-etcd` does, gain most.
///
/// # Capabilities
/// It changes none of them.
///
/// # Errors
/// Those of a watch of the store below.
///
/// # Cancel safety
/// Dropping a watch ends what it alone has below; dropping the last one ends the shared one.
///
/// # Cost
/// A new reader costs the server a watch that begins and ends, and then nothing; a change is one
/// event from the server, and a copy of two pointers for each reader. The process remembers the
/// name and version of each key once for each shared watch, and once for each reader, as without
/// the layer. Other calls go on to the store below as they are.
///
/// # Example
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::WatchEvent;
/// use kv_layers::Coalesce;
///
/// let kv = kv_memory::open("memory://").await?.layer(Coalesce);
/// kv.put("config/a", "1").await?;
/// let mut readers = Vec::new();
/// for _ in 0..100 {
///     let mut changes = kv.watch_tree("config").await?;
///     while changes.event().await? != WatchEvent::Synced {}
///     readers.push(changes);
/// }
/// kv.put("config/a", "2").await?;
/// for changes in &mut readers {
///     assert!(matches!(changes.event().await?, WatchEvent::Put(entry) if entry.value == "2"));
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Coalesce;

impl Layer for Coalesce {
    fn layer(&self, inner: Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(Coalesced { upstreams: Upstreams::new(inner.clone()), inner })
    }
}

#[derive(Debug)]
struct Coalesced {
    inner: Arc<dyn Store>,
    upstreams: Arc<Upstreams>,
}

impl Coalesced {
    fn below(&self) -> &dyn Store {
        self.inner.as_ref()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Coalesced {
    fn capabilities(&self) -> &Capabilities {
        self.below().capabilities()
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        self.below().get(key, options).await
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
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
        Ok(watch::start(Reader::new(&self.upstreams, target, options)))
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
        "Coalesce".into()
    }

    fn inner(&self) -> Option<&dyn Store> {
        Some(self.below())
    }

    async fn close(&self) -> Result<()> {
        self.upstreams.close();
        self.below().close().await
    }
}
