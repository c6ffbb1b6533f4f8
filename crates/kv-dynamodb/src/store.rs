//! The store: its parts, and which file does what.

use crate::{
    client::{
        Client,
        item::{ENDS, Found, VERSION},
        table::Table,
    },
    lease, list,
    lock::{self, waits::Waits},
    names::Names,
    shared::Shared,
    watch::{self, feed::Feed},
    write::{put, txn},
};
use kv_core::{
    Acquired, Batch, Bytes, Capabilities, Cursor, Deadline, Decision, Directory, Durability, Entry, Error,
    ErrorKind, Expect, Health, Holder, Key, LeaseOptions, Leased, ListOptions, LockOptions, Locking, Page,
    PutOptions, ReadOptions, Result, Store, Target, Transaction, TtlRange, WatchOptions, WatchStream,
    Watching, WriteOptions, Written, async_trait,
    backend::{Hub, Tasks},
};
use std::{fmt, sync::Arc, time::Duration};

/// The largest item that the service takes, in bytes, the names of its attributes included.
const ITEM: usize = 400 << 10;
/// What an item needs besides its value: its two keys at their longest, and the other attributes.
const OVERHEAD: usize = 4 << 10;
/// The most items of one transaction, and the most bytes.
pub(crate) const MOST_OPS: usize = 100;
const MOST_BYTES: usize = 4 << 20;
/// The shortest life: the service tells its time in seconds, and a renewal has to come through in time when the table is
/// asked for more than it takes.
const LEAST: Duration = Duration::from_secs(3);
pub(crate) const GREATEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// How long closing waits for what is still given back, behind what the handle itself waits for.
const CLOSING: Duration = Duration::from_millis(700);
/// A second on the writer's side, one on the reader's, and what both may have drifted meanwhile.
const LATE: Duration = Duration::from_secs(3);

/// A store on one table of DynamoDB; [`Config`](crate::Config) opens it. Clones of an `Arc` of it, or of a
/// [`Kv`](kv_core::Kv), share one reader of the table's stream.
pub struct Dynamo(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) client: Arc<Client>,
    pub(crate) names: Names,
    pub(crate) slack: Duration,
    pub(crate) capabilities: Capabilities,
    pub(crate) hub: Hub,
    pub(crate) feed: Feed,
    pub(crate) shared: Arc<Shared>,
    pub(crate) waits: Waits,
    pub(crate) tasks: Tasks,
}

impl Dynamo {
    pub(crate) fn new(
        client: Client,
        names: Names,
        slack: Duration,
        table: Table,
        shared: Arc<Shared>,
    ) -> Self {
        let client = Arc::new(client);
        let hub = Hub::new();
        Self(Arc::new(Inner {
            feed: Feed::new(client.clone(), names.clone(), hub.clone()),
            shared,
            waits: Waits::new(client.clone(), names.locks.clone()),
            tasks: Tasks::default(),
            capabilities: capabilities(table),
            client,
            names,
            slack,
            hub,
        }))
    }
}

fn capabilities(table: Table) -> Capabilities {
    let mut ttl = TtlRange::new(LEAST, GREATEST);
    ttl.late_share = 0.01;
    ttl.late_by = LATE;
    let mut lock = Locking::new(ttl.clone());
    lock.fair = false;
    let mut c = Capabilities::new("dynamodb");
    c.durability = Durability::Quorum;
    c.max_value = ITEM - OVERHEAD;
    c.max_txn_ops = MOST_OPS;
    c.max_txn_bytes = MOST_BYTES - MOST_OPS * OVERHEAD;
    c.lease = Some(ttl.clone());
    c.lock = Some(lock);
    c.ttl = Some(ttl);
    c.health = true;
    if let Some(hint) = table.no_stream {
        c.watch = Watching::Unsupported;
        c.hint = Some(hint.into());
    }
    c
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Dynamo {
    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        let found = self.0.item(&self.0.names.data, key.as_str(), &[], options).await?;
        Ok(self.0.living(key.as_str(), found)?.and_then(|found| found.entry(key.clone())))
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
        let found = self.0.items(&self.0.names.data, keys.iter().map(Key::as_str), options).await?;
        let entry = |key: &Key| {
            let found = self.0.living(key.as_str(), found.get(key.as_str()).cloned())?;
            Ok(found.and_then(|found| found.entry(key.clone())))
        };
        keys.iter().map(entry).collect()
    }

    async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool> {
        let found = self.0.item(&self.0.names.data, key.as_str(), &[VERSION, ENDS], options).await?;
        match self.0.living(key.as_str(), found)? {
            None => Ok(false),
            Some(Found { version: Some(_), .. }) => Ok(true),
            // Another tool's, of whatever type.
            Some(_) => Ok(self.get(key, options).await?.is_some()),
        }
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        put::put(&self.0, key, value, expect, options).await
    }

    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        put::delete(&self.0, key, expect, options).await
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
        list::delete_batch(&self.0, directory, from, options).await
    }

    async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
        txn::transact(&self.0, transaction, options).await
    }

    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        if self.0.capabilities.watch == Watching::Unsupported {
            return Err(self.0.capabilities.unsupported("watches"));
        }
        Ok(watch::start(self.0.clone(), target, options))
    }

    async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        let range = self.0.capabilities.lease.as_ref();
        let ttl = range.ok_or_else(|| self.0.capabilities.unsupported("leases"))?.grant(ttl)?;
        lease::lease(&self.0, ttl, options).await
    }

    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        lock::lock(&self.0, name, options).await
    }

    async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
        let found = self.0.item(&self.0.names.locks, name.as_str(), &[], options).await?;
        Ok(self.0.holding(name.as_str(), found)?.and_then(lock::holder))
    }

    /// Listings show what other tools wrote.
    async fn adopt(&self, _: &Directory, _: &WriteOptions) -> Result<u64> {
        Ok(0)
    }

    async fn health(&self, options: &ReadOptions) -> Result<Health> {
        let read = ReadOptions::default().deadline(options.deadline);
        self.0.item(&self.0.names.data, "\0", &[VERSION], &read).await?;
        // The service has no other version than that of its interface.
        Ok(Health::new("2012-08-10"))
    }

    fn inner(&self) -> Option<&dyn Store> {
        None
    }

    async fn close(&self) -> Result<()> {
        self.0.feed.close();
        self.0.waits.close();
        let given_back = Deadline::after(CLOSING).limit(self.0.tasks.finish()).await;
        self.0.client.close();
        given_back.unwrap_or_else(|| {
            let why = "what was held could not all be given back in time; the rest ends by its TTL";
            Err(Error::new(ErrorKind::Timeout, why))
        })
    }
}

impl fmt::Debug for Dynamo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { client, names, .. } = &*self.0;
        f.debug_struct("Dynamo")
            .field("table", &client.table)
            .field("prefix", &names.prefix())
            .finish_non_exhaustive()
    }
}
