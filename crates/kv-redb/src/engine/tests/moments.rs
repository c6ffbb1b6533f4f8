//! A read judges leases and locks as they were at its moment, whatever ends while it is under way.

use super::{LONG, Opened, TEN, opened};
use crate::engine::{Asked, Lives, Reading, Snapshot};
use kv_core::{
    Directory, Entry, Item, Key, Lease, Result,
    driver::{Deadline, Expect, ListOptions},
};
use std::sync::{Arc, Mutex, mpsc};
use tokio::task::JoinHandle;

const LOCK: &str = "l\0";

/// A read that has its snapshot, and stands still before it looks.
struct Begun<T> {
    go: mpsc::Sender<()>,
    read: JoinHandle<Result<T>>,
}

impl<T> Begun<T> {
    async fn end(self) -> Result<T> {
        self.go.send(()).expect("it waits");
        self.read.await.expect("no panic")
    }
}

impl Opened {
    async fn begin<T: Send + 'static>(
        &self,
        look: impl Fn(&Snapshot<'_>) -> std::result::Result<T, Reading> + Send + Sync + 'static,
    ) -> Result<Begun<T>> {
        let engine = self.client.engine()?.clone();
        let (go, wait) = mpsc::channel();
        let (begins, mut begun) = tokio::sync::mpsc::unbounded_channel();
        let wait = Arc::new(Mutex::new(wait));
        let read = tokio::spawn(async move {
            let stands = move |snapshot: &Snapshot<'_>| {
                let _ = begins.send(());
                let _ = wait.lock().expect("no panic").recv();
                look(snapshot)
            };
            engine.read_aside(Deadline::after(LONG), stands).await
        });
        begun.recv().await.expect("it begins");
        Ok(Begun { go, read })
    }

    /// Begins a read of `k`: the values that `get` and `list` find, and whether `exists` finds it.
    async fn reads_of_k(&self) -> Result<Begun<(Option<String>, Vec<String>, bool)>> {
        let key = Key::parse("k")?;
        self.begin(move |s| {
            let text = |entry: &Entry| entry.text().expect("it is text").to_owned();
            let one = s.get("", &key)?.as_ref().map(text);
            let page = s.list("", &Directory::root(), None, &ListOptions::default())?;
            let all = page.items.iter().map(|item| match item {
                Item::Entry(entry) => text(entry),
                other => panic!("{other:?}"),
            });
            Ok((one, all.collect(), s.exists("", &key)?))
        })
        .await
    }

    async fn holder(&self) -> Result<Begun<Option<u64>>> {
        self.begin(move |s| Ok(s.holder(LOCK)?.map(|holder| holder.token))).await
    }

    async fn release(&self, id: u64) -> Result<bool> {
        self.job(move |batch| batch.release(&LOCK.into(), id)).await
    }

    async fn leased(&self) -> Result<Lease> {
        let lease = self.kv.lease(TEN).await?;
        self.kv.put("k", "before").lease(&lease).await?;
        Ok(lease)
    }
}

fn there(value: &str) -> (Option<String>, Vec<String>, bool) {
    (Some(value.into()), vec![value.into()], true)
}

#[tokio::test]
async fn a_key_that_moves_off_a_lease_that_is_then_revoked_is_never_missing() -> Result<()> {
    let store = opened().await?;
    let (old, new) = (store.leased().await?, store.kv.lease(TEN).await?);
    let read = store.reads_of_k().await?;
    store.kv.put("k", "after").lease(&new).await?;
    assert!(old.revoke().await?);
    assert_eq!(read.end().await?, there("before"));
    // Now the key leaves its lease for good, in the commit that revokes the lease.
    let read = store.reads_of_k().await?;
    let (put, revoked) = tokio::join!(async { store.kv.put("k", "for good").await }, new.revoke());
    assert!(put.is_ok() && revoked?);
    assert_eq!(read.end().await?, there("after"));
    // A read that begins behind the revocation sees it.
    let lease = store.leased().await?;
    assert!(lease.revoke().await?);
    assert_eq!(store.reads_of_k().await?.end().await?, (None, Vec::new(), false));
    store.kv.close().await
}

#[tokio::test]
async fn a_key_that_moves_off_a_lease_whose_time_then_passes_is_never_missing() -> Result<()> {
    let store = opened().await?;
    let engine = store.client.engine()?.clone();
    // The lease is of a client that is gone without a word: nobody renews it.
    let lease = engine.next_id();
    store.job(move |batch| batch.grant_lease(lease, TEN).map(Ok)).await?;
    let lives = Lives::Under(lease);
    store.job(move |batch| batch.put("k", "before".into(), Expect::Anything, lives)).await?;
    let read = store.reads_of_k().await?;
    store.kv.put("k", "after").await?;
    store.clock.advance(TEN);
    store.kv.put("other", "which ends it").await?;
    assert!(engine.renew_lease(lease).is_err());
    assert_eq!(read.end().await?, there("before"));
    store.kv.close().await
}

#[tokio::test]
async fn a_lock_that_goes_from_one_to_the_next_is_never_free() -> Result<()> {
    let store = opened().await?;
    let Asked::Granted(first) = store.acquire(LOCK, 1).await? else { panic!("it is free") };
    let Asked::InLine(turn) = store.acquire(LOCK, 2).await? else { panic!("it is held") };
    let read = store.holder().await?;
    assert!(store.release(1).await?);
    let second = turn.await.expect("it is granted")?;
    store.kv.put("other", "a later commit").await?;
    assert_eq!(read.end().await?, Some(first));
    assert_eq!(store.holder().await?.end().await?, Some(second));
    // The same holds when the lock is free from then on, and when its time passes.
    let read = store.holder().await?;
    assert!(store.release(2).await?);
    assert_eq!(read.end().await?, Some(second));
    assert_eq!(store.holder().await?.end().await?, None);
    let Asked::Granted(third) = store.acquire(LOCK, 3).await? else { panic!("it is free") };
    let read = store.holder().await?;
    store.clock.advance(TEN);
    assert_eq!(store.holder().await?.end().await?, None);
    store.kv.put("other", "which ends it").await?;
    assert_eq!(read.end().await?, Some(third));
    store.kv.close().await
}
