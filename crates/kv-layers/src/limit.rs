//! `Limit`: how many calls are under way at once.

use crate::events;
use kv_core::{
    Bytes, Capabilities, Directory, Entry, Error, ErrorKind, Fence, Health, Holder, Key, Result, Written,
    backend::ByRuntime,
    driver::{
        Acquired, Batch, Cursor, Deadline, Decision, Expect, Layer, LeaseOptions, Leased, ListOptions,
        LockOptions, LockPage, Page, PutOptions, ReadOptions, Store, Target, Transaction, WatchOptions,
        WatchStream, WriteOptions, async_trait,
    },
};
use std::{sync::Arc, time::Duration};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};

/// A layer that lets so many reads, writes and watches be under way at once, and has the others
/// wait for their turn, in the order in which they came. A class that is not limited is let
/// through.
///
/// | class | holds a permit |
/// |---|---|
/// | reads | `get`, `get_many`, `exists`, `lock_holder`, and each page of a listing, of locks too, until the answer |
/// | writes | `put`, `delete`, `transact`, `adopt`, each batch of `delete_tree`, `lease`, `try_acquire`, `set_value` of a guard, `break_lock`, until the answer |
/// | watches | each watch, until its stream is dropped or ends |
/// | none | renewals, releases, revocations, a wait for a lock, `health`, `close` |
///
/// What keeps a lock or a lease never waits for a permit, so that a flood of calls loses no lock.
/// A wait for a lock takes none either: it would hold the permit as long as another has the lock,
/// and that one may need a permit to come to its end.
///
/// All clones of the handle share the permits. Each use of the layer has permits of its own: to
/// share them among parts of a program, layer one handle, and clone it. Each runtime that uses the
/// handle has so many permits, too: one that stands still in the middle of calls keeps its own, and
/// those of the others go on.
///
/// # Capabilities
/// It changes none of them.
///
/// # Errors
/// Waiting counts as part of the call: [`Timeout`](ErrorKind::Timeout) when the deadline comes
/// before the permit, for a write too, since nothing was sent.
///
/// # Cancel safety
/// A call that is dropped leaves its place, or gives its permit back.
///
/// # Cost
/// A free permit costs a look at those of the runtime, and no allocation but for watches: a box for
/// each.
///
/// # Example
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::ErrorKind;
/// use kv_layers::Limit;
/// use std::time::Duration;
///
/// let limit = Limit::new().reads(64).writes(16).watches(1);
/// let kv = kv_memory::open("memory://").await?.layer(limit);
/// let first = kv.watch("a").await?;
/// let second = kv.watch("b").deadline(Duration::from_millis(20)).await;
/// assert_eq!(second.unwrap_err().kind(), ErrorKind::Timeout);
/// drop(first);
/// kv.watch("b").await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    reads: Option<usize>,
    writes: Option<usize>,
    watches: Option<usize>,
}

impl Limit {
    /// Makes a layer that limits nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many reads may be under way at once; 0 counts as 1.
    #[must_use]
    pub fn reads(mut self, most: usize) -> Self {
        self.reads = Some(most);
        self
    }

    /// Sets how many writes may be under way at once; 0 counts as 1.
    #[must_use]
    pub fn writes(mut self, most: usize) -> Self {
        self.writes = Some(most);
        self
    }

    /// Sets how many watches may be open at once; 0 counts as 1.
    #[must_use]
    pub fn watches(mut self, most: usize) -> Self {
        self.watches = Some(most);
        self
    }
}

impl Layer for Limit {
    fn layer(&self, inner: Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(Limited {
            inner,
            limit: *self,
            reads: self.reads.map(|most| Class::new("reads", most)),
            writes: self.writes.map(|most| Class::new("writes", most)),
            watches: self.watches.map(|most| Class::new("watches", most)),
        })
    }
}

/// The permits of one class of calls.
#[derive(Debug)]
struct Class {
    name: &'static str,
    most: usize,
    permits: ByRuntime<Arc<Semaphore>>,
    /// Those for whoever calls from outside of any runtime.
    outside: Arc<Semaphore>,
}

impl Class {
    fn new(name: &'static str, most: usize) -> Self {
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        Self { name, most, permits: ByRuntime::new(), outside: Arc::new(Semaphore::new(most)) }
    }

    fn here(&self) -> Result<Arc<Semaphore>> {
        match Handle::try_current() {
            Ok(_) => self.permits.here(|| Arc::new(Semaphore::new(self.most))),
            Err(_) => Ok(self.outside.clone()),
        }
    }

    fn close(&self) {
        self.permits.close().iter().chain([&self.outside]).for_each(|permits| permits.close());
    }
}

