//! The work that the handle does for all backends: refusals before any I/O, deadlines, the context
//! of errors, closing.

mod common;

use common::Silent;
use kv_core::{
    Capabilities, Condition, ErrorKind, Fence, Key, Kv, Linearizable, Result, Version, Watching,
    backend::Undo,
};
use std::{future::IntoFuture, time::Duration};

const SECOND: Duration = Duration::from_secs(1);

#[track_caller]
fn refused<T>(answer: Result<T>, kind: ErrorKind, says: &str) {
    let e = answer.err().expect("refused");
    assert_eq!(e.kind(), kind, "{e}");
    assert!(e.to_string().contains(says), "{e}");
}

#[tokio::test]
async fn bad_input_is_refused_before_any_io() {
    use ErrorKind::*;
    let store = Silent::able();
    let kv = Kv::new(store.clone());
    let big = vec![0; 1001];
    refused(kv.get("a/../b").await, InvalidKey, "get on silent: the name \"a/../b\"");
    refused(kv.exists("").await, InvalidKey, "exists");
    refused(kv.get_many(["a", ".kv"]).await, InvalidKey, "get_many");
    refused(kv.put(" a", "").await, InvalidKey, "put");
    refused(kv.atomic_put("a\n", "", None).await, InvalidKey, "atomic_put");
    refused(kv.delete("//").await, InvalidKey, "delete");
    refused(kv.atomic_delete(".", Version::new(1, 0)).await, InvalidKey, "atomic_delete");
    refused(kv.list("..").await, InvalidKey, "list");
    refused(kv.list("..").keys().next().await.unwrap(), InvalidKey, "list");
    refused(kv.delete_tree("a/.").await, InvalidKey, "delete_tree");
    refused(kv.watch("").await, InvalidKey, "watch");
    refused(kv.watch_tree("\u{fffe}").await, InvalidKey, "watch_tree on silent");
    refused(kv.adopt("a /b").await, InvalidKey, "adopt");
    refused(kv.new_lock("").acquire().await, InvalidKey, "acquire on silent");
    refused(kv.lock_holder("..").await, InvalidKey, "lock_holder");
    refused(kv.transact().when_exists("").await, InvalidKey, "transact");
    refused(
        kv.put("a", big.clone()).await,
        TooLarge,
        "put \"a\" on silent: a value of 1001 bytes; this store takes at most 1000",
    );
    refused(kv.put("a", "").ttl(101 * SECOND).await, InvalidArgument, "the greatest of this store is 100s");
    refused(kv.put("a", "").ttl(Duration::ZERO).await, InvalidArgument, "leave out the TTL");
    refused(kv.lease(101 * SECOND).await, InvalidArgument, "greatest");
    refused(kv.new_lock("l").ttl(101 * SECOND).acquire().await, InvalidArgument, "greatest");
    refused(kv.new_lock("l").value(big.clone()).acquire().await, TooLarge, "1001 bytes");
    refused(
        kv.transact().then(kv.put("a", "")).then(kv.delete("/a/")).await,
        InvalidArgument,
        "\"a\" is written twice",
    );
    let five = (0..5).fold(kv.transact(), |t, n| t.then(kv.put(format!("k{n}"), "")));
    refused(five.await, TooLarge, "5 conditions and writes");
    let heavy = kv.transact().then(kv.put("a", big[1..].to_vec())).then(kv.put("b", big[1..].to_vec()));
    refused(heavy.await, TooLarge, "2002 bytes");
    refused(kv.transact().then(kv.put("a", "").ttl(101 * SECOND)).await, InvalidArgument, "greatest");
    assert_eq!(kv.get_many([] as [&str; 0]).await.unwrap(), []);
    assert_eq!(store.count(), 0, "nothing reached the store");
}

#[tokio::test]
async fn what_capabilities_rule_out_is_refused_before_any_io() {
    use ErrorKind::Unsupported;
    let mut least = Capabilities::new("least");
    least.watch = Watching::Unsupported;
    let store = Silent::new(least);
    let kv = Kv::new(store.clone());
    refused(kv.put("a", "").ttl(SECOND).await, Unsupported, "least offers no TTLs");
    refused(kv.lease(SECOND).await, Unsupported, "no leases");
    refused(kv.new_lock("l").acquire().await, Unsupported, "no locks");
    refused(kv.new_lock("l").try_acquire().await, Unsupported, "no locks");
    refused(kv.lock_holder("l").await, Unsupported, "no locks");
    refused(kv.lock_holder("l").watch().await, Unsupported, "lock_holder \"l\" on least");
    refused(kv.watch("a").await, Unsupported, "no watches");
    refused(kv.watch_tree("").await, Unsupported, "no watches");
    refused(kv.transact().then(kv.delete("a")).await, Unsupported, "no transactions");
    refused(kv.health().await, Unsupported, "no health");
    let mut fenceless = Silent::able();
    fenceless.capabilities.lock.as_mut().unwrap().fenced_writes = false;
    let held = Condition::Held(Fence::new(Key::parse("l").unwrap(), 1, ""));
    refused(Kv::new(fenceless.clone()).transact().when(held).await, Unsupported, "depend on a lock");
    let mut stale = Silent::able();
    stale.capabilities.linearizable = Linearizable::Never;
    let old = Kv::new(stale.clone());
    refused(old.get("a").await, Unsupported, "ask for stale");
    refused(old.list("").await, Unsupported, "ask for stale");
    assert_eq!(store.count() + fenceless.count() + stale.count(), 0, "nothing reached a store");
}

