//! `Tee`: writes to two stores, for a migration from one to the other.

mod compare;
mod copier;
mod leases;

pub use compare::Difference;

use copier::{Copier, Mine, Pending, Tell};
use kv_core::{
    Bytes, Capabilities, Directory, Entry, Error, Fence, Health, Holder, Key, Result, TtlRange, Written,
    backend::{Mutex, Outage, Tasks},
    driver::{
        Acquired, Batch, Cursor, Decision, Expect, Layer, LeaseOptions, Leased, ListOptions, LockOptions,
        LockPage, Page, PutOptions, ReadOptions, Store, Target, Transaction, WatchOptions, WatchStream,
        Write, WriteOptions, async_trait,
    },
};
use leases::Leases;
use std::{fmt, sync::Arc, time::Duration};

/// A layer that copies what is written to the store below into another store: for moving to
/// another backend while programs go on.
///
/// The store below is the one that counts: it answers every call, gives every version, and alone
/// has the locks. Once it has made a write, the key is copied. The other store is written on
/// condition that it has not changed since it was looked at, so that of several writers, in any
/// number of processes, none leaves an older value behind: when all copies are made, both stores
/// have the same. A transaction is copied key by key.
///
/// # A migration
/// 1. Every process puts the layer over the old store, with the new one as the other.
/// 2. [`Tee::copy`] copies what was there before.
/// 3. [`Tee::differences`] finds none.
/// 4. The processes move to the new store, with the layer the other way round as long as there may
///    be a way back.
///
/// Processes of the steps 1 and 4 do not see each other's writes at once, nor each other's locks
/// at all: where a lock guards something, stop all of them before the first one moves. Versions
/// that a program remembers are those of the old store; forget them.
///
/// # What can be missed
/// A copy that failed is logged when it begins to happen, and [told](Self::told); the write has
/// succeeded all the same. A write whose answer was lost, or whose future was dropped, is looked
/// for once, and may come later. When the other store is away for longer than the TTL of a lease,
/// what stood under it there is gone; that is told, with the name of the lease, which is granted
/// anew, with its keys, as soon as the store is back. A process that ends between a write and its copy copies nothing,
/// and what other programs write to the old store is not seen. [`Tee::differences`] finds all of
/// these, and [`Tee::copy`] mends what is missing or differs.
///
/// # Capabilities
/// `max_value` is the smaller one of both stores'. `ttl` and `lease` become `None` where the other
/// store has none, and their greatest is the smaller one; `children_of_expiring` is `false` where
/// it is so for either. The others are those of the store below.
///
/// # Errors
/// Those of the store below. A copy that fails is no error of the call.
///
/// # Cancel safety
/// That of the store below; the copy of a write that is dropped is made in the background. What the
/// end of a runtime cuts off is made with the next write, or by `close`, which waits for all
/// copies, and closes both stores.
///
/// # Cost
/// A write makes four requests more: a read of the other store and two of this one, and a
/// conditional write. It waits for them up to its deadline, and [half a second](Self::patience) at
/// most, while the other store is slow or away; so does a lease for the other store's. A deletion
/// of a tree lists what is left of it in the other store, and deletes it there key by key, eight at
/// a time; of this store it reads a hundred of these keys at once. The names of the keys that were
/// put under a lease are remembered as long as it lives. Reads, watches and locks cost
/// nothing.
///
/// # Example
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_layers::Tee;
///
/// let (old, new) = (kv_memory::open("memory://").await?, kv_memory::open("memory://").await?);
/// old.put("color", "red").await?;
/// let kv = old.clone().layer(Tee::to(new.store().clone()));
/// kv.put("size", "1").await?;
/// assert_eq!(new.get("size").await?.unwrap().text(), Some("1"));
///
/// let found = Tee::differences(&old, &new, "").await?;
/// assert_eq!(found[0].to_string(), "color is missing in the other store");
/// Tee::copy(&old, &new, "").await?;
/// assert!(Tee::differences(&old, &new, "").await?.is_empty());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Tee {
    to: Arc<dyn Store>,
    patience: Duration,
    tell: Arc<Tell>,
}

impl Tee {
    /// Makes a layer that copies to this store, with the names that the layer sees: a
    /// [`Prefix`](crate::Prefix) over the other store puts them into a directory there.
    pub fn to(other: Arc<dyn Store>) -> Self {
        Self { to: other, patience: Duration::from_millis(500), tell: Arc::new(|_, _| {}) }
    }

    /// Sets how long a write waits for its copy at most, and a lease for that of the other store:
    /// half a second unless it is set. A copy goes on behind it; where the other store has not
    /// granted the lease by then, what is put under it is copied once it has.
    #[must_use]
    pub fn patience(mut self, most: Duration) -> Self {
        self.patience = most;
        self
    }

    /// Has this function told of each copy that fails, with the name of the key, or of the
    /// directory or lease. It is called in the middle of the work: it should note it and return.
    #[must_use]
    pub fn told(mut self, tell: impl Fn(&str, &Error) + Send + Sync + 'static) -> Self {
        self.tell = Arc::new(tell);
        self
    }
}

