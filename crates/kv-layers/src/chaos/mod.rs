//! `Chaos`: calls that fail, answers that are lost, for tests.

mod delay;
mod dice;

use dice::{Dice, count};
use kv_core::{
    Bytes, Capabilities, Directory, Entry, Error, ErrorKind, Fence, Health, Holder, Key, Result, Written,
    driver::{
        Acquired, Batch, Cursor, Deadline, Decision, Expect, Layer, LeaseOptions, Leased, ListOptions,
        LockOptions, LockPage, Page, PutOptions, ReadOptions, Store, Target, Transaction, WatchOptions,
        WatchStream, WriteOptions, async_trait,
    },
};
use std::{
    future::Future,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// A layer that makes calls fail, loses answers and holds calls back, by chance, on any store: for
/// tests of what a program does then. The same seed gives the same chances in the same order of
/// calls.
///
/// | with | some | end as |
/// |---|---|---|
/// | [`failures`](Self::failures) | calls that are not sent | [`Unavailable`](ErrorKind::Unavailable) |
/// | [`lost_answers`](Self::lost_answers) | writes, of which every second one is done | [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) |
/// | [`delays`](Self::delays) | calls before they are sent, or before they are answered | they would |
///
/// A write whose answer is lost may have been done, have lost its comparison, or never have been
/// sent: nothing tells the caller which, as in an outage. A lease whose answer is lost is revoked
/// in the background; so is a lock released, whose acquisition then fails as
/// [`Timeout`](ErrorKind::Timeout), which a wait for it rides out. Watches are only held back: a
/// slow one lists again, and tells what differs. Renewals, releases and revocations go on in the
/// store below, where no layer meets them; `kv_memory::Faults` reaches those of a store in memory,
/// and plans single faults there.
///
/// Clones are one chaos: they share the chances, the switch and the counts, so that a test keeps
/// one, and layers another.
///
/// # Capabilities
/// It changes none of them.
///
/// # Errors
/// Those of the table. A call that is held back until its deadline is
/// [`Timeout`](ErrorKind::Timeout), since it was not sent.
///
/// # Cancel safety
/// That of the store below.
///
/// # Cost
/// Some nanoseconds a call, and a box for each watch, where delays are asked for.
///
/// # Example
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::{Entry, Result};
/// use kv_layers::Chaos;
///
/// fn next(found: Option<&Entry>) -> Result<String> {
///     let count: u64 = found.and_then(Entry::text).map_or(0, |text| text.parse().unwrap());
///     Ok((count + 1).to_string())
/// }
///
/// let chaos = Chaos::new(17).lost_answers(0.2);
/// let store = kv_memory::open("memory://").await?;
/// let kv = store.clone().layer(chaos.clone());
///
/// for _ in 0..100 {
///     kv.update("count", next).exactly_once().await?; // whatever becomes of the answers
/// }
/// assert_eq!(store.get("count").await?.unwrap().text(), Some("100"));
/// assert!(chaos.counts().lost_done > 0 && chaos.counts().lost_undone > 0);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Chaos {
    failures: f64,
    lost_answers: f64,
    delays: f64,
    longest: Duration,
    dice: Arc<Dice>,
}

/// The numbers of calls and events that a [`Chaos`] has disturbed so far, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// The calls that failed, and were not sent.
    pub failed: u64,
    /// The writes that were sent, and whose answers were lost.
    pub lost_done: u64,
    /// The writes that were not sent, and were answered as if their answers were lost.
    pub lost_undone: u64,
    /// The calls and events that were held back.
    pub delayed: u64,
}

impl Chaos {
    /// Makes a layer that does nothing yet, with the chances of this seed.
    pub fn new(seed: u64) -> Self {
        let (failures, lost_answers, delays) = (0.0, 0.0, 0.0);
        Self { failures, lost_answers, delays, longest: Duration::ZERO, dice: Arc::new(Dice::new(seed)) }
    }

    /// Sets which share of the calls fails, from 0 to 1.
    #[must_use]
    pub fn failures(mut self, share: f64) -> Self {
        self.failures = share;
        self
    }

    /// Sets which share of the answers to writes is lost, from 0 to 1.
    #[must_use]
    pub fn lost_answers(mut self, share: f64) -> Self {
        self.lost_answers = share;
        self
    }

    /// Sets which share of the calls and events is held back, from 0 to 1, and for how long at
    /// most. Acquisitions of locks are not: they would lose their order.
    #[must_use]
    pub fn delays(mut self, share: f64, longest: Duration) -> Self {
        (self.delays, self.longest) = (share, longest);
        self
    }

    /// Does nothing from now on, on all clones, until [`resume`](Self::resume): a test prepares
    /// and checks what is there meanwhile.
    pub fn pause(&self) {
        self.dice.set_calm(true);
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.dice.set_calm(false);
    }

    /// Returns what was done so far, by all clones: a test that saw no fault has shown nothing.
    pub fn counts(&self) -> Counts {
        let Dice { failed, lost_done, lost_undone, delayed, .. } = &*self.dice;
        let [failed, lost_done, lost_undone, delayed] =
            [failed, lost_done, lost_undone, delayed].map(|count| count.load(Ordering::Relaxed));
        Counts { failed, lost_done, lost_undone, delayed }
    }

