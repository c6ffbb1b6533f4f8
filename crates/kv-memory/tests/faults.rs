//! Faults on demand, as a program sees them.

use futures::FutureExt;
use kv_core::{Error, ErrorKind, Kv, WatchEvent};
use kv_memory::{Calls, Config, Faults, Memory};
use std::{sync::Arc, time::Duration};

const S: Duration = Duration::from_secs(1);

/// Makes a handle with its faults, and another handle on the same store.
fn pair() -> (Kv, Faults, Kv) {
    let memory = Memory::new();
    let kv = Kv::new(memory.clone());
    (kv.clone(), Faults::of(&kv).unwrap(), Kv::new(memory.with_prefix("")))
}

/// Makes the same under tokio's paused time.
async fn paused_pair(name: &str) -> (Kv, Faults, Kv) {
    let open = || Config::new().name(name).clock(kv_core::backend::Clock::tokio()).open();
    let (kv, other) = (open().await.unwrap(), open().await.unwrap());
    (kv.clone(), Faults::of(&kv).unwrap(), other)
}

fn kind<T>(answer: Result<T, Error>) -> ErrorKind {
    answer.err().expect("a failure").kind()
}

#[tokio::test]
async fn they_are_found_from_any_handle_on_memory() {
    let kv = kv_memory::open("memory://").await.unwrap();
    Faults::of(&kv.clone()).unwrap().fail_next(ErrorKind::Timeout);
    assert_eq!(kind(kv.get("a").await), ErrorKind::Timeout);
    let held = Kv::new(Arc::new(Box::new(Memory::new())));
    Faults::of(&held).unwrap().fail_next(ErrorKind::NoSpace);
    let full = held.put("a", "1").await.unwrap_err();
    assert_eq!((full.kind(), full.operation(), full.key()), (ErrorKind::NoSpace, Some("put"), Some("a")));
}