impl fmt::Debug for Tee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tee").field("to", &self.to).field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl Layer for Tee {
    fn layer(&self, inner: Arc<dyn Store>) -> Arc<dyn Store> {
        let (here, there) = (inner.as_ref().capabilities(), self.to.as_ref().capabilities());
        let capabilities = of_both(here, there);
        let outage = Mutex::new(Outage::new("the copies of the layer `Tee`", there.backend));
        let copier = Copier {
            from: inner.clone(),
            to: self.to.clone(),
            tasks: Tasks::default(),
            patience: self.patience,
            tell: self.tell.clone(),
            leases: Leases::default(),
            cut: Mutex::default(),
            outage,
        };
        Arc::new(Teed { inner, capabilities, copier: Arc::new(copier) })
    }
}

fn of_both(here: &Capabilities, there: &Capabilities) -> Capabilities {
    let range = |here: &Option<TtlRange>, there: &Option<TtlRange>| {
        let (mut both, there) = (here.clone()?, there.as_ref()?);
        if both.greatest > there.greatest {
            // A TTL that is granted has to be one of the own store's.
            let (unit, most) = (both.unit.as_nanos().max(1), there.greatest.as_nanos());
            both.greatest = Duration::from_nanos_u128(most / unit * unit);
        }
        Some(both)
    };
    let mut c = here.clone();
    c.max_value = here.max_value.min(there.max_value);
    c.ttl = range(&here.ttl, &there.ttl);
    c.lease = range(&here.lease, &there.lease);
    c.children_of_expiring = here.children_of_expiring && there.children_of_expiring;
    c
}

struct Teed {
    inner: Arc<dyn Store>,
    capabilities: Capabilities,
    copier: Arc<Copier>,
}

impl Teed {
    fn below(&self) -> &dyn Store {
        self.inner.as_ref()
    }
}

impl fmt::Debug for Teed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Teed")
            .field("inner", &self.inner)
            .field("to", &self.copier.to)
            .finish_non_exhaustive()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Teed {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        self.below().get(key, options).await
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        let copy = Pending::new(&self.copier, vec![Mine::put(key, &value, options)]);
        let written = self.below().put(key, value, expect, options).await;
        copy.answered(&written, options.deadline, |written, _| Some(written.version)).await;
        written
    }

    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        let copy = Pending::new(&self.copier, vec![Mine::delete(key)]);
        let deleted = self.below().delete(key, expect, options).await;
        copy.answered(&deleted, options.deadline, |_, _| None).await;
        deleted
    }

    async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        self.below().list(directory, from, options).await
    }

    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        self.below().watch(target, options).await
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
        self.below().get_many(keys, options).await
    }

    async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool> {
        self.below().exists(key, options).await
    }

    async fn delete_tree(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &WriteOptions,
    ) -> Result<Batch> {
        let copy = Pending::tree(&self.copier, directory);
        let batch = self.below().delete_tree(directory, from, options).await;
        match &batch {
            // The last batch copies all of it.
            Ok(Batch { next: Some(_), .. }) => copy.forget(),
            Ok(_) => copy.answered(&batch, options.deadline, |_, _| None).await,
            // A part of it may be deleted.
            Err(_) => drop(copy),
        }
        batch
    }

    async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
        let writes = transaction.writes.iter().map(|write| match write {
            Write::Put { key, value, options } => Mine::put(key, value, options),
            Write::Delete { key } => Mine::delete(key),
        });
        let copy = Pending::new(&self.copier, writes.collect());
        let decision = self.below().transact(transaction, options).await;
        match &decision {
            Ok(Decision::Refused { .. }) => copy.forget(),
            _ => {
                let version = |decision: &Decision, at: usize| match decision {
                    Decision::Committed(written) => written.get(at)?.map(|written| written.version),
                    Decision::Refused { .. } => None,
                };
                copy.answered(&decision, options.deadline, version).await;
            }
        }
        decision
    }

    async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        self.copier.grant(ttl, options).await
    }

    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        self.below().lock(name, options).await
    }

    async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
        self.below().lock_holder(name, options).await
    }

    async fn locks(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ReadOptions,
    ) -> Result<LockPage> {
        self.below().locks(directory, from, options).await
    }

    async fn set_holder(
        &self,
        name: &Key,
        fence: &Fence,
        value: Bytes,
        options: &WriteOptions,
    ) -> Result<bool> {
        self.below().set_holder(name, fence, value, options).await
    }

    async fn break_lock(&self, name: &Key, token: u64, options: &WriteOptions) -> Result<bool> {
        self.below().break_lock(name, token, options).await
    }

    async fn adopt(&self, directory: &Directory, options: &WriteOptions) -> Result<u64> {
        self.below().adopt(directory, options).await
    }

    async fn health(&self, options: &ReadOptions) -> Result<Health> {
        self.below().health(options).await
    }

    fn describe(&self) -> String {
        format!("Tee(to {})", self.copier.to.as_ref().capabilities().backend)
    }

    fn inner(&self) -> Option<&dyn Store> {
        Some(self.below())
    }

    async fn close(&self) -> Result<()> {
        let copied = self.copier.tasks.finish().await;
        // The end of another runtime may have cut it off.
        self.copier.resume();
        self.copier.revoke_all();
        let copied = copied.and(self.copier.tasks.finish().await);
        let (ours, theirs) = (self.below().close().await, self.copier.to.as_ref().close().await);
        copied.and(ours).and(theirs)
    }
}
