//! The store: each method of the trait calls the module that does it.

use crate::{core::Core, list, lock, server::Server, watch, write};
use kv_core::{
    Bytes, Capabilities, Directory, Entry, Fence, Holder, Key, Result, Written,
    driver::{
        Acquired, Cursor, Expect, ListOptions, LockOptions, Page, PutOptions, ReadOptions, Store, Target,
        WatchOptions, WatchStream, WriteOptions, async_trait,
    },
};
use std::sync::Arc;

/// A store on one server, below one prefix; clones share the connection.
#[derive(Clone, Debug)]
pub struct Template(Arc<Core>);

impl Template {
    pub(crate) fn new(server: Arc<Server>, prefix: String) -> Self {
        let core = Arc::new(Core::new(server, prefix));
        watch::feed(&core);
        Self(core)
    }
}

#[async_trait]
impl Store for Template {
    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        list::get(&self.0, key, options).await
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        write::put(&self.0, key, value, expect, options).await
    }

    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        write::delete(&self.0, key, expect, options).await
    }

    async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        list::list(&self.0, directory, from, options).await
    }

    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        match target {
            Target::Holder(name) => lock::watch(self, name, options).await,
            Target::Key(_) | Target::Tree(_) => Ok(watch::watch(&self.0, target, options)),
        }
    }

    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        lock::lock(self, &self.0, name, options).await
    }

    async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
        lock::holder(self, name, options).await
    }

    async fn set_holder(&self, _: &Key, fence: &Fence, value: Bytes, options: &WriteOptions) -> Result<bool> {
        lock::set_holder(self, fence, value, options).await
    }

    async fn break_lock(&self, name: &Key, token: u64, options: &WriteOptions) -> Result<bool> {
        lock::break_lock(self, name, token, options).await
    }

    // DECIDE: what else ends with the store: connections, tasks. Wait first for the locks and
    // leases that are given back, so that `close` answers when all of them are gone from the
    // server, and names those that could not be given back.
    async fn close(&self) -> Result<()> {
        self.0.tasks.finish().await
    }

    // DECIDE: what else your server does better than the provided methods, or at all. Each of these
    // calls its room, as the others do; what you leave out stays `Unsupported`, or is made of the
    // methods above.
    //
    // Several keys in one request:
    // async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>>
    //
    // Without reading the value:
    // async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool>
    //
    // In one step, or in large batches:
    // async fn delete_tree(
    //     &self,
    //     directory: &Directory,
    //     from: Option<&Cursor>,
    //     options: &WriteOptions,
    // ) -> Result<Batch>
    //
    // Conditions and writes, all or nothing (`max_txn_ops`, `max_txn_bytes`):
    // async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Decision>
    //
    // A life that keys share, in a room `lease` (`Capabilities::lease`):
    // async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased>
    //
    // The locks that are held (`Locking::lists`):
    // async fn locks(
    //     &self,
    //     directory: &Directory,
    //     from: Option<&Cursor>,
    //     options: &ReadOptions,
    // ) -> Result<LockPage>
    //
    // Only where names of other tools have to be noted before they are listed (`foreign_keys`):
    // async fn adopt(&self, directory: &Directory, options: &WriteOptions) -> Result<u64>
    //
    // One read that needs the quorum, and what the server is (`Capabilities::health`):
    // async fn health(&self, options: &ReadOptions) -> Result<Health>
}
