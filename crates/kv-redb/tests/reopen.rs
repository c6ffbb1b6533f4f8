//! State that survives closing and opening: versions, expiry, leases, lock tokens.

use kv_core::{
    Kv, Result,
    backend::Clock,
    driver::{Deadline, LeaseOptions, Store},
};
use kv_redb::Config;
use std::{
    env, fs,
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
const MINUTE: Duration = Duration::from_secs(60);

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

/// Whoever saw what the file has lost holds versions and tokens of it.
#[tokio::test]
async fn a_file_that_is_put_back_from_a_copy_gives_nothing_out_twice() -> Result<()> {
    let (folder, file) = folder();
    let copy = folder.path().join("copy");
    Config::new(&file).open().await?.close().await?;
    for round in 0..3 {
        let kv = Config::new(&file).open().await?;
        kv.put("a", "before").await?;
        kv.close().await?;
        fs::copy(&file, &copy).unwrap();
        let kv = Config::new(&file).open().await?;
        let lost = kv.put("a", "lost").await?.version;
        let guard = kv.new_lock("lock").acquire().await?;
        kv.close().await?;
        if round == 2 {
            // The file is made anew.
            fs::remove_file(&file).unwrap();
        } else {
            fs::copy(&copy, &file).unwrap();
        }
        let kv = Config::new(&file).open().await?;
        let version = kv.put("a", "other").await?.version;
        assert!(version > lost, "{version} behind {lost}");
        assert!(kv.put("a", "stale").if_version(lost).await.unwrap_err().is_conflict());
        let again = kv.new_lock("lock").acquire().await?;
        assert!(again.token() > guard.token(), "{} behind {}", again.token(), guard.token());
        kv.close().await?;
    }
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

/// Takes locks and leases, and ends without giving them back, killed or by leaving `main`; a test
/// starts it as a process.
#[tokio::test]
#[ignore = "started by another test, as a process of its own"]
async fn the_holder_that_ends() -> Result<()> {
    let Ok(file) = env::var("KV_REDB_TEST_FILE") else { return Ok(()) };
    let kv = Config::new(file).open().await?;
    let lease = kv.lease(MINUTE).await?;
    kv.put("leased", "1").lease(&lease).await?;
    kv.put("freed", "1").lease(&lease).await?;
    kv.put("freed", "2").await?;
    kv.put("expiring", "1").ttl(MINUTE).await?;
    let guard = kv.new_lock("lock").ttl(MINUTE).value("the dead").acquire().await?;
    kv.put("token", guard.token().to_string()).await?;
    if env::var("KV_REDB_TEST_END").unwrap() == "killed" {
        std::process::abort()
    }
    Ok(())
}

fn holder_that_is(end: &str, file: &Path) {
    let mut run = Command::new(env::current_exe().unwrap());
    run.args(["--exact", "the_holder_that_ends", "--include-ignored"]);
    run.env("KV_REDB_TEST_FILE", file).env("KV_REDB_TEST_END", end);
    let output = run.output().unwrap();
    assert_eq!(output.status.success(), end == "at the end of main", "{output:?}");
}

async fn token(kv: &Kv) -> Result<u64> {
    Ok(kv.get("token").await?.unwrap().text().unwrap().parse().unwrap())
}

/// A file is for one process at a time: whoever opens it knows that the one before is gone.
#[tokio::test]
async fn locks_and_leases_of_an_earlier_process_are_over_when_the_file_is_opened() -> Result<()> {
    for end in ["killed", "at the end of main"] {
        let (_folder, file) = folder();
        holder_that_is(end, &file);
        let kv = Config::new(&file).open().await?;
        assert_eq!(kv.lock_holder("lock").await?, None, "{end}");
        assert!(!kv.exists("leased").await? && kv.get("leased").await?.is_none());
        let mut watch = kv.watch_tree("").await?;
        let mut there = Vec::new();
        while let Some(key) = watch.event().await?.key() {
            there.push(key.to_string());
        }
        assert_eq!(there, ["expiring", "freed", "token"], "{end}");
        let guard = kv.new_lock("lock").ttl(MINUTE).try_acquire().await?.expect("it is free");
        assert!(guard.token() > token(&kv).await?, "{end}");
        kv.put("leased", "anew").if_missing().await?;
        kv.close().await?;
    }
    Ok(())
}

/// The writer is a thread: what is dropped is given back, also when no runtime is left to do it.
#[test]
fn what_is_dropped_outside_of_its_runtime_is_given_back() {
    let (_folder, file) = folder();
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (one, two) = (runtime(), runtime());
    let other = two.block_on(Config::new(&file).open()).unwrap();
    let held = one.block_on(async {
        let kv = Config::new(&file).open().await.unwrap();
        let lease = kv.lease(MINUTE).await.unwrap();
        kv.put("leased", "1").lease(&lease).await.unwrap();
        (kv.new_lock("lock").ttl(MINUTE).acquire().await.unwrap(), lease)
    });
    let waits = two.spawn(other.new_lock("lock").acquire());
    let (synced, is_synced) = tokio::sync::oneshot::channel();
    let gone = two.spawn({
        let other = other.clone();
        async move {
            let mut watch = other.watch("leased").await.unwrap();
            while watch.event().await.unwrap() != kv_core::WatchEvent::Synced {}
            synced.send(()).unwrap();
            while !matches!(watch.event().await.unwrap(), kv_core::WatchEvent::Delete { .. }) {}
        }
    });
    two.block_on(is_synced).unwrap();
    drop(one);
    drop(held);
    two.block_on(async {
        let _guard = tokio::time::timeout(SECOND * 10, waits).await.expect("soon").unwrap().unwrap();
        tokio::time::timeout(SECOND * 10, gone).await.expect("soon").unwrap();
        other.close().await.unwrap();
    });
}

/// Locks belong to the store that made them, whatever the prefixes have in common.
#[tokio::test]
async fn locks_of_stores_within_each_other_are_apart() -> Result<()> {
    let (_folder, file) = folder();
    let root = Config::new(&file).open().await?;
    let inner = Config::new(&file).prefix("in").open().await?;
    let raw = Config::new(&file).raw_prefix("in/l").open().await?;
    let mut holders = root.lock_holder("in/lock").watch().await?;
    assert_eq!(holders.event().await?, kv_core::WatchEvent::Synced);
    let guard = inner.new_lock("lock").acquire().await?;
    assert_eq!(root.lock_holder("in/lock").await?, None);
    let theirs = root.new_lock("in/lock").try_acquire().await?.expect("another lock");
    assert!(holders.event().await?.key().is_some_and(|name| name.as_str() == "in/lock"));
    let third = raw.new_lock("ock").try_acquire().await?.expect("a third one");
    assert_eq!(root.delete_tree("").await?, Some(0));
    assert!(guard.is_held() && theirs.is_held() && third.is_held());
    let _ = root.put("k", "").fenced(&guard).await.expect_err("a proof of another store's lock");
    inner.put("k", "").fenced(&guard).await?;
    Ok(())
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
    let store = Config::new(&file).build().await?;
    let options = LeaseOptions::default().deadline(Deadline::after(SECOND));
    let leased = store.lease(SECOND, &options).await?;
    assert!(leased.alive.is_held());
    assert!(leased.revoke.run().await?);
    assert!(format!("{store:?}").contains("a.redb"));
    store.close().await?;
    assert_eq!(store.stats().unwrap_err().kind(), kv_core::ErrorKind::Closed);
    Ok(())
}