#[tokio::test(start_paused = true)]
async fn every_call_ends_within_its_deadline() {
    use ErrorKind::{OutcomeUnknown, Timeout};
    let kv = Kv::new(Silent::able()).with_deadline(2 * SECOND);
    let began = tokio::time::Instant::now();
    refused(kv.get("a").await, Timeout, "get \"a\" on silent: no answer within 2s");
    assert_eq!(began.elapsed(), 2 * SECOND);
    refused(kv.get("a").deadline(SECOND).await, Timeout, "within 1s");
    refused(kv.exists("a").await, Timeout, "exists");
    refused(kv.get_many(["a"]).await, Timeout, "get_many");
    refused(kv.list("a").await, Timeout, "list \"a\"");
    refused(kv.health().await, Timeout, "health");
    refused(kv.watch("a").await, Timeout, "watch");
    refused(kv.lock_holder("l").await, Timeout, "lock_holder");
    refused(kv.new_lock("l").try_acquire().await, Timeout, "try_acquire \"l\"");
    refused(kv.put("a", "").await, OutcomeUnknown, "may or may not have happened");
    refused(kv.delete("a").await, OutcomeUnknown, "delete");
    refused(kv.delete_tree("a").await, OutcomeUnknown, "delete_tree");
    refused(kv.transact().then(kv.delete("a")).await, OutcomeUnknown, "transact");
    refused(kv.lease(SECOND).await, OutcomeUnknown, "lease");
    refused(kv.adopt("a").await, OutcomeUnknown, "adopt");
    assert!(kv.new_lock("l").acquire_within(SECOND).await.unwrap().is_none());
    // The store of a write is waited for a moment longer: it may know that nothing was sent.
    let last_words = 6 * (SECOND / 20);
    assert_eq!(began.elapsed(), (2 + 1 + 2 * 13 + 1) * SECOND + last_words);
    refused(kv.close().await, Timeout, "close");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_no_time_is_told_so_in_words() {
    use ErrorKind::{OutcomeUnknown, Timeout};
    let kv = Kv::new(Silent::able()).with_deadline(Duration::ZERO);
    let words = "within 0 s, which is no time: give it more";
    refused(kv.get("a").await, Timeout, &format!("get \"a\" on silent: no answer {words}"));
    refused(kv.put("a", "").await, OutcomeUnknown, words);
    refused(kv.close().await, Timeout, words);
}

#[tokio::test(start_paused = true)]
async fn closing_is_for_all_clones_and_ends_waits() {
    let store = Silent::able();
    let kv = Kv::new(store.clone());
    let waiting = tokio::spawn({
        let kv = kv.clone();
        async move { kv.new_lock("l").acquire().await.map(drop) }
    });
    tokio::task::yield_now().await;
    let other = kv.clone();
    let closing = tokio::spawn(async move { other.close().await });
    tokio::task::yield_now().await;
    refused(
        waiting.await.unwrap(),
        ErrorKind::Closed,
        "acquire \"l\" on silent: the store's handle was closed",
    );
    let calls = store.count();
    refused(kv.get("a").await, ErrorKind::Closed, "get");
    refused(kv.put("a", "").await, ErrorKind::Closed, "put");
    refused(kv.list("").await, ErrorKind::Closed, "list");
    assert_eq!(store.count(), calls);
    assert!(kv.is_closed());
    refused(closing.await.unwrap(), ErrorKind::Timeout, "close");
    refused(kv.close().await, ErrorKind::Timeout, "close");
}

#[tokio::test]
async fn calls_are_futures_of_their_own() {
    fn alone<F: Future + Send + 'static>(_: F) {}
    let kv = kv_memory::open("memory://").await.unwrap();
    alone(kv.get("a").into_future());
    alone(kv.put("a", "").into_future());
    alone(kv.list("a").into_future());
    alone(kv.watch("a").into_future());
    alone(kv.transact().into_future());
    alone(kv.new_lock("a").acquire());
    fn shared<T: Send + Sync + 'static>() {}
    shared::<(Kv, kv_core::Guard, kv_core::Lease, kv_core::Error, Undo)>();
    let (a, b) = tokio::try_join!(kv.put("a", "1"), kv.put("b", "2")).unwrap();
    assert_ne!(a.version, b.version);
}
