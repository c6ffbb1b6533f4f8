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

    // DECIDE: what else your server does better than the provided methods: several keys in one
    // request (`get_many`), `exists` without the value, `delete_tree` in one step, `transact`,
    // `lease` and `health`.
}
