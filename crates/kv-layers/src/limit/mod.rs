//! `Limit`: how many calls are under way at once.

mod class;

use crate::events;
use class::{Class, enter, in_turn};
use kv_core::{
    Bytes, Capabilities, Directory, Entry, Fence, Health, Holder, Key, Result, Written,
    driver::{
        Acquired, Batch, Cursor, Deadline, Decision, Expect, Layer, LeaseOptions, Leased, ListOptions,
        LockOptions, LockPage, Page, PutOptions, ReadOptions, Store, Target, Transaction, WatchOptions,
        WatchStream, WriteOptions, async_trait,
    },
};
use std::{sync::Arc, time::Duration};

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
/// A read or a write that was begun and that nobody polls, such as those of a stream whose reader
/// does something else, holds up no other one: those that their callers poll have at most half of
/// the permits. The others wait for theirs, and hold them, in tasks of their own.
///
/// # Capabilities
/// It changes none of them.
///
/// # Errors
/// Waiting counts as part of the call: [`Timeout`](kv_core::ErrorKind::Timeout) when the deadline comes
/// before the permit, for a write too, since nothing was sent.
///
/// # Cancel safety
/// A call that is dropped leaves its place, or gives its permit back; one that is a task does so a
/// moment later.
///
/// # Cost
/// Where less than half of the permits are taken, one costs a look at those of the runtime, and no
/// allocation but for watches: a box for each. Other calls, and all of a class with one permit, have
/// copies of their arguments, and a task if they are not answered at once. A value is shared, and
/// not copied.
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
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Limited {
    fn capabilities(&self) -> &Capabilities {
        self.below().capabilities()
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        in_turn!(self.reads, options.deadline, |below, key, options| below.get(key, options))
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        in_turn!(self.writes, options.deadline, |below, key, options| below.put(key, value, expect, options))
    }

    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        in_turn!(self.writes, options.deadline, |below, key, options| below.delete(key, expect, options))
    }

    async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        in_turn!(self.reads, options.read.deadline, |below, directory, options; from| {
            below.list(directory, from, options)
        })
    }

    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        let permit = match &self.watches {
            Some(watches) => Some(watches.keep(Deadline::after(options.each_request)).await?),
            None => None,
        };
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
        in_turn!(self.reads, options.deadline, |below, keys, options| below.get_many(keys, options))
    }

    async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool> {
        in_turn!(self.reads, options.deadline, |below, key, options| below.exists(key, options))
    }

    async fn delete_tree(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &WriteOptions,
    ) -> Result<Batch> {
        in_turn!(self.writes, options.deadline, |below, directory, options; from| {
            below.delete_tree(directory, from, options)
        })
    }

    async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
        in_turn!(self.writes, options.deadline, |below, options| below.transact(transaction, options))
    }

    async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        in_turn!(self.writes, options.deadline, |below, options| below.lease(ttl, options))
    }

    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        if options.wait {
            return self.below().lock(name, options).await;
        }
        let deadline = Deadline::after(options.each_request);
        in_turn!(self.writes, deadline, |below, name, options| below.lock(name, options))
    }

    async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
        in_turn!(self.reads, options.deadline, |below, name, options| below.lock_holder(name, options))
    }

    async fn locks(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ReadOptions,
    ) -> Result<LockPage> {
        in_turn!(self.reads, options.deadline, |below, directory, options; from| {
            below.locks(directory, from, options)
        })
    }

    async fn set_holder(
        &self,
        name: &Key,
        fence: &Fence,
        value: Bytes,
        options: &WriteOptions,
    ) -> Result<bool> {
        in_turn!(self.writes, options.deadline, |below, name, fence, options| {
            below.set_holder(name, fence, value, options)
        })
    }

    async fn break_lock(&self, name: &Key, token: u64, options: &WriteOptions) -> Result<bool> {
        in_turn!(self.writes, options.deadline, |below, name, options| below.break_lock(name, token, options))
    }

    async fn adopt(&self, directory: &Directory, options: &WriteOptions) -> Result<u64> {
        in_turn!(self.writes, options.deadline, |below, directory, options| below.adopt(directory, options))
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
