//! The store.

use crate::{
    config::Config,
    engine::{self, Batch, Client, Done, Engine, Lives, Reading, Snapshot, View},
    lease, lock, watch,
};
use kv_core::{Batch as Deleted, backend::Tasks, *};
use std::{fmt, sync::Arc, time::Duration};

/// The largest value, in bytes. It is committed in one piece, and all who write wait for it.
const MAX_VALUE: usize = 16 << 20;
/// The longest TTL: ten years.
const GREATEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The TTLs of leases and locks.
pub(crate) fn lives() -> TtlRange {
    let mut range = TtlRange::new(Duration::from_secs(1), GREATEST);
    range.late_by = LATE_BY;
    range
}

/// A tenth of a second that a key lives longer than asked for, and what the commit of its end takes.
const LATE_BY: Duration = Duration::from_millis(500);

fn ttls() -> TtlRange {
    let mut range = TtlRange::new(Duration::from_millis(10), GREATEST);
    range.late_by = LATE_BY;
    range
}

fn capabilities() -> Capabilities {
    let mut c = Capabilities::new("redb");
    c.durability = Durability::Fsync;
    c.max_value = MAX_VALUE;
    c.ttl = Some(ttls());
    c.lease = Some(lives());
    c.lock = Some(Locking::new(lives()));
    c.max_txn_ops = 4_096;
    c.max_txn_bytes = 64 << 20;
    c.delete_tree_atomic = true;
    c.health = true;
    c
}

/// A client of a store in a file.
///
/// Dropping it, and all that came from it, closes the file in the background, [`close`](Store::close) at once: when it
/// returns from the last client of the file, another process can open it.
pub struct Redb {
    inner: Arc<Inner>,
    capabilities: Capabilities,
}

/// What the store, its streams, guards and leases share.
pub(crate) struct Inner {
    client: Client,
    view: Arc<View>,
    /// What is given back in the background.
    pub(crate) tasks: Tasks,
}

impl Inner {
    pub(crate) fn engine(&self) -> Result<&Arc<Engine>> {
        self.client.engine()
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// The name with its prefix.
    pub(crate) fn whole(&self, name: &Key) -> Arc<str> {
        if self.view.prefix.is_empty() {
            name.as_str().into()
        } else {
            format!("{}{name}", self.view.prefix).into()
        }
    }

    /// The name of a lock: what no other store's lock has, whatever the prefixes, since no name holds a NUL.
    pub(crate) fn lock_name(&self, name: &Key) -> Arc<str> {
        format!("{name}\0{}", self.view.prefix).into()
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        deadline: Deadline,
        work: impl Fn(&Snapshot, &str) -> std::result::Result<T, Reading> + Send + Sync + 'static,
    ) -> Result<T> {
        let prefix = self.view.prefix.clone();
        self.engine()?.read(deadline, move |snapshot| work(snapshot, &prefix)).await
    }

    async fn write<T: Send + 'static>(
        &self,
        deadline: Deadline,
        size: usize,
        work: impl FnOnce(&mut Batch<'_>) -> Done<T> + Send + 'static,
    ) -> Result<T> {
        self.engine()?.write(deadline, size, work).await
    }
}

/// What was done since the file was opened, by all clients of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Commits, each with one flush to the disk.
    pub commits: u64,
    /// Keys that were put or deleted by them, expiry included.
    pub writes: u64,
    /// How often the file had to be opened again after an error of its disk.
    pub reopened: u64,
}

impl Redb {
    /// Opens the store of this configuration.
    ///
    /// # Errors
    /// As [`Config::open`].
    pub(crate) async fn open(config: Config) -> Result<Self> {
        let prefix = config.whole_prefix()?;
        let client = engine::open(&config).await?;
        let view = engine::view(client.engine()?, &prefix);
        let inner = Inner { client, view, tasks: Tasks::default() };
        Ok(Self { inner: Arc::new(inner), capabilities: capabilities() })
    }

    /// What was done since the file was opened: so it can be seen how many writes share a commit.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) after [`close`](Store::close).
    pub fn stats(&self) -> Result<Stats> {
        self.inner.engine().map(|engine| engine.stats())
    }

    fn lives(&self, options: &PutOptions) -> Result<(Lives, Option<Duration>)> {
        Ok(match (options.ttl, &options.lease) {
            (Some(ttl), _) => {
                let granted = ttls().grant(ttl)?;
                (Lives::For(granted), Some(granted))
            }
            (None, Some(id)) => (Lives::Under(lease::number(id)?), None),
            (None, None) => (Lives::Always, None),
        })
    }
}

impl fmt::Debug for Redb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Redb");
        shown.field("path", &self.inner.client.path()).field("prefix", &self.inner.view.prefix);
        shown.field("watches", &self.inner.view.hub.subscribers()).finish_non_exhaustive()
    }
}

/// A transaction with all names whole and all options read.
enum Check {
    Version(Arc<str>, Version),
    Exists(Arc<str>),
    Missing(Arc<str>),
    Held(Arc<str>, u64),
}

enum Step {
    Put(Arc<str>, Bytes, Lives, Option<Duration>),
    Delete(Arc<str>),
}

