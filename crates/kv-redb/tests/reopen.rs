//! What survives closing and opening: versions, expiry, leases, lock tokens.

use kv_core::{Deadline, Kv, LeaseOptions, Result, Store, backend::Clock};
use kv_redb::{Config, Redb};
use std::{
    env,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use tempfile::TempDir;

fn folder() -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.redb");
    (folder, file)
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn versions_and_values() -> Result<()> {
    let (_folder, file) = folder();
    let kv = Config::new(&file).open().await?;
    let (a, b) = (kv.put("a", "1").await?.version, kv.put("b", "").await?.version);
    kv.close().await?;
    let kv = Config::new(&file).open().await?;
    let entry = kv.get("a").await?.unwrap();
    assert_eq!((entry.text(), entry.version), (Some("1"), a));
    assert_eq!(kv.get("b").await?.unwrap().version, b);
    assert!(kv.put("a", "2").if_version(a).await?.version > b);
    Ok(())
}

#[tokio::test]
async fn a_stale_version_never_matches_again() -> Result<()> {
    let (_folder, file) = folder();
    let mut stale = Vec::new();
    for _ in 0..4 {
        let kv = Config::new(&file).open().await?;
        stale.push(kv.put("a", "same").if_missing().await?.version);
        for version in &stale[..stale.len() - 1] {
            assert!(kv.put("a", "same").if_version(*version).await.unwrap_err().is_conflict());
            assert!(kv.atomic_delete("a", *version).await.unwrap_err().is_conflict());
        }
        assert!(kv.delete("a").await?);
        kv.close().await?;
    }
    assert!(stale.is_sorted_by(|a, b| a < b), "{stale:?}");
    Ok(())
}

#[tokio::test]
async fn expiry_goes_on_while_closed() -> Result<()> {
    let (_folder, file) = folder();
    let kv = Config::new(&file).open().await?;
    let put = Instant::now();
    kv.put("short", "1").ttl(SECOND).await?;
    kv.put("long", "1").ttl(SECOND * 3_600).await?;
    kv.put("made permanent", "1").ttl(SECOND).await?;
    kv.put("made permanent", "2").await?;
    kv.close().await?;
    let kv = Config::new(&file).open().await?;
    assert!(kv.exists("short").await? || put.elapsed() >= SECOND, "it went before its time");
    kv.close().await?;
    tokio::time::sleep(kv.capabilities().lateness(SECOND) + SECOND).await;
    let kv = Config::new(&file).open().await?;
    assert!(!kv.exists("short").await?);
    kv.put("short", "new").if_missing().await?;
    assert!(kv.exists("long").await? && kv.exists("made permanent").await?);
    kv.close().await
}

#[tokio::test]
async fn expiry_by_a_moved_clock() -> Result<()> {
    let (_folder, file) = folder();
    let clock = Clock::manual();
    let kv = Config::new(&file).clock(clock.clone()).open().await?;
    let mut watch = kv.watch("a").await?;
    assert_eq!(watch.event().await?.key(), None);
    let granted = kv.put("a", "1").ttl(SECOND * 60).await?.ttl.unwrap();
    assert!(watch.event().await?.key().is_some());
    clock.advance(granted);
    assert!(kv.exists("a").await?, "it went before its time");
    clock.advance(kv.capabilities().lateness(granted));
    assert!(!kv.exists("a").await?);
    assert!(kv.list("/").await?.is_empty());
    assert!(matches!(watch.event().await?, kv_core::WatchEvent::Delete { .. }));
    // Nothing of it is left to be deleted.
    assert!(!kv.delete("a").await?);
    kv.close().await
}

/// Started by a test: takes what a killed process leaves behind, and is killed with it.
#[tokio::test]
#[ignore = "started by another test, as a process of its own"]
async fn the_holder_that_is_killed() -> Result<()> {
    let Ok(file) = env::var("KV_REDB_TEST_FILE") else { return Ok(()) };
    let kv = Config::new(file).open().await?;
    let lease = kv.lease(SECOND * 2).await?;
    kv.put("leased", "1").lease(&lease).await?;
    let guard = kv.new_lock("lock").ttl(SECOND * 2).value("the dead").acquire().await?;
    kv.put("token", guard.token().to_string()).await?;
    std::process::abort()
}

fn killed_holder(file: &Path) {
    let mut run = Command::new(env::current_exe().unwrap());
    run.args(["--exact", "the_holder_that_is_killed", "--include-ignored"]).env("KV_REDB_TEST_FILE", file);
    assert!(!run.output().unwrap().status.success());
}

async fn token(kv: &Kv) -> Result<u64> {
    Ok(kv.get("token").await?.unwrap().text().unwrap().parse().unwrap())
}

#[tokio::test]
async fn locks_and_leases_of_a_killed_process_end_by_their_ttl() -> Result<()> {
    let (_folder, file) = folder();
    killed_holder(&file);
    let kv = Config::new(&file).open().await?;
    let opened = Instant::now();
    let dead = token(&kv).await?;
    let holder = kv.lock_holder("lock").await?.unwrap();
    assert_eq!((holder.token, &*holder.value), (dead, &b"the dead"[..]));
    assert!(kv.new_lock("lock").try_acquire().await?.is_none());
    assert!(kv.exists("leased").await?);
    let guard = kv.new_lock("lock").acquire().await?;
    let waited = opened.elapsed();
    let range = kv.capabilities().lock.clone().unwrap().ttl;
    assert!(waited > SECOND * 2 - SECOND / 20, "freed after {waited:?}");
    assert!(waited < SECOND * 2 + range.lateness(SECOND * 2) + SECOND / 2, "freed after {waited:?}");
    assert!(guard.token() > dead);
    // The lease is as old as the lock.
    let mut watch = kv.watch("leased").await?;
    while watch.event().await?.key().is_some() {}
    while kv.exists("leased").await? {
        assert!(matches!(watch.event().await?, kv_core::WatchEvent::Delete { .. }));
    }
    kv.close().await
}

#[tokio::test]
async fn what_is_closed_leaves_neither_lock_nor_lease() -> Result<()> {
    let (_folder, file) = folder();
    let mut last = 0;
    for _ in 0..3 {
        let kv = Config::new(&file).open().await?;
        assert!(!kv.exists("leased").await?);
        let lease = kv.lease(SECOND * 60).await?;
        kv.put("leased", "1").lease(&lease).await?;
        let guard = kv.new_lock("lock").ttl(SECOND * 60).try_acquire().await?.expect("it is free");
        assert!(guard.token() > last);
        last = guard.token();
        kv.close().await?;
        assert!(!guard.is_held() && !lease.is_held());
    }
    Ok(())
}

#[tokio::test]
async fn a_store_without_a_handle() -> Result<()> {
    let (_folder, file) = folder();
    let store = Redb::open(Config::new(&file)).await?;
    let options = LeaseOptions::default().deadline(Deadline::after(SECOND));
    let leased = store.lease(SECOND, &options).await?;
    assert!(leased.alive.is_held());
    assert!(leased.revoke.run().await?);
    assert!(format!("{store:?}").contains("a.redb"));
    store.close().await?;
    assert_eq!(store.stats().unwrap_err().kind(), kv_core::ErrorKind::Closed);
    Ok(())
}
