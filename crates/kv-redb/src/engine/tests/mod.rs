//! Deadlines of writes, and lives of leases and locks, with a writer that a test can hold.

mod crowds;
mod here;
mod kept;
mod moments;
mod queued;
mod standing;
mod trees;
mod unpolled;

use super::{Asked, Batch, Client, Done, Engine, Lives};
use crate::config::Config;
use kv_core::{
    Bytes, ErrorKind, Kv, Result, Version,
    backend::Clock,
    driver::{Deadline, Expect},
};
use queued::Standing;
use std::{sync::Arc, sync::mpsc, time::Duration};

/// A store whose time moves as it is told, and a client of its file's engine.
struct Opened {
    client: Client,
    kv: Kv,
    clock: Clock,
    folder: tempfile::TempDir,
}

impl Opened {
    async fn job<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Batch<'_>) -> Done<T> + Send + 'static,
    ) -> Result<T> {
        self.client.engine()?.write(Deadline::after(LONG), 0, work).await
    }

    async fn acquire(&self, name: &str, id: u64) -> Result<Asked> {
        let name = Arc::from(name);
        self.job(move |batch| batch.acquire(&name, id, TEN, Bytes::new(), true)).await
    }
}

async fn opened() -> Result<Opened> {
    opened_in(tempfile::tempdir().expect("a folder")).await
}

async fn opened_in(folder: tempfile::TempDir) -> Result<Opened> {
    let clock = Clock::manual();
    let config = Config::new(folder.path().join("a.redb")).clock(clock.clone());
    let client = super::open(config.options()).await?;
    Ok(Opened { client, kv: config.open().await?, clock, folder })
}

async fn put(engine: Arc<Engine>, name: &'static str, within: Duration) -> Result<Version> {
    let put = move |batch: &mut Batch<'_>| batch.put(name, "v".into(), Expect::Anything, Lives::Always);
    engine.write(Deadline::after(within), 1, put).await
}

/// Has the writer stand still in a job until the sender is dropped. Nobody waits for the job's end, and
/// the writer drops the answer.
async fn held<T: Send + 'static>(engine: &Engine, answer: T) -> mpsc::Sender<()> {
    let (go_on, wait) = mpsc::channel();
    let held = engine.write(Deadline::after(TTL), 0, move |_| {
        let _ = wait.recv();
        Ok(Ok(answer))
    });
    assert_eq!(held.await.err().expect("it is held").kind(), ErrorKind::OutcomeUnknown);
    go_on
}

/// An answer that nobody takes, and whose end is a panic.
struct Panics;

impl Drop for Panics {
    fn drop(&mut self) {
        panic!("nobody took it");
    }
}

#[tokio::test]
async fn a_writer_that_panics_frees_its_file() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let options = || Config::new(folder.path().join("a.redb")).options();
    let client = super::open(options()).await?;
    let engine = client.engine()?.clone();
    put(engine.clone(), "first", LONG).await?;
    drop(held(&engine, Panics).await);
    let mut gone = engine.gone.subscribe();
    let ended = Deadline::after(LONG).limit(gone.wait_for(|gone| *gone)).await;
    assert!(ended.is_some_and(|ended| ended.is_ok()), "the writer's end is told");
    let e = put(engine.clone(), "second", LONG).await.expect_err("nobody writes");
    assert!(e.kind() == ErrorKind::Other && e.to_string().contains("has panicked"), "{e}");
    let again = super::open(options()).await?;
    // Whoever had it open before closes nothing of it.
    assert!(client.close().is_none());
    put(again.engine()?.clone(), "third", LONG).await?;
    Ok(())
}

