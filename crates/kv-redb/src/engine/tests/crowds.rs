//! Many keys, leases or locks that end together: calls meanwhile do not wait until all of them are
//! cleared away.

use super::{LONG, Opened, TEN, opened, opened_in};
use crate::{
    Stats,
    engine::{
        Asked, Batch, Engine, Lives,
        format::{LEASED, LEASES},
    },
};
use futures::StreamExt;
use kv_core::{Bytes, ErrorKind, Key, Result, Watch, WatchEvent, driver::Expect};
use redb::{Database, ReadableDatabase, ReadableTableMetadata};
use std::{
    collections::BTreeSet,
    sync::{Arc, mpsc},
};
use tempfile::TempDir;

const MANY: u64 = 20_000;
/// The most commits that may be done meanwhile, of the twenty that clear them away.
const FEW: u64 = 10;

impl Opened {
    async fn put_many(&self, lives: Lives) -> Result<()> {
        self.job(move |batch| {
            for n in 0..MANY {
                if let Err(e) = batch.put(&format!("many/{n}"), Bytes::new(), Expect::Anything, lives)? {
                    return Ok(Err(e));
                }
            }
            Ok(Ok(()))
        })
        .await
    }

    /// Grants a lease that nobody renews, with many keys.
    async fn lease_of_many(&self) -> Result<u64> {
        let lease = self.client.engine()?.next_id();
        self.job(move |batch| batch.grant_lease(lease, TEN).map(Ok)).await?;
        self.put_many(Lives::Under(lease)).await?;
        Ok(lease)
    }

    /// Closes all clients; returns the engine and the folder.
    async fn close(self) -> Result<(Arc<Engine>, TempDir)> {
        let engine = self.client.engine()?.clone();
        self.client.close();
        self.kv.close().await?;
        Ok((engine, self.folder))
    }

    fn stats(&self) -> Result<Stats> {
        self.client.engine().map(|engine| engine.stats())
    }

    fn commits(&self) -> Result<u64> {
        self.stats().map(|stats| stats.commits)
    }

    fn clears_a_few_in_each(&self, before: Stats) -> Result<()> {
        let Stats { commits, writes, .. } = self.stats()?;
        let (commits, writes) = (commits - before.commits, writes - before.writes);
        assert!(writes < commits * MANY / FEW, "{writes} writes in {commits} commits");
        Ok(())
    }

    /// Checks that nothing is seen of the many keys while they are cleared away, and that nobody
    /// waits for that.
    async fn is_served(&self) -> Result<()> {
        let before = self.commits()?;
        self.kv.put("other", "v").await?;
        let waited = self.commits()? - before;
        assert!(waited < FEW, "a put waited for {waited} commits");
        assert!(!self.kv.exists(last()).await? && self.kv.list("many").await?.is_empty());
        self.kv.put(last(), "anew").if_missing().await?;
        assert_eq!(self.kv.list("many").await?.len(), 1);
        Ok(())
    }
}

fn last() -> String {
    format!("many/{}", MANY - 1)
}

/// Returns a watch of the many keys that has seen them all.
async fn watched(store: &Opened) -> Result<(Watch, BTreeSet<Key>)> {
    let (mut watch, mut there) = (store.kv.watch_tree("many").await?, BTreeSet::new());
    while let WatchEvent::Put(entry) = next(&mut watch).await? {
        there.insert(entry.key);
    }
    assert_eq!(there.len() as u64, MANY);
    Ok((watch, there))
}

/// Waits until some of them are cleared away.
async fn begins(watch: &mut Watch, there: &mut BTreeSet<Key>) -> Result<()> {
    match next(watch).await? {
        WatchEvent::Delete { key, .. } => assert!(there.remove(&key)),
        other => panic!("{other:?}"),
    }
    Ok(())
}

async fn next(watch: &mut Watch) -> Result<WatchEvent> {
    tokio::time::timeout(LONG, watch.next()).await.expect("an event in time").expect("it goes on")
}

/// Checks that the watch is told the end of each key, and the one that is put anew.
async fn hears_of_all(mut watch: Watch, mut there: BTreeSet<Key>) -> Result<()> {
    while there.len() > 1 {
        match next(&mut watch).await? {
            WatchEvent::Delete { key, .. } => drop(there.remove(&key)),
            WatchEvent::Put(entry) => drop(there.insert(entry.key)),
            _ => {}
        }
    }
    assert_eq!(there.first().map(Key::as_str), Some(&*last()));
    Ok(())
}

#[tokio::test]
async fn no_caller_waits_until_all_keys_that_expired_are_cleared_away() -> Result<()> {
    let store = opened().await?;
    store.put_many(Lives::For(TEN)).await?;
    let (mut watch, mut there) = watched(&store).await?;
    store.clock.advance(TEN * 2);
    begins(&mut watch, &mut there).await?;
    store.is_served().await?;
    hears_of_all(watch, there).await?;
    store.kv.close().await
}