    /// Fails, by chance, before anything is sent.
    fn may_fail(&self) -> Result<()> {
        if self.dice.happens(self.failures) {
            count(&self.dice.failed);
            return Err(Error::new(ErrorKind::Unavailable, "the layer `Chaos` sent nothing"));
        }
        Ok(())
    }

    fn loses_answer(&self) -> bool {
        self.dice.happens(self.lost_answers)
    }

    /// Holds back, by chance, until the deadline at most.
    async fn may_wait(&self, deadline: Deadline) -> Result<()> {
        if !self.dice.happens(self.delays) {
            return Ok(());
        }
        count(&self.dice.delayed);
        let pause = self.longest.mul_f64(self.dice.roll());
        let waited = deadline.limit(delay::wait(pause)).await;
        waited.ok_or_else(|| {
            let why = format!("the layer `Chaos` sent nothing within {deadline}");
            Error::new(ErrorKind::Timeout, why)
        })
    }

    /// Makes a call that writes nothing.
    async fn read<T>(&self, deadline: Deadline, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.may_fail()?;
        self.may_wait(deadline).await?;
        call.await
    }

    /// Makes a call that writes.
    async fn write<T>(&self, deadline: Deadline, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.may_fail()?;
        self.may_wait(deadline).await?;
        let is_lost = self.loses_answer();
        if is_lost && self.dice.roll() < 0.5 {
            count(&self.dice.lost_undone);
            return Err(lost());
        }
        let answer = call.await;
        if is_lost {
            count(&self.dice.lost_done);
            return Err(lost());
        }
        // An answer that is late by more than the call has time for is given all the same: what
        // has cut the call off by then knows less.
        let _ = self.may_wait(deadline).await;
        answer
    }
}

#[cold]
fn lost() -> Error {
    let why = "the layer `Chaos` lost the answer; the write may or may not have happened";
    Error::new(ErrorKind::OutcomeUnknown, why)
}

impl Layer for Chaos {
    fn layer(&self, inner: Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(Chaotic { inner, chaos: self.clone() })
    }
}

#[derive(Debug)]
struct Chaotic {
    inner: Arc<dyn Store>,
    chaos: Chaos,
}

impl Chaotic {
    fn below(&self) -> &dyn Store {
        self.inner.as_ref()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Chaotic {
    fn capabilities(&self) -> &Capabilities {
        self.below().capabilities()
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        self.chaos.read(options.deadline, self.below().get(key, options)).await
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        self.chaos.write(options.deadline, self.below().put(key, value, expect, options)).await
    }

    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        self.chaos.write(options.deadline, self.below().delete(key, expect, options)).await
    }

    async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        self.chaos.read(options.read.deadline, self.below().list(directory, from, options)).await
    }

    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        let changes = self.below().watch(target, options).await?;
        if self.chaos.delays <= 0.0 {
            return Ok(changes);
        }
        let chaos = self.chaos.clone();
        Ok(delay::held_back(changes, chaos))
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
        self.chaos.read(options.deadline, self.below().get_many(keys, options)).await
    }

    async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool> {
        self.chaos.read(options.deadline, self.below().exists(key, options)).await
    }

    async fn delete_tree(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &WriteOptions,
    ) -> Result<Batch> {
        self.chaos.write(options.deadline, self.below().delete_tree(directory, from, options)).await
    }

    async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
        self.chaos.write(options.deadline, self.below().transact(transaction, options)).await
    }

    async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        self.chaos.write(options.deadline, self.below().lease(ttl, options)).await
    }

    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        self.chaos.may_fail()?;
        let is_lost = self.chaos.loses_answer();
        let acquired = self.below().lock(name, options).await?;
        if is_lost {
            count(&self.chaos.dice.lost_done);
            // Dropped, it is given back.
            drop(acquired);
            let why = "the layer `Chaos` lost the answer; the lock is given back in the background";
            return Err(Error::new(ErrorKind::Timeout, why));
        }
        Ok(acquired)
    }

    async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
        self.chaos.read(options.deadline, self.below().lock_holder(name, options)).await
    }

    async fn locks(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ReadOptions,
    ) -> Result<LockPage> {
        self.chaos.read(options.deadline, self.below().locks(directory, from, options)).await
    }

    async fn set_holder(
        &self,
        name: &Key,
        fence: &Fence,
        value: Bytes,
        options: &WriteOptions,
    ) -> Result<bool> {
        self.chaos.write(options.deadline, self.below().set_holder(name, fence, value, options)).await
    }

    async fn break_lock(&self, name: &Key, token: u64, options: &WriteOptions) -> Result<bool> {
        self.chaos.write(options.deadline, self.below().break_lock(name, token, options)).await
    }

    async fn adopt(&self, directory: &Directory, options: &WriteOptions) -> Result<u64> {
        self.chaos.write(options.deadline, self.below().adopt(directory, options)).await
    }

    async fn health(&self, options: &ReadOptions) -> Result<Health> {
        self.chaos.read(options.deadline, self.below().health(options)).await
    }

    fn describe(&self) -> String {
        let Chaos { failures, lost_answers, delays, .. } = self.chaos;
        format!("Chaos(failures: {failures}, lost_answers: {lost_answers}, delays: {delays})")
    }

    fn inner(&self) -> Option<&dyn Store> {
        Some(self.below())
    }

    async fn close(&self) -> Result<()> {
        self.below().close().await
    }
}
