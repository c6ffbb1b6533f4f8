//! Updates: read, compute, compare-and-swap, and answers that are lost.

use super::{names, text};
use crate::{
    Ended, Failure, Trial, Verdict,
    check::{holds, refused, same},
};
use kv_core::{
    Bytes, Capabilities, Directory, Entry, Error, ErrorKind, Health, Holder, Key, Kv, Next, Result, Version,
    Written,
    driver::{
        Acquired, Batch, Cursor, Decision, Expect, Layer, LeaseOptions, Leased, ListOptions, LockOptions,
        Page, PutOptions, ReadOptions, Store, Target, Transaction, WatchOptions, WatchStream, WriteOptions,
        async_trait,
    },
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::task::JoinSet;

cases! {
    "update/answer": "an update creates, replaces, deletes or keeps the key as its function says, fails as the function does, and answers what was there and what it wrote" => answer,
    "update/counted": "of updates that many callers make at once none is lost" => counted,
    "update/options": "the TTL, the lease and the lock of an update are those of its put" => options,
    "update.exactly_once/counted": "so it is with a marker beside each, and no marker stays when the answers have come" => counted_once,
    "update.exactly_once/lost": "an update whose answers are lost is made once, whether the write was done, was not, or arrives later" => lost,
}

/// Counts up.
pub(super) fn count(found: Option<&Entry>) -> Result<String> {
    let number = found.and_then(Entry::text).unwrap_or("0").parse::<u64>();
    let number = number.map_err(|e| Error::new(ErrorKind::Corrupt, "no number").with_cause(e))?;
    Ok((number + 1).to_string())
}

/// Returns why no update can be made exactly once, after one was seen to be refused; `None` where
/// it can.
pub(super) async fn only_plain(t: &Trial, kv: &Kv) -> Result<Option<Ended>, Failure> {
    if t.capabilities().max_txn_ops >= 4 && t.capabilities().ttl.is_some() {
        return Ok(None);
    }
    let update = kv.update("refused", count).exactly_once().await;
    refused("an update exactly once", update, ErrorKind::Unsupported)?;
    same("the key of it", text(kv, "refused").await?, None)?;
    Ok(Some(Ended::Ignored("no transactions of four operations, or no TTLs".into())))
}

async fn version(kv: &Kv, key: &str) -> Result<Option<Version>> {
    Ok(kv.get(key).await?.map(|entry| entry.version))
}

async fn answer(t: Trial) -> Verdict {
    let (kv, other) = (t.open().await?, t.open().await?);
    let made = kv.update("d/n", count).await?;
    same("what was there before", made.before, None)?;
    same("the value of the answer", made.value, Some(Bytes::from("1")))?;
    same("its version", made.written.map(|w| w.version), version(&other, "d/n").await?)?;
    let there = other.put("d/n", "41").await?.version;
    let replaced = kv.update("d/n", count).await?;
    same("what was there", replaced.before.map(|entry| entry.version), Some(there))?;
    same("what is there", text(&other, "d/n").await?, Some("42".to_owned()))?;
    let there = version(&other, "d/n").await?;
    same("the version of the answer", replaced.written.map(|w| w.version), there)?;
    let kept = kv.update("d/n", |_| Ok(Next::Keep)).await?;
    same("the version of a key that is kept", version(&other, "d/n").await?, there)?;
    same("what was written", kept.written, None)?;
    same("the value that is kept", kept.value, Some(Bytes::from("42")))?;
    let deleted = kv.update("d/n", |_| Ok(Next::Delete)).await?;
    same("the value that is left", deleted.value, None)?;
    same("the key that was deleted", text(&other, "d/n").await?, None)?;
    let missing = kv.update("d/n", |_| Ok(Next::Delete)).await?;
    same("what was there then", missing.before, None)?;
    same("the listing", names(&other, "").await?, Vec::<String>::new())?;
    let there = other.put("d/n", "no number").await?.version;
    let failed =
        refused("an update of what is no number", kv.update("d/n", count).await, ErrorKind::Corrupt)?;
    same("the key of its error", failed.key(), Some("d/n"))?;
    let failed = kv.update("missing", |_| Err::<Next, _>(Error::new(ErrorKind::Other, "mine"))).await;
    same("what its function said", failed.map_err(|e| e.message().to_owned()), Err("mine".to_owned()))?;
    same("the version", version(&other, "d/n").await?, Some(there))?;
    same("the listing", names(&other, "").await?, ["d/n"])?;
    Ok(Ended::Kept)
}

const CALLERS: usize = 16;
const EACH: usize = 10;

/// Counts up to 160 by many callers over two clients.
async fn count_by_many(t: &Trial, exactly_once: bool) -> Result<[Kv; 2], Failure> {
    let clients = [t.open().await?, t.open().await?];
    let mut callers = JoinSet::new();
    for n in 0..CALLERS {
        // All write one key: the last ones wait long for their turn.
        let kv = clients[n % 2].clone().with_deadline(Duration::from_secs(60));
        callers.spawn(async move {
            for _ in 0..EACH {
                let update = kv.update("n", count);
                let update = if exactly_once { update.exactly_once() } else { update };
                update.await?;
            }
            Ok::<_, Error>(())
        });
    }
    let all = async {
        while let Some(done) = callers.join_next().await {
            done??;
        }
        Ok::<_, Failure>(())
    };
    t.within(Duration::from_secs(60), "160 updates of one key", all).await??;
    same("the count", text(&clients[0], "n").await?, Some((CALLERS * EACH).to_string()))?;
    Ok(clients)
}

async fn counted(t: Trial) -> Verdict {
    count_by_many(&t, false).await?;
    Ok(Ended::Kept)
}

async fn counted_once(t: Trial) -> Verdict {
    let kv = t.open().await?;
    if let Some(ended) = only_plain(&t, &kv).await? {
        return Ok(ended);
    }
    for client in count_by_many(&t, true).await? {
        client.close().await?;
    }
    same("the listing", names(&kv, "").await?, ["n"])?;
    Ok(Ended::Kept)
}

async fn options(t: Trial) -> Verdict {
    let (kv, other) = (t.open().await?, t.open().await?);
    let can = t.capabilities();
    let once = can.max_txn_ops >= 4 && can.ttl.is_some();
    let ways: &[bool] = if once { &[false, true] } else { &[false] };
    for &exactly_once in ways {
        let update = |key: &str| {
            let update = kv.update(key, count);
            if exactly_once { update.exactly_once() } else { update }
        };
        if let Some(range) = &can.ttl {
            let ttl = range.grant(Duration::from_secs(1).min(range.greatest))?;
            update("kept").ttl(ttl).await?;
            let permanent = update("kept").await?.written.and_then(|written| written.ttl);
            same("the TTL of an update without one", permanent, None)?;
            let granted = update("short").ttl(ttl).await?.written.and_then(|written| written.ttl);
            holds(format!("an update is granted the TTL {ttl:?}; found {granted:?}"), granted.is_some())?;
            let gone = ttl + range.lateness(ttl) + t.patience();
            t.until_within(gone, "the key to go", || async { Ok(other.get("short").await?.is_none()) })
                .await?;
            holds("a key that was updated without a TTL stays", other.exists("kept").await?)?;
        } else {
            let refusal = update("short").ttl(Duration::from_secs(20)).await;
            refused("an update with a TTL", refusal, ErrorKind::Unsupported)?;
        }
        if let Some(range) = &can.lease {
            let lease = kv.lease(range.greatest.min(Duration::from_secs(20))).await?;
            update("leased").lease(&lease).await?;
            holds("the lease was alive", lease.revoke().await?)?;
            same("the key of a lease that was revoked", text(&other, "leased").await?, None)?;
        }
        if can.lock.as_ref().is_some_and(|locking| locking.fenced_writes) {
            let guard = t.soon("a free lock", kv.new_lock("l").acquire()).await??;
            update("fenced").fenced(&guard).await?;
            let (there, fence) = (version(&other, "fenced").await?, guard.fence().clone());
            guard.release().await?;
            let late = update("fenced").fenced(&fence).await;
            refused("an update under a lock that was released", late, ErrorKind::LockLost)?;
            same("the key", version(&other, "fenced").await?, there)?;
        }
    }
    Ok(Ended::Kept)
}

/// The fate of a transaction whose answer is lost.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Done,
    NeverSent,
    /// It arrives when [`Plan::deliver`] is called.
    Late,
}