#[tokio::test]
async fn the_next_calls_fail_without_an_effect() {
    let (kv, faults, other) = pair();
    faults.fail(Calls::Writes, ErrorKind::Unavailable, 2);
    faults.fail(Calls::Reads, ErrorKind::PermissionDenied, 1);
    assert_eq!(faults.planned(), 3);
    assert_eq!(kind(kv.put("a", "1").await), ErrorKind::Unavailable);
    assert_eq!(kind(kv.exists("a").await), ErrorKind::PermissionDenied);
    assert!(!kv.exists("a").await.unwrap());
    other.put("b", "1").await.unwrap(); // another handle meets none
    assert_eq!(kind(kv.transact().then(kv.put("a", "1")).await), ErrorKind::Unavailable);
    assert_eq!(faults.planned(), 0);
    kv.put("a", "1").if_missing().await.unwrap();
    // Each call of the handle can meet a fault.
    let lease = kv.lease(9 * S).await.unwrap();
    let calls: [(&str, futures::future::BoxFuture<'_, Result<(), Error>>); 11] = [
        ("get", kv.get("a").into_future().map(|r| r.map(drop)).boxed()),
        ("get_many", kv.get_many(["a"]).into_future().map(|r| r.map(drop)).boxed()),
        ("list", kv.list("").into_future().map(|r| r.map(drop)).boxed()),
        ("delete", kv.delete("a").into_future().map(|r| r.map(drop)).boxed()),
        ("delete_tree", kv.delete_tree("").into_future().map(|r| r.map(drop)).boxed()),
        ("put", kv.put("n", "").if_missing().into_future().map(|r| r.map(drop)).boxed()),
        ("lease", kv.lease(9 * S).into_future().map(|r| r.map(drop)).boxed()),
        ("try_acquire", kv.new_lock("l").try_acquire().map(|r| r.map(drop)).boxed()),
        ("lock_holder", kv.lock_holder("l").into_future().map(|r| r.map(drop)).boxed()),
        ("adopt", kv.adopt("").into_future().map(|r| r.map(drop)).boxed()),
        ("health", kv.health().into_future().map(|r| r.map(drop)).boxed()),
    ];
    for (name, call) in calls {
        faults.fail_next(ErrorKind::Timeout);
        assert_eq!(kind(call.await), ErrorKind::Timeout, "{name}");
    }
    assert!(kv.exists("a").await.unwrap() && lease.is_held() && !kv.exists("n").await.unwrap());
    faults.fail_next(ErrorKind::Timeout);
    faults.clear();
    kv.get("a").await.unwrap();
}

#[tokio::test]
async fn outcome_unknown_is_of_writes_done_or_not() {
    let (kv, faults, _) = pair();
    faults.fail_next(ErrorKind::OutcomeUnknown);
    assert!(kv.get("a").await.unwrap().is_none(), "reads never give it");
    assert_eq!(kind(kv.put("a", "1").await), ErrorKind::OutcomeUnknown);
    assert!(!kv.exists("a").await.unwrap(), "it was not done");
    faults.lose_answers(3);
    assert_eq!(kind(kv.put("a", "1").await), ErrorKind::OutcomeUnknown);
    let seen = kv.get("a").await.unwrap().expect("it was done").version;
    assert_eq!(
        kind(kv.put("a", "2").if_missing().await),
        ErrorKind::OutcomeUnknown,
        "a conflict is lost too"
    );
    assert_eq!(kind(kv.delete("a").if_version(seen).await), ErrorKind::OutcomeUnknown);
    assert!(!kv.exists("a").await.unwrap());
}

/// Nothing stays behind of a lock or lease whose answer is lost, and a wait for a lock rides the
/// loss out.
#[tokio::test]
async fn locks_and_leases_whose_answers_are_lost_are_given_back() {
    let (kv, faults, other) = pair();
    faults.lose_answers(1);
    assert_eq!(kind(kv.new_lock("l").try_acquire().await), ErrorKind::OutcomeUnknown);
    let theirs = other.new_lock("l").acquire_within(9 * S).await.unwrap().expect("it is free soon");
    assert!(theirs.release().await.unwrap());
    faults.lose_answers(1);
    assert_eq!(kind(kv.lease(60 * S).await), ErrorKind::OutcomeUnknown);
    faults.lose_answers(1);
    faults.fail(Calls::Writes, ErrorKind::Unavailable, 2);
    let guard = kv.new_lock("l").acquire().await.unwrap();
    assert!(guard.is_held() && faults.planned() == 0);
    faults.fail_next(ErrorKind::PermissionDenied);
    assert_eq!(kind(kv.new_lock("m").acquire().await), ErrorKind::PermissionDenied, "that lasts");
    kv.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn calls_wait_for_the_end_of_a_pause() {
    let (kv, faults, other) = paused_pair("calls-wait").await;
    faults.pause();
    let began = tokio::time::Instant::now();
    assert_eq!(kind(kv.get("a").await), ErrorKind::Timeout);
    assert_eq!(began.elapsed().as_secs(), 5, "the deadline");
    assert_eq!(kind(kv.put("a", "1").deadline(S).await), ErrorKind::OutcomeUnknown);
    assert!(!other.exists("a").await.unwrap(), "another handle is served");
    let waits = tokio::spawn(kv.put("a", "2").into_future());
    tokio::time::sleep(S).await;
    assert!(!waits.is_finished());
    faults.resume();
    waits.await.unwrap().unwrap();
    assert_eq!(other.get("a").await.unwrap().unwrap().text(), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn a_pause_loses_locks_and_leases_by_time() {
    let (kv, faults, other) = paused_pair("loses").await;
    let guard = kv.new_lock("l").ttl(9 * S).acquire().await.unwrap();
    let lease = kv.lease(9 * S).await.unwrap();
    kv.put("node", "up").lease(&lease).await.unwrap();
    let waits = tokio::spawn(other.new_lock("l").ttl(9 * S).acquire());
    faults.pause();
    tokio::time::sleep(5 * S).await;
    assert!(guard.is_held() && other.exists("node").await.unwrap(), "not before its time");
    let next = waits.await.unwrap().unwrap();
    assert!(!guard.is_held() && next.token() > guard.token());
    assert_eq!(guard.lost().await.kind(), ErrorKind::LockLost);
    assert_eq!(lease.lost().await.kind(), ErrorKind::LeaseLost);
    assert!(!other.exists("node").await.unwrap());
    faults.resume();
    assert_eq!(kind(kv.put("k", "late").fenced(&guard).await), ErrorKind::LockLost);
    assert!(!guard.release().await.unwrap());
}

/// A contender that was granted the lock during a pause, and lost it again by time, asks for it
/// anew.
#[tokio::test(start_paused = true)]
async fn a_waiter_gets_the_lock_after_a_pause() {
    let (kv, faults, other) = paused_pair("waiter").await;
    let guard = other.new_lock("l").acquire().await.unwrap();
    let waits = tokio::spawn(kv.new_lock("l").ttl(S).acquire());
    tokio::time::sleep(S).await;
    faults.pause();
    guard.release().await.unwrap();
    tokio::time::sleep(10 * S).await; // the contender had its turn, and nobody renewed it
    let third = other.new_lock("l").try_acquire().await.unwrap().expect("it is free");
    faults.resume();
    tokio::time::sleep(S).await;
    assert!(third.is_held() && !waits.is_finished());
    third.release().await.unwrap();
    assert!(waits.await.unwrap().unwrap().is_held());
}

#[tokio::test(start_paused = true)]
async fn close_says_what_could_not_be_given_back() {
    let (kv, faults, _) = paused_pair("close-says").await;
    let guard = kv.new_lock("l").acquire().await.unwrap();
    faults.pause();
    let closed = kv.close().await;
    assert!(closed.is_err(), "{closed:?}");
    assert!(!guard.is_held());
}

#[tokio::test]
async fn watches_stand_still_are_cut_and_go_on() {
    let (kv, faults, other) = pair();
    let mut watch = kv.watch_tree("d").await.unwrap();
    let mut theirs = other.watch_tree("d").await.unwrap();
    assert_eq!(watch.event().await.unwrap(), WatchEvent::Synced);
    assert_eq!(theirs.event().await.unwrap(), WatchEvent::Synced);
    faults.pause();
    let put = other.put("d/a", "1").await.unwrap().version;
    assert!(watch.event().now_or_never().is_none(), "it stands still");
    assert!(matches!(theirs.event().await.unwrap(), WatchEvent::Put(_)));
    faults.resume();
    assert!(matches!(watch.event().await.unwrap(), WatchEvent::Put(e) if e.version == put));

    // The watch is cut, and its first reads fail: it rides that out, and tells only what differs.
    faults.fail(Calls::Reads, ErrorKind::Unavailable, 2);
    faults.fail(Calls::Reads, ErrorKind::OutcomeUnknown, 0);
    faults.cut_watches();
    other.delete("d/a").await.unwrap();
    other.put("d/b", "1").await.unwrap();
    assert!(matches!(watch.event().await.unwrap(), WatchEvent::Put(e) if e.key.as_str() == "d/b"));
    assert!(matches!(watch.event().await.unwrap(), WatchEvent::Delete { key, .. } if key.as_str() == "d/a"));
    assert_eq!(watch.event().await.unwrap(), WatchEvent::Synced);
    assert_eq!(faults.planned(), 0);

    // A lasting error ends the watch.
    faults.fail(Calls::Reads, ErrorKind::PermissionDenied, 1);
    faults.cut_watches();
    assert_eq!(kind(watch.event().await), ErrorKind::PermissionDenied);
    assert!(matches!(theirs.event().await.unwrap(), WatchEvent::Delete { .. }), "another handle's go on");
}

#[tokio::test]
async fn locks_and_leases_are_taken_away() {
    let (kv, faults, other) = pair();
    let guard = other.new_lock("l").acquire().await.unwrap();
    let lease = other.lease(60 * S).await.unwrap();
    other.put("node", "up").lease(&lease).await.unwrap();
    assert!(faults.evict_lock("l").unwrap() && !faults.evict_lock("l").unwrap());
    assert!(!guard.is_held() && guard.lost().await.to_string().contains("administrator"));
    assert!(faults.evict_lease(lease.id()) && !faults.evict_lease(lease.id()));
    assert!(!lease.is_held() && lease.lost().await.to_string().contains("administrator"));
    assert!(!kv.exists("node").await.unwrap());
    assert!(!lease.revoke().await.unwrap());
}
