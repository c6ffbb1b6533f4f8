//! Whole flows on a clock that only the test moves: nothing here waits for time to pass.

use kv_core::{
    ErrorKind, Key, Kv, Version, WatchEvent,
    backend::Clock,
    driver::{Expect, LockOptions, PutOptions, Store},
};
use kv_memory::{Config, Memory};
use std::time::Duration;

const S: Duration = Duration::from_secs(1);

async fn on(clock: &Clock) -> (Memory, Kv) {
    let memory = Config::new().clock(clock.clone()).build().await.unwrap();
    (memory.clone(), Kv::new(memory))
}

/// Moves the clock in steps, between which everything is renewed, as in real time.
async fn pass(clock: &Clock, seconds: u32) {
    for _ in 0..seconds {
        clock.advance(S);
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_ttl_is_never_early_and_goes_on_the_moment() {
    let clock = Clock::manual();
    let (_, kv) = on(&clock).await;
    let written = kv.put("a", "1").ttl(Duration::from_micros(9_999_500)).await.unwrap();
    assert_eq!(written.ttl, Some(10 * S));
    clock.advance(10 * S - Duration::from_nanos(1));
    assert!(kv.exists("a").await.unwrap());
    clock.advance(Duration::from_nanos(1));
    assert!(kv.get("a").await.unwrap().is_none());
    assert!(!kv.exists("a").await.unwrap());
    assert_eq!(kv.get_many(["a"]).await.unwrap(), [None]);
    assert!(kv.list("").await.unwrap().is_empty());
    let gone = kv.put("a", "2").if_version(written.version).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::KeyModified);
    kv.put("a", "2").if_missing().await.unwrap();
}

#[tokio::test]
async fn a_put_replaces_the_ttl_and_the_lease() {
    let clock = Clock::manual();
    let (_, kv) = on(&clock).await;
    let lease = kv.lease(10 * S).await.unwrap();
    kv.put("kept", "").ttl(S).await.unwrap();
    kv.put("kept", "").await.unwrap();
    kv.put("anew", "").ttl(S).await.unwrap();
    kv.put("anew", "").ttl(3 * S).await.unwrap();
    kv.put("freed", "").lease(&lease).await.unwrap();
    kv.put("freed", "").await.unwrap();
    kv.put("leased", "").ttl(S).await.unwrap();
    kv.put("leased", "").lease(&lease).await.unwrap();
    clock.advance(2 * S);
    assert_eq!(kv.list("").await.unwrap().len(), 4);
    assert!(lease.revoke().await.unwrap());
    let left: Vec<_> = kv.list("").await.unwrap().into_iter().map(|e| e.key.to_string()).collect();
    assert_eq!(left, ["anew", "freed", "kept"]);
    clock.advance(S);
    assert!(!kv.exists("anew").await.unwrap());
}

#[tokio::test]
async fn an_idle_watch_sees_expiry() {
    let clock = Clock::manual();
    let (_, kv) = on(&clock).await;
    let mut watch = kv.watch_tree("d").await.unwrap();
    assert_eq!(watch.event().await.unwrap(), WatchEvent::Synced);
    let late = kv.put("d/late", "").ttl(20 * S).await.unwrap().version;
    let soon = kv.put("d/soon", "").ttl(10 * S).await.unwrap().version;
    for version in [late, soon] {
        assert!(matches!(watch.event().await.unwrap(), WatchEvent::Put(e) if e.version == version));
    }
    for (key, put) in [("d/soon", soon), ("d/late", late)] {
        clock.advance(10 * S);
        match watch.event().await.unwrap() {
            WatchEvent::Delete { key: gone, version } => assert!(gone.as_str() == key && version > put),
            other => panic!("expected the end of {key}, got {other:?}"),
        }
    }
}

/// The store outlives the runtime that served its expiry first.
#[test]
fn expiry_survives_the_end_of_a_runtime() {
    let clock = Clock::manual();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let (memory, _) = first.block_on(on(&clock));
    first.block_on(async { Kv::new(memory.clone()).put("a", "").ttl(S).await.unwrap() });
    runtime().block_on(async {
        let mut watch = Kv::new(memory).watch("a").await.unwrap();
        assert!(matches!(watch.event().await.unwrap(), WatchEvent::Put(_)));
        assert_eq!(watch.event().await.unwrap(), WatchEvent::Synced);
        first.shutdown_background();
        clock.advance(S);
        assert!(matches!(watch.event().await.unwrap(), WatchEvent::Delete { .. }));
    });
}

#[tokio::test]
async fn a_lease_is_kept_alive_and_ends_with_its_owner() {
    let clock = Clock::manual();
    let (memory, kv) = on(&clock).await;
    let lease = kv.lease(9 * S).await.unwrap();
    let version = kv.put("node", "up").lease(&lease).await.unwrap().version;
    pass(&clock, 60).await;
    assert!(lease.is_held());
    assert_eq!(kv.get("node").await.unwrap().unwrap().version, version);

    // The process was suspended for longer than the TTL: the lease is lost here, and in the store.
    clock.advance(9 * S);
    assert!(!lease.is_held());
    assert_eq!(lease.lost().await.kind(), ErrorKind::LeaseLost);
    assert!(!kv.exists("node").await.unwrap());
    let late = kv.put("node", "up").lease(&lease).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::LeaseLost);
    let late = kv.transact().then(kv.put("x", "")).then(kv.put("node", "").lease(&lease)).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::LeaseLost);
    assert!(!kv.exists("x").await.unwrap(), "all or nothing");
    assert!(!lease.revoke().await.unwrap());

    // A killed process: nobody renews, nobody revokes.
    let leased = memory.lease(9 * S, &Default::default()).await.unwrap();
    let options = PutOptions::default().lease(Some(leased.id.clone()));
    memory.put(&Key::parse("node").unwrap(), "up".into(), Expect::Anything, &options).await.unwrap();
    leased.revoke.forget();
    drop(leased.alive);
    pass(&clock, 8).await;
    assert!(kv.exists("node").await.unwrap());
    pass(&clock, 1).await;
    assert!(!kv.exists("node").await.unwrap());
}