/// The key that the case about lost answers counts in.
const COUNTED: &str = "n";

/// The plan of a layer that loses the answers to transactions.
#[derive(Debug, Default)]
struct Plan {
    fates: Mutex<VecDeque<Fate>>,
    late: Mutex<Vec<Transaction>>,
    /// The value that another client puts when the next answer is lost.
    others: Mutex<Option<&'static str>>,
}

impl Plan {
    /// Has the next transactions meet these fates.
    fn add(&self, fates: &[Fate]) {
        lock(&self.fates).extend(fates);
    }

    /// Lets the transactions arrive that are late.
    async fn deliver(&self, kv: &Kv) -> Result<()> {
        let late = std::mem::take(&mut *lock(&self.late));
        for transaction in late {
            // The server decides about it, and nobody hears the answer.
            let _ = kv.store().as_ref().transact(transaction, &WriteOptions::default()).await?;
        }
        Ok(())
    }
}

/// A layer that follows a plan.
struct Loses(Arc<Plan>);

impl Layer for Loses {
    fn layer(&self, inner: Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(Lossy { inner, plan: self.0.clone() })
    }
}

#[derive(Debug)]
struct Lossy {
    inner: Arc<dyn Store>,
    plan: Arc<Plan>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Store for Lossy {
    fn capabilities(&self) -> &Capabilities {
        self.inner.as_ref().capabilities()
    }
    async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
        let key = transaction.writes.first().map(|write| write.key().clone());
        let fate = lock(&self.plan.fates).pop_front();
        match fate {
            None => return self.inner.as_ref().transact(transaction, options).await,
            Some(Fate::Done) => {
                let _ = self.inner.as_ref().transact(transaction, options).await?;
            }
            Some(Fate::NeverSent) => {}
            Some(Fate::Late) => {
                lock(&self.plan.late).push(transaction);
            }
        }
        let others = lock(&self.plan.others).take();
        if let (Some(key), Some(value)) = (key, others) {
            let options = PutOptions::default();
            self.inner.as_ref().put(&key, value.into(), Expect::Anything, &options).await?;
        }
        Err(Error::new(ErrorKind::OutcomeUnknown, "the case has lost the answer"))
    }
    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        self.inner.as_ref().get(key, options).await
    }
    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        self.inner.as_ref().put(key, value, expect, options).await
    }
    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        self.inner.as_ref().delete(key, expect, options).await
    }
    async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        self.inner.as_ref().list(directory, from, options).await
    }
    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        self.inner.as_ref().watch(target, options).await
    }
    async fn delete_tree(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &WriteOptions,
    ) -> Result<Batch> {
        self.inner.as_ref().delete_tree(directory, from, options).await
    }
    async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        self.inner.as_ref().lease(ttl, options).await
    }
    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        self.inner.as_ref().lock(name, options).await
    }
    async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
        self.inner.as_ref().lock_holder(name, options).await
    }
    async fn health(&self, options: &ReadOptions) -> Result<Health> {
        self.inner.as_ref().health(options).await
    }
    fn inner(&self) -> Option<&dyn Store> {
        Some(self.inner.as_ref())
    }
    async fn close(&self) -> Result<()> {
        self.inner.as_ref().close().await
    }
}

