//! Passes each call of the trait `Store` to the module that does it.

use crate::{
    client::{connect::Options, health},
    core::Core,
    lease,
    list::{self, read},
    lock,
    names::Names,
    watch, write,
};
use kv_core::{
    Bytes, Capabilities, Directory, Entry, Fence, Health, Holder, Key, Result, Written,
    backend::Clock,
    driver::{
        Acquired, Batch, Cursor, Deadline, Decision, Expect, LeaseOptions, Leased, ListOptions, LockOptions,
        LockPage, Page, PutOptions, ReadOptions, Store, Target, Transaction, WatchOptions, WatchStream,
        WriteOptions, async_trait,
    },
};
use std::{fmt, sync::Arc, time::Duration};

/// A store on one ensemble, below one node; clones share its connections.
/// [`Config`](crate::Config) opens one.
#[derive(Clone)]
pub struct ZooKeeper(Arc<Core>);

impl ZooKeeper {
    pub(crate) async fn open(
        options: Options,
        names: Names,
        clock: Clock,
        deadline: Deadline,
    ) -> Result<Self> {
        Core::open(options, names, clock, deadline).await.map(Self)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for ZooKeeper {
    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }

    /// Returns `None`: a backend has no store below it.
    fn inner(&self) -> Option<&dyn Store> {
        None
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        read::get(&self.0, key, options).await
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
        read::get_many(&self.0, keys, options).await
    }

    async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool> {
        read::exists(&self.0, key, options).await
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
        list::page(&self.0, directory, from, options).await
    }

    async fn delete_tree(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &WriteOptions,
    ) -> Result<Batch> {
        write::tree::delete_tree(&self.0, directory, from, options).await
    }

    async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
        write::transact(&self.0, transaction, options).await
    }

    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        Ok(watch::watch(self.0.clone(), target, options))
    }

    async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        lease::lease(&self.0, ttl, options).await
    }

    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        lock::lock(&self.0, name, options).await
    }

    async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
        lock::holder::holder(&self.0, name, options).await
    }

    async fn locks(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ReadOptions,
    ) -> Result<LockPage> {
        lock::listed::page(&self.0, directory, from, options).await
    }

    async fn set_holder(&self, _: &Key, fence: &Fence, value: Bytes, options: &WriteOptions) -> Result<bool> {
        lock::holder::set_holder(&self.0, fence, &value, options).await
    }

    async fn break_lock(&self, name: &Key, token: u64, options: &WriteOptions) -> Result<bool> {
        lock::holder::break_lock(&self.0, name, token, options).await
    }

    /// Does nothing: listings and watches see what other tools wrote.
    async fn adopt(&self, _: &Directory, _: &WriteOptions) -> Result<u64> {
        Ok(0)
    }

    async fn health(&self, options: &ReadOptions) -> Result<Health> {
        health::health(&self.0.client, &self.0.names, options.deadline).await
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

impl fmt::Debug for ZooKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Core { client, names, .. } = &*self.0;
        f.debug_struct("ZooKeeper")
            .field("hosts", client)
            .field("root", &names.root())
            .finish_non_exhaustive()
    }
}
