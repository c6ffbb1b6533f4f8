//! The trait.

use crate::{
    Config,
    data::{Data, Life, Name, Shared},
};
use bytes::Bytes;
use kv_core::{
    Acquired, Batch, Capabilities, Condition, Cursor, Directory, Entry, Error, ErrorKind, Expect, Health,
    Holder, Key, LeaseOptions, Leased, ListOptions, LockOptions, Locking, Outcome, Page, PutOptions,
    ReadOptions, Result, Store, Target, Transaction, TtlRange, WatchOptions, WatchStream, Write,
    WriteOptions, Written, async_trait,
    backend::{Clock, Hub},
};
use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak},
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
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.look().leave(&self.prefix);
    }
}

impl Memory {
    /// A new, empty store without a prefix, on the machine's clock; [`Config`] gives others.
    pub fn new() -> Self {
        Self::client(Shared::new(Clock::system()), "")
    }

    /// Another client of the same data, with this prefix in place of this client's.
    #[must_use]
    pub fn with_prefix(&self, prefix: &str) -> Self {
        Self::client(self.0.shared.clone(), prefix)
    }

    /// The clock that measures TTLs, leases and locks of this store.
    pub fn clock(&self) -> Clock {
        self.look().clock.clone()
    }

    pub(crate) fn of(config: Config) -> Result<Self> {
        let Config { name, prefix, clock } = config;
        let Some(name) = name else {
            return Ok(Self::client(Shared::new(clock.unwrap_or_default()), &prefix));
        };
        let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = match (named.get(&name).and_then(Weak::upgrade), clock) {
            (Some(_), Some(_)) => {
                let why = format!(
                    "a clock for the store {name:?}, which is open and has one; leave the clock away"
                );
                return Err(Error::new(ErrorKind::InvalidArgument, why));
            }
            (Some(shared), None) => shared,
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
        let hub = shared.look().enter(&prefix);
        Self(Arc::new(Client { shared, prefix, hub }))
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
fn life(data: &Data, options: &PutOptions) -> Result<(Life, Option<Duration>)> {
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

    async fn get(&self, key: &Key, _: &ReadOptions) -> Result<Option<Entry>> {
        Ok(self.found(&self.look(), key))
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        let (name, mut data) = (self.name(key), self.look());
        let (life, ttl) = life(&data, options)?;
        expect.check(data.version(&name))?;
        Ok(Written::new(data.put(&name, Some(key), value, life), ttl))
    }

    async fn delete(&self, key: &Key, expect: Expect, _: &WriteOptions) -> Result<bool> {
        let (name, mut data) = (self.name(key), self.look());
        expect.check(data.version(&name))?;
        Ok(data.remove(&name))
    }

    async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        Ok(self.page(directory, from, options))
    }

    async fn watch(&self, target: &Target, _: &WatchOptions) -> Result<WatchStream> {
        Ok(self.events(target))
    }

    async fn get_many(&self, keys: &[Key], _: &ReadOptions) -> Result<Vec<Option<Entry>>> {
        let data = self.look();
        Ok(keys.iter().map(|key| self.found(&data, key)).collect())
    }

    async fn exists(&self, key: &Key, _: &ReadOptions) -> Result<bool> {
        Ok(self.look().entries.contains_key(&*self.name(key)))
    }

    async fn delete_tree(
        &self,
        directory: &Directory,
        _: Option<&Cursor>,
        _: &WriteOptions,
    ) -> Result<Batch> {
        let mut data = self.look();
        let names = self.names_below(&data, directory);
        for name in &names {
            data.remove(name);
        }
        Ok(Batch { deleted: Some(names.len() as u64), next: None })
    }

    async fn transact(&self, transaction: Transaction, _: &WriteOptions) -> Result<Outcome> {
        let mut data = self.look();
        let version = |key| data.version(&self.name(key));
        let refused = transaction.conditions.iter().position(|condition| !match condition {
            Condition::Version(key, expected) => version(key) == Some(*expected),
            Condition::Exists(key) => version(key).is_some(),
            Condition::Missing(key) => version(key).is_none(),
            Condition::Held(fence) => data.is_held(&self.lock_name(fence.lock()), fence.token()),
        });
        if let Some(condition) = refused {
            return Ok(Outcome::Refused { condition });
        }
        // All that can be refused is, before the first write.
        let lives = transaction.writes.iter().map(|write| match write {
            Write::Put { options, .. } => life(&data, options).map(Some),
            Write::Delete { .. } => Ok(None),
        });
        let lives = lives.collect::<Result<Vec<_>>>()?;
        let mut written = Vec::with_capacity(lives.len());
        for (write, life) in transaction.writes.into_iter().zip(lives) {
            let name = self.name(write.key()).into_owned();
            written.push(match (write, life) {
                (Write::Put { key, value, .. }, Some((life, ttl))) => {
                    Some(Written::new(data.put(&name, Some(&key), value, life), ttl))
                }
                _ => {
                    data.remove(&name);
                    None
                }
            });
        }
        Ok(Outcome::Committed(written))
    }

    async fn lease(&self, ttl: Duration, _: &LeaseOptions) -> Result<Leased> {
        self.grant(CAPABILITIES.lease.as_ref().map_or(Ok(ttl), |range| range.grant(ttl))?)
    }

    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        let ttl = CAPABILITIES.lock.as_ref().map_or(Ok(options.ttl), |lock| lock.ttl.grant(options.ttl))?;
        self.acquire(name, ttl, options).await
    }

    async fn lock_holder(&self, name: &Key, _: &ReadOptions) -> Result<Option<Holder>> {
        Ok(self.look().holder(&self.lock_name(name)))
    }

    async fn adopt(&self, _: &Directory, _: &WriteOptions) -> Result<u64> {
        Ok(0)
    }

    async fn health(&self, _: &ReadOptions) -> Result<Health> {
        Ok(Health::new(env!("CARGO_PKG_VERSION")))
    }

    fn inner(&self) -> Option<&dyn Store> {
        None
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::NAMED;
    use crate::Config;

    #[test]
    fn names_that_nobody_uses_are_forgotten() {
        for n in 0..3 {
            drop(Config::new().name(n.to_string()).build().unwrap());
        }
        let named = NAMED.lock().unwrap();
        assert_eq!(named.keys().collect::<Vec<_>>(), ["2"], "the last goes with the next");
    }
}