#[tokio::test]
async fn a_lock_is_kept_alive_and_a_lost_one_goes_to_the_next() {
    let clock = Clock::manual();
    let (_, kv) = on(&clock).await;
    let first = kv.new_lock("l").ttl(9 * S).value("first").acquire().await.unwrap();
    let mut holders = kv.lock_holder("l").watch().await.unwrap();
    assert!(matches!(holders.event().await.unwrap(), WatchEvent::Put(e) if e.value == "first"));
    assert_eq!(holders.event().await.unwrap(), WatchEvent::Synced);
    let second = tokio::spawn(kv.new_lock("l").ttl(9 * S).value("second").acquire());
    pass(&clock, 60).await;
    assert!(first.is_held() && !second.is_finished());

    clock.advance(9 * S);
    assert!(!first.is_held());
    assert_eq!(first.lost().await.kind(), ErrorKind::LockLost);
    let second = second.await.unwrap().unwrap();
    assert!(second.is_held() && second.token() > first.token());
    match holders.event().await.unwrap() {
        WatchEvent::Put(e) => assert!(e.value == "second" && e.version == Version::new(second.token(), 0)),
        other => panic!("expected the second holder, got {other:?}"),
    }
    let stale = kv.put("k", "").fenced(&first).await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::LockLost);
    kv.put("k", "").fenced(&second).await.unwrap();
    assert!(!first.release().await.unwrap());
    assert!(second.release().await.unwrap());
    assert!(matches!(holders.event().await.unwrap(), WatchEvent::Delete { .. }));
}

#[tokio::test]
async fn a_killed_holders_lock_is_free_after_its_ttl() {
    let clock = Clock::manual();
    let (memory, kv) = on(&clock).await;
    let options = LockOptions::default().ttl(9 * S);
    let killed = memory.lock(&Key::parse("l").unwrap(), &options).await.unwrap().unwrap();
    killed.release.forget();
    drop(killed.alive);
    clock.advance(9 * S - Duration::from_millis(1));
    assert!(kv.new_lock("l").try_acquire().await.unwrap().is_none());
    clock.advance(Duration::from_millis(1));
    assert!(kv.new_lock("l").try_acquire().await.unwrap().is_some());
}

#[tokio::test]
async fn an_evicted_holder_is_told_at_once() {
    let clock = Clock::manual();
    let (memory, kv) = on(&clock).await;
    assert!(!memory.evict_lock("l").unwrap());
    let first = kv.new_lock("l").acquire().await.unwrap();
    let second = tokio::spawn(kv.new_lock("l").acquire());
    tokio::task::yield_now().await;
    assert!(memory.evict_lock("l").unwrap());
    assert!(!first.is_held());
    assert!(first.lost().await.to_string().contains("administrator"));
    let second = second.await.unwrap().unwrap();
    drop(first); // must not give back the second's lock
    pass(&clock, 1).await;
    assert!(second.is_held());
    assert_eq!(kv.lock_holder("l").await.unwrap().unwrap().token, second.token());
}