fn transact(batch: &mut Batch<'_>, checks: Vec<Check>, steps: Vec<Step>) -> Done<Decision> {
    for (condition, check) in checks.into_iter().enumerate() {
        let holds = match check {
            Check::Version(name, version) => batch.version(&name)?.map(|found| found == Some(version)),
            Check::Exists(name) => batch.version(&name)?.map(|found| found.is_some()),
            Check::Missing(name) => batch.version(&name)?.map(|found| found.is_none()),
            Check::Held(name, token) => Ok(batch.holds(&name, token)),
        };
        match holds {
            Ok(true) => {}
            Ok(false) => return Ok(Ok(Decision::Refused { condition })),
            Err(e) => return Ok(Err(e)),
        }
    }
    // All that can be refused is, before the first write.
    for step in &steps {
        if let Step::Put(name, _, lives, _) = step
            && let Err(e) = batch.version(name)?.and_then(|_| batch.may_live(*lives))
        {
            return Ok(Err(e));
        }
    }
    let mut written = Vec::with_capacity(steps.len());
    for step in steps {
        let done = match step {
            Step::Put(name, value, lives, ttl) => {
                let put = batch.put(&name, value, Expect::Anything, lives)?;
                put.map(|version| Some(Written::new(version, ttl)))
            }
            Step::Delete(name) => batch.delete(&name, Expect::Anything)?.map(|_| None),
        };
        match done {
            Ok(done) => written.push(done),
            Err(e) => return Ok(Err(e)),
        }
    }
    Ok(Ok(Decision::Committed(written)))
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Redb {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        let key = key.clone();
        self.inner.read(options.deadline, move |s, prefix| s.get(prefix, &key)).await
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        let (name, size, (lives, ttl)) =
            (self.inner.whole(key), key.as_str().len() + value.len(), self.lives(options)?);
        let put = move |batch: &mut Batch<'_>| batch.put(&name, value, expect, lives);
        let version = self.inner.write(options.deadline, size, put).await?;
        Ok(Written::new(version, ttl))
    }

    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        let name = self.inner.whole(key);
        self.inner.write(options.deadline, 0, move |batch| batch.delete(&name, expect)).await
    }

    async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        watch::list(&self.inner, directory, from, options, options.read.deadline).await
    }

    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        watch::watch(&self.inner, target, options)
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
        let keys = keys.to_vec();
        self.inner.read(options.deadline, move |s, prefix| s.get_many(prefix, &keys)).await
    }

    async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool> {
        let key = key.clone();
        self.inner.read(options.deadline, move |s, prefix| s.exists(prefix, &key)).await
    }

    async fn delete_tree(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &WriteOptions,
    ) -> Result<Deleted> {
        let _ = from; // It is one step, so nobody has a cursor.
        let prefix = self.inner.view.prefix.clone();
        let start = format!("{prefix}{}", directory.start());
        let is_key =
            move |name: &str| name.get(prefix.len()..).is_some_and(|rest| Key::from_stored(rest).is_some());
        let work = move |batch: &mut Batch<'_>| batch.delete_below(&start, is_key).map(Ok);
        let deleted = self.inner.write(options.deadline, 0, work).await?;
        Ok(Deleted { deleted: Some(deleted), next: None })
    }

    async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
        let inner = &self.inner;
        let check = |condition| match condition {
            Condition::Version(key, version) => Check::Version(inner.whole(&key), version),
            Condition::Exists(key) => Check::Exists(inner.whole(&key)),
            Condition::Missing(key) => Check::Missing(inner.whole(&key)),
            Condition::Held(fence) => Check::Held(inner.lock_name(fence.lock()), fence.token()),
        };
        let checks = transaction.conditions.into_iter().map(check).collect();
        let mut size = 0;
        let mut step = |write| {
            Ok(match write {
                Write::Put { key, value, options } => {
                    size += key.as_str().len() + value.len();
                    let (lives, ttl) = self.lives(&options)?;
                    Step::Put(inner.whole(&key), value, lives, ttl)
                }
                Write::Delete { key } => Step::Delete(inner.whole(&key)),
            })
        };
        let steps = transaction.writes.into_iter().map(&mut step).collect::<Result<Vec<_>>>()?;
        inner.write(options.deadline, size, move |batch| transact(batch, checks, steps)).await
    }

    async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        lease::lease(&self.inner, ttl, options).await
    }

    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        lock::lock(&self.inner, name, options).await
    }

    async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
        let lock = self.inner.lock_name(name);
        self.inner.read(options.deadline, move |s, _| s.holder(&lock)).await
    }

    async fn adopt(&self, directory: &Directory, options: &WriteOptions) -> Result<u64> {
        let _ = (directory, options); // All names below the prefix are seen anyway.
        Ok(0)
    }

    async fn health(&self, options: &ReadOptions) -> Result<Health> {
        let probe = Key::parse("health")?;
        self.inner.read(options.deadline, move |s, prefix| s.exists(prefix, &probe)).await?;
        Ok(Health::new("redb 4"))
    }

    fn inner(&self) -> Option<&dyn Store> {
        None
    }

    async fn close(&self) -> Result<()> {
        let given_back = self.inner.tasks.finish().await;
        if let Some(mut gone) = self.inner.client.close() {
            // The writer says so, or has ended: both mean that the file is free.
            let _ = gone.wait_for(|gone| *gone).await;
        }
        given_back
    }
}
