//! The store: each method of the trait calls the module that does it.

use crate::{
    core::Core,
    engine::{Options, Stats},
    lease, list, lock, watch, write,
};
use kv_core::{
    Bytes, Capabilities, Directory, Entry, Fence, Health, Holder, Key, Result, Written,
    driver::{
        Acquired, Batch, Cursor, Decision, Expect, LeaseOptions, Leased, ListOptions, LockOptions, LockPage,
        Page, PutOptions, ReadOptions, Store, Target, Transaction, WatchOptions, WatchStream, WriteOptions,
        async_trait,
    },
};
use std::{fmt, sync::Arc, time::Duration};

/// A client of a store in a file.
///
/// Dropping the client, and all that came from it, closes the file in the background;
/// [`close`](Store::close) does so at once. When it returns from the last client of the file,
/// another process can open the file.
pub struct Redb {
    core: Arc<Core>,
}

impl Redb {
    /// Opens the store of these options, below this prefix.
    pub(crate) async fn open(options: Options, prefix: &str) -> Result<Self> {
        Ok(Self { core: Arc::new(Core::open(options, prefix).await?) })
    }

    /// Returns counts of what was done since the file was opened, which show how many writes share
    /// a commit.
    ///
    /// # Errors
    /// [`Closed`](kv_core::ErrorKind::Closed) after [`close`](Store::close).
    pub fn stats(&self) -> Result<Stats> {
        self.core.engine().map(|engine| engine.stats())
    }
}

impl fmt::Debug for Redb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Redb");
        shown.field("path", &self.core.path()).field("prefix", &self.core.view.prefix);
        shown.field("watches", &self.core.view.hub.subscribers()).finish_non_exhaustive()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Redb {
    fn capabilities(&self) -> &Capabilities {
        &self.core.capabilities
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        list::get(&self.core, key, options.deadline).await
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        write::put(&self.core, key, value, expect, options).await
    }

    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        write::delete(&self.core, key, expect, options).await
    }

    async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        list::list(&self.core, directory, from, options, options.read.deadline).await
    }

    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        watch::watch(&self.core, target, options)
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
        list::get_many(&self.core, keys, options.deadline).await
    }

    async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool> {
        list::exists(&self.core, key, options.deadline).await
    }

    async fn delete_tree(
        &self,
        directory: &Directory,
        _: Option<&Cursor>, // It is one step, so nobody has a cursor.
        options: &WriteOptions,
    ) -> Result<Batch> {
        write::delete_tree(&self.core, directory, options).await
    }

    async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
        write::transact(&self.core, transaction, options).await
    }

    async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        lease::lease(&self.core, ttl, options).await
    }

    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        lock::lock(&self.core, name, options).await
    }

    async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
        lock::holder(&self.core, name, options.deadline).await
    }

    async fn locks(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ReadOptions,
    ) -> Result<LockPage> {
        lock::locks(&self.core, directory, from, options.deadline).await
    }

    async fn set_holder(&self, _: &Key, fence: &Fence, value: Bytes, options: &WriteOptions) -> Result<bool> {
        lock::set_holder(&self.core, fence, value, options.deadline).await
    }

    async fn break_lock(&self, name: &Key, token: u64, options: &WriteOptions) -> Result<bool> {
        lock::break_lock(&self.core, name, token, options.deadline).await
    }

    async fn adopt(&self, _: &Directory, _: &WriteOptions) -> Result<u64> {
        Ok(0) // All names below the prefix are seen anyway.
    }

    async fn health(&self, options: &ReadOptions) -> Result<Health> {
        list::health(&self.core, options.deadline).await
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }

    fn inner(&self) -> Option<&dyn Store> {
        None
    }

    async fn close(&self) -> Result<()> {
        self.core.close().await
    }
}
