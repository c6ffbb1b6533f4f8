//! The trait.

use crate::{
    Config,
    data::{Data, Life, Name, Shared},
    faults::{Does, Trouble},
};
use bytes::Bytes;
use kv_core::{
    Acquired, Batch, Capabilities, Cursor, Deadline, Decision, Directory, Entry, Error, ErrorKind, Expect,
    Health, Holder, Key, LeaseOptions, Leased, ListOptions, LockOptions, Locking, Page, PutOptions,
    ReadOptions, Result, Store, Target, Transaction, TtlRange, WatchOptions, WatchStream, WriteOptions,
    Written, async_trait,
    backend::{Clock, Hub, Mutex, Tasks, directory_prefix},
};
use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock, MutexGuard, Weak},
    time::Duration,
};

/// The stores that have a name, as long as they live.
static NAMED: LazyLock<Mutex<HashMap<String, Weak<Shared>>>> = LazyLock::new(Mutex::default);

static CAPABILITIES: LazyLock<Capabilities> = LazyLock::new(|| {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
    let mut can = Capabilities::new("memory");
    // What is renewed in the background needs time for it, on a busy machine too.
    let renewed = TtlRange::new(Duration::from_millis(250), CENTURY);
    can.max_value = 16 << 20;
    can.ttl = Some(TtlRange::new(Duration::from_millis(1), CENTURY));
    can.lease = Some(renewed.clone());
    can.lock = Some(Locking::new(renewed));
    can.max_txn_ops = 4096;
    // So that a write of the greatest value can depend on a lock.
    can.max_txn_bytes = 20 << 20;
    can.delete_tree_atomic = true;
    can.health = true;
    can
});

/// A store in memory, seen through one prefix; clones are one client. It lives as long as one of its clients.
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
pub struct Memory(pub(crate) Arc<Client>);

/// One client of a data set.
pub(crate) struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) prefix: Name,
    pub(crate) hub: Hub,
    pub(crate) trouble: Arc<Trouble>,
    /// What is given back in the background.
    pub(crate) tasks: Tasks,
    id: u64,
}

impl Client {
    /// Has its watches read again what is there.
    pub(crate) fn cut(&self) {
        self.hub.missed();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.look().leave(&self.prefix, self.id);
    }
}

impl Memory {
    /// A new, empty store without a prefix, on the machine's clock; [`Config`] gives others.
    pub fn new() -> Self {
        Self::client(Shared::new(Clock::system()), "")
    }

    /// Another client of the same data: the store that this directory is, in place of this client's; the whole of it for
    /// an empty one.
    #[must_use]
    pub fn with_prefix(&self, directory: &str) -> Self {
        Self::client(self.0.shared.clone(), &directory_prefix(directory))
    }

    /// Another client of the same data, whose names all begin with this, byte for byte.
    #[must_use]
    pub fn with_raw_prefix(&self, bytes: &str) -> Self {
        Self::client(self.0.shared.clone(), bytes)
    }

    /// The clock that measures TTLs, leases and locks of this store.
    pub fn clock(&self) -> Clock {
        self.look().clock.clone()
    }

    pub(crate) fn of(config: Config) -> Result<Self> {
        let prefix = config.whole_prefix()?;
        let Config { name, clock, .. } = config;
        let Some(name) = name else {
            return Ok(Self::client(Shared::new(clock.unwrap_or_default()), &prefix));
        };
        let mut named = NAMED.lock();
        let shared = match (named.get(&name).and_then(Weak::upgrade), clock) {
            (Some(shared), Some(clock)) if shared.look().clock != clock => {
                let why = format!(
                    "another clock for the store {name:?}, which is open and has one; leave the clock away"
                );
                return Err(Error::new(ErrorKind::InvalidArgument, why));
            }
            (Some(shared), _) => shared,
            (None, clock) => {
                let shared = Shared::new(clock.unwrap_or_default());
                named.retain(|_, other| other.strong_count() > 0);
                named.insert(name, Arc::downgrade(&shared));
                shared
            }
        };
        drop(named);
        Ok(Self::client(shared, &prefix))
    }

    fn client(shared: Arc<Shared>, prefix: &str) -> Self {
        let prefix = Name::from(prefix);
        let (id, hub) = shared.look().enter(&prefix);
        let (trouble, tasks) = Default::default();
        Self(Arc::new(Client { shared, prefix, hub, trouble, tasks, id }))
    }