#[tokio::test]
async fn a_write_whose_deadline_passes_in_the_queue_is_never_done() -> Result<()> {
    const SHORT: Duration = Duration::from_millis(20);
    let folder = tempfile::tempdir().expect("a folder");
    let client = super::open(Config::new(folder.path().join("a.redb")).options()).await?;
    let engine = client.engine()?.clone();
    // After this put the writer's thread has begun.
    put(engine.clone(), "first", LONG).await?;
    // The writer has this job, and stands still in it.
    let go_on = held(&engine, ()).await;
    // These wait behind it: one until its deadline, one until its caller leaves, one for as long
    // as it takes.
    let late = put(engine.clone(), "late", SHORT).await.expect_err("the writer is held");
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
    let left = tokio::time::timeout(SHORT, put(engine.clone(), "left", Duration::from_secs(60))).await;
    assert!(left.is_err());
    let patient = tokio::spawn(put(engine.clone(), "patient", Duration::from_secs(60)));
    drop(go_on);
    patient.await.expect("no panic")?;
    let there = |name: &'static str| {
        let key = kv_core::Key::parse(name);
        let engine = engine.clone();
        async move {
            let key = key?;
            engine.read(Deadline::after(Duration::from_secs(60)), move |s| s.exists("", &key)).await
        }
    };
    assert!(there("patient").await?);
    assert!(!there("late").await? && !there("left").await?);
    Ok(())
}

const LONG: Duration = Duration::from_secs(60);
const TTL: Duration = Duration::from_secs(4);
const TEN: Duration = Duration::from_secs(10);

#[tokio::test]
async fn leases_and_locks_are_renewed_while_a_commit_takes_longer_than_they_live() -> Result<()> {
    let store = opened().await?;
    let kv = &store.kv;
    let lease = kv.lease(TTL).await?;
    kv.put("k", "v").lease(&lease).await?;
    let guard = kv.new_lock("l").ttl(TTL).acquire().await?;
    let standing = store.stand(0).await?;
    for _ in 0..9 {
        store.clock.advance(TTL / 3);
        let renewed = async {
            while lease.remaining().min(guard.remaining()) < TTL * 3 / 4 {
                assert!(lease.is_held() && guard.is_held());
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, renewed).await.expect("both are renewed");
    }
    standing.end().await?;
    // The ends that were due meanwhile come with the next batch.
    kv.put("other", "v").await?;
    assert!(kv.exists("k").await? && kv.lock_holder("l").await?.is_some());
    assert!(guard.release().await? && lease.revoke().await?);
    kv.close().await
}

#[tokio::test]
async fn keys_of_a_lease_that_expired_are_gone_while_their_removal_waits_for_the_disk() -> Result<()> {
    let store = opened().await?;
    let kv = &store.kv;
    // The lease is of a client that is gone without a word: nobody renews it.
    let lease = store.client.engine()?.next_id();
    store.job(move |batch| batch.grant_lease(lease, TTL).map(Ok)).await?;
    store.job(move |batch| batch.put("k", "v".into(), Expect::Anything, Lives::Under(lease))).await?;
    let standing = store.stand(0).await?;
    assert!(kv.exists("k").await?);
    store.clock.advance(TTL * 3 / 2);
    assert!(!kv.exists("k").await? && kv.get("k").await?.is_none() && kv.list("").await?.is_empty());
    standing.end().await?;
    assert!(!kv.exists("k").await?);
    kv.close().await
}

#[tokio::test]
async fn a_lease_or_lock_lives_from_its_commit_on() -> Result<()> {
    let store = opened().await?;
    let kv = &store.kv;
    // While the first job is done the others queue, and are one batch.
    let first = store.stand(0).await?;
    let lease = tokio::spawn(kv.lease(TTL).deadline(LONG).into_future());
    let lock = tokio::spawn(kv.new_lock("l").ttl(TTL).deadline(LONG).acquire());
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    let mut last = Standing::new(store.client.engine()?, 0);
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    first.end().await?;
    last.begun().await;
    store.clock.advance(TTL * 2);
    last.end().await?;
    let (lease, guard) = (lease.await.expect("no panic")?, lock.await.expect("no panic")?);
    assert!(lease.is_held() && guard.is_held());
    kv.put("k", "v").lease(&lease).await?;
    assert!(guard.release().await? && lease.revoke().await?);
    kv.close().await
}
