//! Databases of one server are stores of their own: nothing of one is seen, told or waited for in
//! another.

mod common;

use common::{change, single};
use kv_core::{Kv, WatchEvent};
use kv_testsuite::{Failure, Mirror, failover::soon};
use std::time::Duration;

async fn both(kind: &str) -> Result<(common::Node, Kv, Kv), Failure> {
    let node = single(kind).await?;
    let url = |number: u8| format!("redis://{}/app/?db={number}", node.address);
    let (zero, one) = (kv_redis::open(&url(0)).await?, kv_redis::open(&url(1)).await?);
    Ok((node, zero, one))
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_are_told_of_their_own_database() -> Result<(), Failure> {
    for kind in ["redis", "redis8", "valkey"] {
        let (_node, zero, one) = both(kind).await?;
        zero.put("k", "of zero").await?;
        let mut tree = zero.watch_tree("").await?;
        let mut key = zero.watch("k").await?;
        let mut holder = zero.lock_holder("leader").watch().await?;
        for _ in ["Put", "Synced"] {
            tree.event().await?;
            key.event().await?;
        }
        assert_eq!(holder.event().await?, WatchEvent::Synced);

        one.put("x", "").await?;
        one.put("k", "of one").await?;
        one.delete("k").await?;
        let theirs = one.new_lock("leader").value("of one").acquire().await?;
        assert!(zero.lock_holder("leader").await?.is_none());
        // The first event is that of their own database.
        let ours = zero.new_lock("leader").value("of zero").acquire().await?;
        zero.put("k", "again").await?;
        for watch in [&mut tree, &mut key] {
            let event = change(watch).await?;
            assert!(matches!(&event, WatchEvent::Put(entry) if entry.value == "again"), "{event:?}");
        }
        let event = change(&mut holder).await?;
        assert!(matches!(&event, WatchEvent::Put(entry) if entry.value == "of zero"), "{event:?}");
        drop((ours, theirs));
    }
    Ok(())
}

/// A lock of the same name in the other database is another lock, also for contenders that wait.
#[tokio::test(flavor = "multi_thread")]
async fn waits_are_woken_in_their_own_database() -> Result<(), Failure> {
    let (_node, zero, one) = both("redis").await?;
    let ttl = Duration::from_secs(60);
    let (of_zero, of_one) =
        (zero.new_lock("l").ttl(ttl).acquire().await?, one.new_lock("l").ttl(ttl).acquire().await?);
    let mut waiting = tokio::spawn(zero.new_lock("l").ttl(ttl).acquire());
    of_one.release().await?;
    let early = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
    assert!(early.is_err(), "the lock of the other database was released: {early:?}");
    of_zero.release().await?;
    soon("the own lock", waiting).await???.release().await?;
    Ok(())
}

/// Two databases with equally many keys change places: after `adopt` the watches of both show the
/// new contents.
#[tokio::test(flavor = "multi_thread")]
async fn databases_that_change_places() -> Result<(), Failure> {
    for kind in ["redis", "redis8", "valkey"] {
        let (node, zero, one) = both(kind).await?;
        let mut watched = Vec::new();
        for (kv, of) in [(&zero, "zero"), (&one, "one")] {
            for n in 0..3 {
                kv.put(format!("d/{of}/{n}"), of).await?;
            }
            kv.put("d/both", of).await?;
            let mut mirror = Mirror::new(kv.watch_tree("d").await?);
            mirror.comes_to(kv.list("d").await?).await?;
            watched.push((kv, mirror));
        }
        let mut key = zero.watch("d/both").await?;
        while key.event().await? != WatchEvent::Synced {}
        node.resp().await?.say("SWAPDB 0 1").await?;
        for (kv, mirror) in &mut watched {
            assert_eq!(kv.adopt("").await?, 0, "it is all known");
            mirror.comes_to(kv.list("d").await?).await?;
        }
        soon("the value of the other", async {
            while !matches!(key.event().await?, WatchEvent::Put(entry) if entry.value == "one") {}
            Ok::<_, Failure>(())
        })
        .await??;
    }
    Ok(())
}
