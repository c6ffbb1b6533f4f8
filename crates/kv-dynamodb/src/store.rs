//! The store: what is read, and what is asked of the other files.

use crate::{
    client::{Client, corrupt, damaged},
    error::Failure,
    item::{ENDS, Found, Item, KEY, PARTITION, VERSION, text},
    lease, list, lock,
    names::Names,
    put,
    shared::Shared,
    stream::Feed,
    table::Table,
    terms::Terms,
    txn,
    waits::Waits,
    watch,
};
use aws_sdk_dynamodb::types::KeysAndAttributes;
use kv_core::{
    Acquired, Batch, Bytes, Capabilities, Consistency, Cursor, Deadline, Decision, Directory, Durability,
    Entry, Error, ErrorKind, Expect, Health, Holder, Key, LeaseOptions, Leased, ListOptions, LockOptions,
    Locking, Page, PutOptions, ReadOptions, Result, Store, Target, Transaction, TtlRange, WatchOptions,
    WatchStream, Watching, WriteOptions, Written, async_trait,
    backend::{Hub, Tasks, retry::RetrySafety},
};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

/// The largest item that the service takes, in bytes, the names of its attributes included.
const ITEM: usize = 400 << 10;
/// What an item needs besides its value: its two keys at their longest, and the other attributes.
const OVERHEAD: usize = 4 << 10;
/// The most items of one transaction, and the most bytes.
pub(crate) const MOST_OPS: usize = 100;
const MOST_BYTES: usize = 4 << 20;
/// The most items of one batch of reads.
const MOST_READS: usize = 100;
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

pub(crate) fn consistent(options: &ReadOptions) -> bool {
    options.consistency == Consistency::Linearizable
}

impl Inner {
    pub(crate) fn key(partition: &str, key: &str) -> Item {
        HashMap::from([(PARTITION.to_owned(), text(partition)), (KEY.to_owned(), text(key))])
    }

    /// One item, all of it or these attributes.
    pub(crate) async fn item(
        &self,
        partition: &str,
        key: &str,
        attributes: &[&str],
        options: &ReadOptions,
    ) -> Result<Option<Found>> {
        let mut terms = Terms::default();
        let projection: Vec<_> = attributes.iter().map(|attribute| terms.name(attribute)).collect();
        let get = || async {
            let get = self
                .client
                .tables
                .get_item()
                .table_name(&self.client.table)
                .set_key(Some(Self::key(partition, key)))
                .set_projection_expression((!projection.is_empty()).then(|| projection.join(", ")))
                .set_expression_attribute_names(terms.names())
                .consistent_read(consistent(options));
            get.send().await.map_err(Failure::from)
        };
        let answer = self.client.call(RetrySafety::Read, options.deadline, get).await?;
        Ok(answer.item().map(Found::of))
    }

    /// Several items of one partition, by their sort keys.
    pub(crate) async fn items(
        &self,
        partition: &str,
        keys: impl IntoIterator<Item = &str>,
        options: &ReadOptions,
    ) -> Result<BTreeMap<String, Found>> {
        let client = &self.client;
        read_many(client, partition, keys, consistent(options), options.deadline).await
    }

    /// What is there of a key and has not ended; what is damaged is an error.
    pub(crate) fn living(&self, key: &str, found: Option<Found>) -> Result<Option<Found>> {
        let (Some(found), latest) = (found, self.client.time.latest()) else { return Ok(None) };
        if let Some(attribute) = found.damaged_key(latest) {
            return Err(damaged("key", key, attribute));
        }
        if let Some(version) = found.version {
            self.shared.versions.seen(version, latest);
        }
        Ok(Some(found).filter(|found| !found.is_over(&self.client.time)))
    }

    /// The same of the record of a lock: who holds it.
    pub(crate) fn holding(&self, name: &str, found: Option<Found>) -> Result<Option<Found>> {
        let Some(found) = found else { return Ok(None) };
        if let Some(attribute) = found.damaged_lock(self.client.time.latest()) {
            return Err(damaged("lock", name, attribute));
        }
        Ok(Some(found).filter(|found| found.owner.is_some() && !found.is_over(&self.client.time)))
    }

    /// Has the service tell its time, unless it did so lately.
    pub(crate) async fn fresh_time(&self, deadline: Deadline) -> Result<()> {
        if self.client.time.is_stale() {
            let read = ReadOptions::default().consistency(Consistency::Stale).deadline(deadline);
            self.item(&self.names.data, "\0", &[VERSION], &read).await?;
        }
        Ok(())
    }
}

/// Several items of one partition, as few requests as the service allows.
pub(crate) async fn read_many(
    client: &Client,
    partition: &str,
    keys: impl IntoIterator<Item = &str>,
    consistent: bool,
    deadline: Deadline,
) -> Result<BTreeMap<String, Found>> {
    let mut keys: Vec<&str> = keys.into_iter().collect();
    // The service refuses to be asked for one twice.
    keys.sort_unstable();
    keys.dedup();
    let mut all = BTreeMap::new();
    for keys in keys.chunks(MOST_READS) {
        let mut left: Vec<Item> = keys.iter().map(|key| Inner::key(partition, key)).collect();
        while !left.is_empty() {
            let ask = KeysAndAttributes::builder().set_keys(Some(left)).consistent_read(consistent).build();
            let ask = ask.map_err(|_| corrupt("the SDK refused a batch of keys"))?;
            let get = || async {
                let get = client.tables.batch_get_item().request_items(&client.table, ask.clone());
                let answer = get.send().await.map_err(Failure::from)?;
                let found = answer.responses().and_then(|tables| tables.get(&client.table));
                // Nothing at all: more was asked than the table gives now.
                if found.is_none_or(Vec::is_empty) && !answer.unprocessed_keys().is_none_or(HashMap::is_empty)
                {
                    return Err(Failure::throttled());
                }
                Ok(answer)
            };
            let mut answer = client.call(RetrySafety::Read, deadline, get).await?;
            let items = answer.responses.as_mut().and_then(|tables| tables.remove(&client.table));
            for item in items.unwrap_or_default() {
                if let Some(key) = item.get(KEY).and_then(|key| key.as_s().ok()) {
                    all.insert(key.clone(), Found::of(&item));
                }
            }
            let rest = answer.unprocessed_keys.as_mut().and_then(|tables| tables.remove(&client.table));
            left = rest.map_or_else(Vec::new, |rest| rest.keys);
        }
    }
    Ok(all)
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