async fn lost(t: Trial) -> Verdict {
    use Fate::{Done, Late, NeverSent};
    let (kv, other) = (t.open().await?, t.open().await?);
    if let Some(ended) = only_plain(&t, &kv).await? {
        return Ok(ended);
    }
    let plan = Arc::new(Plan::default());
    let lossy = kv.clone().layer(Loses(plan.clone()));
    let all: [&[Fate]; 7] = [
        &[Done],
        &[NeverSent],
        &[Late],
        &[NeverSent, Done],
        &[Late, Done],
        &[Late, Late, NeverSent],
        &[Late, Late, Done],
    ];
    for (n, fates) in (1_u64..).zip(all) {
        plan.add(fates);
        let what = format!("an update whose answers are {fates:?}");
        let updated = t.soon(&what, lossy.update(COUNTED, count).exactly_once().into_future()).await??;
        same(format!("the value of {what}"), updated.text(), Some(n.to_string().as_str()))?;
        let there = other.get(COUNTED).await?.ok_or("the key is gone")?;
        same(format!("the count after {what}"), there.text(), Some(n.to_string().as_str()))?;
        plan.deliver(&kv).await?;
        let version = version(&other, COUNTED).await?;
        same(format!("the version, when all of {what} has arrived"), version, Some(there.version))?;
    }
    // A key that was missing can be missing again, when a late request to create it arrives.
    for fates in [&[Late][..], &[Late, Done]] {
        let what = format!("a creation whose answers are {fates:?}");
        other.delete(COUNTED).await?;
        plan.add(fates);
        t.soon(&what, lossy.update(COUNTED, count).exactly_once().into_future()).await??;
        holds(format!("{what} has happened"), other.delete(COUNTED).await?)?;
        plan.deliver(&kv).await?;
        same(format!("the key, when all of {what} has arrived"), text(&other, COUNTED).await?, None)?;
    }
    // Another client writes before the answer is looked for.
    for (fates, expected) in [(Done, "50"), (NeverSent, "51"), (Late, "51")].map(|(fate, n)| ([fate], n)) {
        let what = format!("an update whose answers are {fates:?}, behind which another client puts 50");
        other.put(COUNTED, "1").await?;
        plan.add(&fates);
        *lock(&plan.others) = Some("50");
        t.soon(&what, lossy.update(COUNTED, count).exactly_once().into_future()).await??;
        plan.deliver(&kv).await?;
        same(format!("the count after {what}"), text(&other, COUNTED).await?, Some(expected.to_owned()))?;
    }
    Ok(Ended::Kept)
}