/// Waits for a permit, as long as the call has time.
async fn enter(class: Option<&Class>, deadline: Deadline) -> Result<Option<OwnedSemaphorePermit>> {
    let Some(class) = class else { return Ok(None) };
    match deadline.limit(class.here()?.acquire_owned()).await {
        Some(Ok(permit)) => Ok(Some(permit)),
        Some(Err(_)) => Err(Error::new(ErrorKind::Closed, "the store was closed")),
        None => {
            let Class { name, most, .. } = class;
            let why = format!(
                "no turn within {deadline}: {most} {name} were under way all the time, which is the most that the layer `Limit` allows; nothing was sent"
            );
            Err(Error::new(ErrorKind::Timeout, why))
        }
    }
}

#[derive(Debug)]
struct Limited {
    inner: Arc<dyn Store>,
    limit: Limit,
    reads: Option<Class>,
    writes: Option<Class>,
    watches: Option<Class>,
}

impl Limited {
    fn below(&self) -> &dyn Store {
        self.inner.as_ref()
    }

    async fn reading(&self, deadline: Deadline) -> Result<Option<OwnedSemaphorePermit>> {
        enter(self.reads.as_ref(), deadline).await
    }

    async fn writing(&self, deadline: Deadline) -> Result<Option<OwnedSemaphorePermit>> {
        enter(self.writes.as_ref(), deadline).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Limited {
    fn capabilities(&self) -> &Capabilities {
        self.below().capabilities()
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        let _permit = self.reading(options.deadline).await?;
        self.below().get(key, options).await
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        let _permit = self.writing(options.deadline).await?;
        self.below().put(key, value, expect, options).await
    }

    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        let _permit = self.writing(options.deadline).await?;
        self.below().delete(key, expect, options).await
    }

    async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        let _permit = self.reading(options.read.deadline).await?;
        self.below().list(directory, from, options).await
    }

    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        let permit = enter(self.watches.as_ref(), Deadline::after(options.each_request)).await?;
        let changes = self.below().watch(target, options).await?;
        Ok(match permit {
            // It is held as long as the stream that holds the function.
            Some(permit) => events::map(changes, move |event| {
                let _held = &permit;
                Ok(event)
            }),
            None => changes,
        })
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
        let _permit = self.reading(options.deadline).await?;
        self.below().get_many(keys, options).await
    }

    async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool> {
        let _permit = self.reading(options.deadline).await?;
        self.below().exists(key, options).await
    }

    async fn delete_tree(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &WriteOptions,
    ) -> Result<Batch> {
        let _permit = self.writing(options.deadline).await?;
        self.below().delete_tree(directory, from, options).await
    }

    async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
        let _permit = self.writing(options.deadline).await?;
        self.below().transact(transaction, options).await
    }

    async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        let _permit = self.writing(options.deadline).await?;
        self.below().lease(ttl, options).await
    }

    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        let _permit = match options.wait {
            true => None,
            false => self.writing(Deadline::after(options.each_request)).await?,
        };
        self.below().lock(name, options).await
    }

    async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
        let _permit = self.reading(options.deadline).await?;
        self.below().lock_holder(name, options).await
    }

    async fn locks(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ReadOptions,
    ) -> Result<LockPage> {
        let _permit = self.reading(options.deadline).await?;
        self.below().locks(directory, from, options).await
    }

    async fn set_holder(
        &self,
        name: &Key,
        fence: &Fence,
        value: Bytes,
        options: &WriteOptions,
    ) -> Result<bool> {
        let _permit = self.writing(options.deadline).await?;
        self.below().set_holder(name, fence, value, options).await
    }

    async fn break_lock(&self, name: &Key, token: u64, options: &WriteOptions) -> Result<bool> {
        let _permit = self.writing(options.deadline).await?;
        self.below().break_lock(name, token, options).await
    }

    async fn adopt(&self, directory: &Directory, options: &WriteOptions) -> Result<u64> {
        let _permit = self.writing(options.deadline).await?;
        self.below().adopt(directory, options).await
    }

    async fn health(&self, options: &ReadOptions) -> Result<Health> {
        self.below().health(options).await
    }

    fn describe(&self) -> String {
        let classes =
            [("reads", self.limit.reads), ("writes", self.limit.writes), ("watches", self.limit.watches)];
        let limits = classes.iter().filter_map(|(name, most)| most.map(|most| format!("{name}: {most}")));
        format!("Limit({})", limits.collect::<Vec<_>>().join(", "))
    }

    fn inner(&self) -> Option<&dyn Store> {
        Some(self.below())
    }

    async fn close(&self) -> Result<()> {
        // Whoever waits for a turn hears that there is none any more.
        for class in [&self.reads, &self.writes, &self.watches].into_iter().flatten() {
            class.close();
        }
        self.below().close().await
    }
}
