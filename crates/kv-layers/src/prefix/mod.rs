//! `Prefix`: the store that is a directory of another one.

mod names;

use crate::events;
use kv_core::{
    Bytes, Capabilities, Directory, Entry, Error, ErrorKind, Fence, Health, Holder, IntoKey, Key, Result,
    Written,
    driver::{
        Acquired, Batch, Cursor, Decision, Expect, Layer, LeaseOptions, Leased, ListOptions, LockOptions,
        LockPage, Page, PutOptions, ReadOptions, Store, Target, Transaction, WatchOptions, WatchStream,
        WriteOptions, async_trait,
    },
};
use names::Names;
use std::{sync::Arc, time::Duration};

/// The longest directory, in bytes: below it, every name that a program may give fits.
const LONGEST: usize = 487;

/// A layer that makes a store of one directory of another store: the key `color` of what is above
/// is the key `app/color` of what is below. All names are changed on their way in and out: in
/// calls and answers, listings, events, locks and their holders, and transactions.
///
/// [`Kv::within`](kv_core::Kv::within) does the same for a handle, and shares locks and
/// transactions with the handle that it comes from. The layer is for where a *store* is needed:
/// for the other side of a migration ([`Tee`](crate::Tee)), or for other layers to stand on, such
/// as [`Encrypt`](crate::Encrypt), which binds the names that it sees to the values.
///
/// There is no layer that maps single names in some other way. A listing is in the order of the
/// names, and a watch is of a directory: of all mappings only those that put something in front of
/// every name keep both.
///
/// # Capabilities
/// It changes none of them.
///
/// # Errors
/// A name that is longer than 1,000 bytes together with the directory, as other tools may have
/// written it, is [`InvalidKey`](ErrorKind::InvalidKey). The text of an error that the store below
/// makes can have whole names in it; what [`Error::key`](kv_core::Error::key) gives is as the
/// handle's caller gave it.
///
/// # Cancel safety
/// That of the store below: the layer itself never waits.
///
/// # Cost
/// An allocation for each name in a call, and one for each name in an answer.
///
/// # Example
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_layers::Prefix;
///
/// let all = kv_memory::open("memory://").await?;
/// let app = all.clone().layer(Prefix::new("app")?);
/// app.put("color", "red").await?;
/// assert!(all.exists("app/color").await?);
/// assert_eq!(app.list("").await?[0].key.as_str(), "color");
///
/// let guard = app.new_lock("leader").acquire().await?; // `app/leader`, seen from `all`
/// assert!(all.lock_holder("app/leader").await?.is_some());
/// app.put("plan", "v2").fenced(&guard).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Prefix(Directory);

impl Prefix {
    /// Makes the layer for this directory, which need not exist. The root changes nothing.
    ///
    /// # Errors
    /// [`InvalidKey`](ErrorKind::InvalidKey) for the name, and for one of more than 487 bytes,
    /// below which not every name would fit.
    pub fn new(directory: impl IntoKey) -> Result<Self> {
        let directory = directory.into_directory()?;
        let long = directory.as_str().len();
        if long > LONGEST {
            let why =
                format!("the prefix is {long} bytes long; give one of at most {LONGEST}, so that names fit");
            return Err(Error::new(ErrorKind::InvalidKey, why));
        }
        Ok(Self(directory))
    }
}

impl Layer for Prefix {
    fn layer(&self, inner: Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(Prefixed { inner, names: Names(self.0.clone()) })
    }
}

#[derive(Debug)]
struct Prefixed {
    inner: Arc<dyn Store>,
    names: Names,
}

impl Prefixed {
    fn below(&self) -> &dyn Store {
        self.inner.as_ref()
    }

    fn own(&self, found: Option<Entry>) -> Result<Option<Entry>> {
        found.map(|entry| self.names.own_entry(entry)).transpose()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Prefixed {
    fn capabilities(&self) -> &Capabilities {
        self.below().capabilities()
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        self.own(self.below().get(&self.names.whole(key)?, options).await?)
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        self.below().put(&self.names.whole(key)?, value, expect, options).await
    }

    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        self.below().delete(&self.names.whole(key)?, expect, options).await
    }

    async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        let directory = self.names.whole_directory(directory)?;
        let place = options.start_after.as_ref().map(|place| self.names.whole_place(place)).transpose()?;
        let options = options.clone().start_after(place);
        let Page { items, next } = self.below().list(&directory, from, &options).await?;
        let items = items.into_iter().map(|item| self.names.own_item(item)).collect::<Result<_>>()?;
        Ok(Page { items, next })
    }

    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        let changes = self.below().watch(&self.names.whole_target(target)?, options).await?;
        let names = self.names.clone();
        Ok(events::map(changes, move |event| names.own_event(event)))
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
        let keys = keys.iter().map(|key| self.names.whole(key)).collect::<Result<Vec<_>>>()?;
        let found = self.below().get_many(&keys, options).await?;
        found.into_iter().map(|entry| self.own(entry)).collect()
    }

    async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool> {
        self.below().exists(&self.names.whole(key)?, options).await
    }

    async fn delete_tree(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &WriteOptions,
    ) -> Result<Batch> {
        self.below().delete_tree(&self.names.whole_directory(directory)?, from, options).await
    }

    async fn transact(&self, mut transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
        for key in transaction.keys_mut() {
            let whole = self.names.whole(key)?;
            *key = whole;
        }
        self.below().transact(transaction, options).await
    }

    async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        self.below().lease(ttl, options).await
    }

    // The fence keeps the name that the store below gave it: that store alone reads it.
    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        self.below().lock(&self.names.whole(name)?, options).await
    }

    async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
        self.below().lock_holder(&self.names.whole(name)?, options).await
    }

    async fn locks(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ReadOptions,
    ) -> Result<LockPage> {
        let directory = self.names.whole_directory(directory)?;
        let LockPage { mut locks, next } = self.below().locks(&directory, from, options).await?;
        for lock in &mut locks {
            lock.name = self.names.own(&lock.name)?;
        }
        Ok(LockPage { locks, next })
    }

    async fn set_holder(
        &self,
        name: &Key,
        fence: &Fence,
        value: Bytes,
        options: &WriteOptions,
    ) -> Result<bool> {
        self.below().set_holder(&self.names.whole(name)?, fence, value, options).await
    }

    async fn break_lock(&self, name: &Key, token: u64, options: &WriteOptions) -> Result<bool> {
        self.below().break_lock(&self.names.whole(name)?, token, options).await
    }

    async fn adopt(&self, directory: &Directory, options: &WriteOptions) -> Result<u64> {
        self.below().adopt(&self.names.whole_directory(directory)?, options).await
    }

    async fn health(&self, options: &ReadOptions) -> Result<Health> {
        self.below().health(options).await
    }

    fn describe(&self) -> String {
        format!("Prefix({:?})", self.names.0)
    }

    fn inner(&self) -> Option<&dyn Store> {
        Some(self.below())
    }

    async fn close(&self) -> Result<()> {
        self.below().close().await
    }
}