    pub(crate) fn look(&self) -> MutexGuard<'_, Data> {
        self.0.shared.look()
    }

    /// The whole name of the key.
    pub(crate) fn name<'a>(&self, key: &'a Key) -> Cow<'a, str> {
        match &*self.0.prefix {
            "" => Cow::Borrowed(key.as_str()),
            prefix => Cow::Owned(format!("{prefix}{key}")),
        }
    }

    pub(crate) fn found(&self, data: &Data, key: &Key) -> Option<Entry> {
        data.entries.get(&*self.name(key)).map(|record| record.entry(key.clone()))
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

/// How long a put has its key live, as granted, if its lease is alive.
pub(crate) fn life(data: &Data, options: &PutOptions) -> Result<(Life, Option<Duration>)> {
    if let Some(lease) = &options.lease {
        return Ok((Life::Lease(data.lease(lease)?), None));
    }
    let granted =
        CAPABILITIES.ttl.as_ref().zip(options.ttl).map(|(range, ttl)| range.grant(ttl)).transpose()?;
    Ok((granted.map_or(Life::Forever, |ttl| Life::Until(data.clock.now() + ttl)), granted))
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Memory {
    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        self.call(Does::Read, options.deadline, || Ok(self.found(&self.look(), key))).await
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        let put = || {
            let (name, mut data) = (self.name(key), self.look());
            let (life, ttl) = life(&data, options)?;
            expect.check(data.version(&name))?;
            Ok(Written::new(data.put(&name, Some(key), value, life), ttl))
        };
        self.call(Does::Write, options.deadline, put).await
    }

    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        let delete = || {
            let (name, mut data) = (self.name(key), self.look());
            expect.check(data.version(&name))?;
            Ok(data.remove(&name))
        };
        self.call(Does::Write, options.deadline, delete).await
    }

    async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        let list = || Ok(self.page(directory, from, options));
        self.call(Does::Read, options.read.deadline, list).await
    }

    async fn watch(&self, target: &Target, _: &WatchOptions) -> Result<WatchStream> {
        Ok(self.events(target))
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
        let get = || {
            let data = self.look();
            Ok(keys.iter().map(|key| self.found(&data, key)).collect())
        };
        self.call(Does::Read, options.deadline, get).await
    }

    async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool> {
        let exists = || Ok(self.look().entries.contains_key(&*self.name(key)));
        self.call(Does::Read, options.deadline, exists).await
    }

    async fn delete_tree(
        &self,
        directory: &Directory,
        _: Option<&Cursor>,
        options: &WriteOptions,
    ) -> Result<Batch> {
        let delete = || {
            let mut data = self.look();
            let names = self.names_below(&data, directory);
            for name in &names {
                data.remove(name);
            }
            Ok(Batch { deleted: Some(names.len() as u64), next: None })
        };
        self.call(Does::Write, options.deadline, delete).await
    }

    async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
        self.call(Does::Write, options.deadline, || self.transacted(transaction)).await
    }

    async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        let ttl = CAPABILITIES.lease.as_ref().map_or(Ok(ttl), |range| range.grant(ttl))?;
        self.call(Does::Write, options.deadline, || self.grant(ttl, options.each_request)).await
    }

    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        let ttl = CAPABILITIES.lock.as_ref().map_or(Ok(options.ttl), |lock| lock.ttl.grant(options.ttl))?;
        if !self.trouble().is_any() {
            return self.acquire(name, ttl, options).await;
        }
        let answer = self.trouble().meet(Does::Write, Deadline::after(options.each_request)).await?;
        answer.of(self.acquire(name, ttl, options).await)
    }

    async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
        let holder = || Ok(self.look().holder(&self.lock_name(name)));
        self.call(Does::Read, options.deadline, holder).await
    }

    async fn adopt(&self, _: &Directory, options: &WriteOptions) -> Result<u64> {
        self.call(Does::Write, options.deadline, || Ok(0)).await
    }

    async fn health(&self, options: &ReadOptions) -> Result<Health> {
        self.call(Does::Read, options.deadline, || Ok(Health::new(env!("CARGO_PKG_VERSION")))).await
    }

    fn inner(&self) -> Option<&dyn Store> {
        None
    }

    async fn close(&self) -> Result<()> {
        self.0.tasks.finish().await
    }
}

#[cfg(test)]
mod tests {
    use super::NAMED;
    use crate::Config;

    #[tokio::test]
    async fn names_that_nobody_uses_are_forgotten() {
        for n in 0..3 {
            drop(Config::new().name(n.to_string()).build().await.unwrap());
        }
        let named = NAMED.lock();
        assert_eq!(named.keys().collect::<Vec<_>>(), ["2"], "the last goes with the next");
    }
}
