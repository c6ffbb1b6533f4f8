//! The store: each method of the trait calls the module that does it.

use crate::{
    core::{CAPABILITIES, Core},
    data::{Shared, named},
    faults::trouble::Does,
    lease, list, lock, watch, write,
};
use bytes::Bytes;
use kv_core::{
    Capabilities, Directory, Entry, Fence, Health, Holder, Key, Result, Written,
    backend::{Clock, directory_prefix},
    driver::{
        Acquired, Batch, Cursor, Decision, Expect, LeaseOptions, Leased, ListOptions, LockOptions, LockPage,
        Page, PutOptions, ReadOptions, Store, Target, Transaction, WatchOptions, WatchStream, WriteOptions,
        async_trait,
    },
};
use std::{fmt, sync::Arc, time::Duration};

/// A store in memory, seen through one prefix; clones are one client. It lives as long as one of
/// its clients.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::Kv;
/// use kv_memory::Memory;
///
/// let memory = Memory::new();
/// let (all, app) = (Kv::new(memory.clone()), Kv::new(memory.with_prefix("app/")));
/// app.put("a", "1").await?;
/// assert!(all.exists("app/a").await?);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Memory(pub(crate) Arc<Core>);

impl Memory {
    /// Makes a new, empty store without a prefix, on the machine's clock;
    /// [`Config`](crate::Config) gives others.
    pub fn new() -> Self {
        Self(Core::new(Shared::new(Clock::system()), ""))
    }

    /// Makes another client of the same data, whose store is this directory, in place of this
    /// client's; an empty one is the whole data set.
    #[must_use]
    pub fn with_prefix(&self, directory: &str) -> Self {
        Self(Core::new(self.0.shared.clone(), &directory_prefix(directory)))
    }

    /// Makes another client of the same data, whose names all begin with these bytes.
    #[must_use]
    pub fn with_raw_prefix(&self, bytes: &str) -> Self {
        Self(Core::new(self.0.shared.clone(), bytes))
    }

    /// Returns the clock that measures TTLs, leases and locks of this store.
    pub fn clock(&self) -> Clock {
        self.0.look().clock.clone()
    }

    /// Opens the store of this name, or without a name one of its own, below this prefix.
    pub(crate) fn open(name: Option<String>, clock: Option<Clock>, prefix: &str) -> Result<Self> {
        let shared = match name {
            Some(name) => named::open(name, clock)?,
            None => Shared::new(clock.unwrap_or_default()),
        };
        Ok(Self(Core::new(shared, prefix)))
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("prefix", &self.0.prefix).finish_non_exhaustive()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Memory {
    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        self.0.call(Does::Read, options.deadline, || Ok(list::get(&self.0, key))).await
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        let put = || write::put(&self.0, key, value, expect, options);
        self.0.call(Does::Write, options.deadline, put).await
    }

    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        self.0.call(Does::Write, options.deadline, || write::delete(&self.0, key, expect)).await
    }

    async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        let list = || Ok(list::page(&self.0, directory, from, options));
        self.0.call(Does::Read, options.read.deadline, list).await
    }

    async fn watch(&self, target: &Target, _: &WatchOptions) -> Result<WatchStream> {
        Ok(watch::watch(&self.0, target))
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
        self.0.call(Does::Read, options.deadline, || Ok(list::get_many(&self.0, keys))).await
    }

    async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool> {
        self.0.call(Does::Read, options.deadline, || Ok(list::exists(&self.0, key))).await
    }

    async fn delete_tree(
        &self,
        directory: &Directory,
        _: Option<&Cursor>,
        options: &WriteOptions,
    ) -> Result<Batch> {
        self.0.call(Does::Write, options.deadline, || Ok(write::delete_tree(&self.0, directory))).await
    }

    async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
        self.0.call(Does::Write, options.deadline, || write::transact(&self.0, transaction)).await
    }

    async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        lease::lease(&self.0, ttl, options).await
    }

    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        lock::lock(&self.0, name, options).await
    }

    async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
        self.0.call(Does::Read, options.deadline, || Ok(lock::holder(&self.0, name))).await
    }

    async fn locks(
        &self,
        directory: &Directory,
        _: Option<&Cursor>,
        options: &ReadOptions,
    ) -> Result<LockPage> {
        let locks = || Ok(lock::locks(&self.0, directory));
        self.0.call(Does::Read, options.deadline, locks).await
    }

    async fn set_holder(&self, _: &Key, fence: &Fence, value: Bytes, options: &WriteOptions) -> Result<bool> {
        let set = || Ok(lock::set_holder(&self.0, fence, value));
        self.0.call(Does::Write, options.deadline, set).await
    }

    async fn break_lock(&self, name: &Key, token: u64, options: &WriteOptions) -> Result<bool> {
        let end = || Ok(lock::break_lock(&self.0, name, token));
        self.0.call(Does::Write, options.deadline, end).await
    }

    async fn adopt(&self, _: &Directory, options: &WriteOptions) -> Result<u64> {
        self.0.call(Does::Write, options.deadline, || Ok(0)).await
    }

    async fn health(&self, options: &ReadOptions) -> Result<Health> {
        self.0.call(Does::Read, options.deadline, || Ok(Health::new(env!("CARGO_PKG_VERSION")))).await
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }

    fn inner(&self) -> Option<&dyn Store> {
        None
    }

    async fn close(&self) -> Result<()> {
        self.0.tasks.finish().await
    }
}