#[tokio::test]
async fn no_caller_waits_until_all_keys_of_a_lease_that_ended_are_cleared_away() -> Result<()> {
    let store = opened().await?;
    let Asked::Granted(_) = store.acquire("l\0", 1).await? else { panic!("it is free") };
    let Asked::InLine(turn) = store.acquire("l\0", 2).await? else { panic!("it is held") };
    store.lease_of_many().await?;
    let (mut watch, mut there) = watched(&store).await?;
    let before = store.stats()?;
    store.clock.advance(TEN * 2);
    begins(&mut watch, &mut there).await?;
    // The next contender got the lock with the first of them.
    turn.await.expect("it is granted")?;
    store.is_served().await?;
    store.clears_a_few_in_each(before)?;
    hears_of_all(watch, there).await?;
    store.kv.close().await
}

#[tokio::test]
async fn all_keys_of_a_lease_that_is_revoked_are_gone_at_once() -> Result<()> {
    let store = opened().await?;
    let lease = store.lease_of_many().await?;
    let (watch, there) = watched(&store).await?;
    let before = store.stats()?;
    assert!(store.job(move |batch| batch.revoke(lease)).await?);
    assert!(!store.job(move |batch| batch.revoke(lease)).await?);
    let lost = store.put_many(Lives::Under(lease)).await.expect_err("it is revoked");
    assert_eq!(lost.kind(), ErrorKind::LeaseLost);
    store.is_served().await?;
    store.clears_a_few_in_each(before)?;
    hears_of_all(watch, there).await?;
    store.kv.close().await
}

#[tokio::test]
async fn a_lease_with_many_keys_lives_on_when_its_revocation_fails() -> Result<()> {
    let store = opened().await?;
    let lease = store.lease_of_many().await?;
    // The writer is held until both are in its queue, so that they are one batch.
    let (go_on, wait) = mpsc::channel::<()>();
    let (begins, begun) = tokio::sync::oneshot::channel();
    let held = store.job(move |_| {
        let _ = begins.send(());
        let _ = wait.recv();
        Ok(Ok(()))
    });
    let then = async {
        begun.await.expect("it begins");
        tokio::join!(
            store.job(move |batch| batch.revoke(lease)),
            store.job(|_| Err::<Result<()>, _>(redb::Error::Io(std::io::Error::other("a disk")))),
            async { drop(go_on) },
        )
    };
    let (held, (revoked, failed, ())) = tokio::join!(held, then);
    held?;
    assert!(revoked.is_err() && failed.is_err());
    for _ in 0..3 {
        store.kv.put("other", "v").await?;
    }
    assert!(store.client.engine()?.renew_lease(lease).is_ok());
    assert_eq!(store.kv.list("many").await?.len() as u64, MANY);
    store.kv.close().await
}

#[tokio::test]
async fn closing_waits_for_no_crowd_and_opening_goes_on_with_it() -> Result<()> {
    let store = opened().await?;
    let lease = store.lease_of_many().await?;
    assert!(store.job(move |batch| batch.revoke(lease)).await?);
    let before = store.commits()?;
    let (engine, folder) = store.close().await?;
    assert!(engine.stats().commits - before < FEW);
    drop(engine);
    let store = opened_in(folder).await?;
    store.is_served().await?;
    // Each put clears some of them away, until there is nothing left.
    let mut last = MANY;
    while last > 1 {
        let before = store.stats()?.writes;
        store.kv.put("other", "v").await?;
        last = store.stats()?.writes - before;
    }
    let (engine, folder) = store.close().await?;
    drop(engine);
    let read = Database::open(folder.path().join("a.redb")).expect("it is closed").begin_read();
    let read = read.expect("a snapshot");
    assert_eq!(read.open_table(LEASED).expect("a table").len().expect("a length"), 0);
    assert_eq!(read.open_table(LEASES).expect("a table").len().expect("a length"), 0);
    Ok(())
}

#[tokio::test]
async fn a_lock_whose_time_is_over_is_free_before_its_end_is_written() -> Result<()> {
    let store = opened().await?;
    let name = |n: u64| Arc::<str>::from(format!("{n:05}\0"));
    let acquire = move |batch: &mut Batch<'_>, n| batch.acquire(&name(n), n, TEN, Bytes::new(), false);
    let granted = store.job(move |batch| {
        for n in 1..=MANY {
            if let Err(e) = acquire(batch, n)? {
                return Ok(Err(e));
            }
        }
        Ok(Ok(()))
    });
    granted.await?;
    // Nobody gave the locks back: the next process to open the file finds them all.
    let store = opened_in(store.close().await?.1).await?;
    let before = store.commits()?;
    assert!(!store.job(move |batch| batch.release(&name(MANY), MANY)).await?);
    assert!(matches!(store.job(move |batch| acquire(batch, MANY - 1)).await?, Asked::Granted(_)));
    assert!(store.commits()? - before < FEW);
    store.kv.close().await
}
