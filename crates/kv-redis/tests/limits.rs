//! Servers at their limits of memory and connections.

mod common;

use common::{Node, Reply, Resp, single, with};
use kv_core::{ErrorKind, Kv, WatchEvent};
use kv_testsuite::{Failure, failover::soon};
use std::time::Duration;

async fn opened(node: &Node) -> Result<Kv, Failure> {
    let kv = kv_redis::open(&format!("redis://{}/full/", node.address)).await?;
    Ok(kv.with_deadline(Duration::from_secs(2)))
}

/// Puts the server so far above its limit that no deletion here gets it below.
async fn no_room_at_all(resp: &mut Resp) -> Result<(), Failure> {
    assert_eq!(resp.say("CONFIG SET maxmemory 100kb").await?, Reply::Text(b"OK".into()));
    Ok(())
}

/// A server over its `maxmemory` takes nothing that is new, and does everything that makes room.
#[tokio::test(flavor = "multi_thread")]
async fn what_makes_room_works_without_any() -> Result<(), Failure> {
    for kind in ["redis", "redis8", "valkey"] {
        let node = single(kind).await?;
        let mut resp = node.resp().await?;
        let kv = opened(&node).await?;
        for n in 0..600 {
            kv.put(format!("d/{n}"), "a value").await?;
        }
        kv.put("one", "").await?;
        kv.put("two", "").await?;
        let seen = kv.put("three", "").await?.version;
        let ttl = Duration::from_secs(8);
        let lease = kv.lease(ttl).await?;
        kv.put("leased", "").lease(&lease).await?;
        let (guard, other) =
            (kv.new_lock("l").ttl(ttl).acquire().await?, kv.new_lock("kept").ttl(ttl).acquire().await?);
        let broken = kv.new_lock("broken").ttl(ttl).acquire().await?;
        let waiting = tokio::spawn(kv.new_lock("l").ttl(ttl).acquire());
        soon("the wait to begin", async {
            while resp.ask(&[b"ZCARD", b"full/.kv/lock/l"]).await? != Reply::Number(2) {}
            Ok::<_, Failure>(())
        })
        .await??;
        let mut watch = kv.watch_tree("").await?;
        while watch.event().await? != WatchEvent::Synced {}
        no_room_at_all(&mut resp).await?;

        for refused in [
            kv.put("new", "").await.map(drop),
            kv.put("one", "").await.map(drop),
            kv.transact().then(kv.delete("one")).then(kv.put("new", "")).await.map(drop),
            kv.lease(ttl).await.map(drop),
            kv.new_lock("new").try_acquire().await.map(drop),
            guard.set_value("new").await,
        ] {
            let e = refused.unwrap_err();
            assert_eq!(format!("{:?}", e.kind()), "NoSpace", "{e}");
            assert!(e.to_string().contains("maxmemory"), "{e}");
        }
        assert!(kv.exists("one").await? && !kv.exists("new").await?);
        let again = opened(&node).await?;
        assert_eq!(again.list("d").await?.len(), 600);
        assert!(again.get("one").await?.is_some());

        assert!(kv.delete("one").await?);
        assert!(!kv.delete("one").await?);
        assert!(kv.transact().then(kv.delete("two")).then(kv.delete("no")).await?.is_committed());
        kv.atomic_delete("three", seen).await?;
        // Longer than any of them lives without renewals.
        tokio::time::sleep(ttl * 5 / 4).await;
        assert!(lease.is_held() && guard.is_held() && other.is_held());
        assert!(lease.revoke().await?);
        assert!(!kv.exists("leased").await?);
        assert!(guard.release().await?);
        let next = soon("the lock", waiting).await???;
        assert!(next.release().await?);
        assert!(kv.break_lock("broken").token(broken.token()).await?);
        assert_eq!(kv.delete_tree("d").await?, Some(600));
        let mut deleted = 0;
        while deleted < 604 {
            let event = soon("the ends", watch.event()).await??;
            deleted += usize::from(matches!(event, WatchEvent::Delete { .. }));
        }
        resp.say("CONFIG SET maxmemory 0").await?;
        kv.put("new", "").await?;
        assert!(other.release().await?);
    }
    Ok(())
}

/// A server that takes no more connections is tried again.
#[tokio::test(flavor = "multi_thread")]
async fn all_connections_are_taken() -> Result<(), Failure> {
    for kind in ["redis", "redis8", "valkey"] {
        let node = single(kind).await?;
        let url = format!("redis://{}/taken/", node.address);
        let kv = kv_redis::open(&url).await?.with_deadline(Duration::from_secs(5));
        kv.put("a", "1").await?;
        let mut watch = kv.watch_tree("").await?;
        let mut holder = kv.lock_holder("l").watch().await?;
        while watch.event().await? != WatchEvent::Synced {}
        holder.event().await?;
        let mut resp = node.resp().await?;
        let mut others = Vec::new();
        resp.say("CONFIG SET maxclients 3").await?;
        resp.say("CLIENT KILL TYPE pubsub").await?;
        resp.say("CLIENT KILL TYPE normal SKIPME yes").await?;
        soon("the places to be taken", async {
            while others.len() < 2 {
                let mut other = node.resp().await?;
                if other.say("PING").await.is_ok_and(|pong| pong == Reply::Text(b"PONG".into())) {
                    others.push(other);
                }
                resp.say("CLIENT KILL TYPE pubsub").await?;
            }
            Ok::<_, Failure>(())
        })
        .await??;
        let config = kv_redis::Config::new([node.address.to_string()]).deadline(Duration::from_secs(4));
        let opened = Box::pin(async {
            let begun = std::time::Instant::now();
            (config.open().await, begun.elapsed())
        });
        let (got, put) = (kv.get("a").into_future(), kv.put("b", "").into_future());
        let (got, put, (opened, took)) = tokio::join!(got, put, opened);
        for refused in [got.map(drop), put.map(drop)] {
            let e = refused.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
            assert!(e.to_string().contains("maxclients"), "{e}");
        }
        let e = opened.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
        assert!(took > Duration::from_secs(2), "tried until the deadline, and not {took:?}");
        // Calls come back by themselves, and so do watches.
        let waiting = tokio::spawn(kv.put("late", "").deadline(Duration::from_secs(20)).into_future());
        drop(others);
        resp.say("CONFIG SET maxclients 100").await?;
        waiting.await??;
        soon("the change", async {
            while !matches!(watch.event().await?, WatchEvent::Put(entry) if entry.key.as_str() == "late") {}
            Ok::<_, kv_core::Error>(())
        })
        .await??;
        let guard = kv.new_lock("l").acquire().await?;
        soon("the holder", async {
            while !matches!(holder.event().await?, WatchEvent::Put(_)) {}
            Ok::<_, kv_core::Error>(())
        })
        .await??;
        drop(guard);
    }
    Ok(())
}

/// One connection is left, for the calls or for the listener of the watches.
#[tokio::test(flavor = "multi_thread")]
async fn one_connection_is_left() -> Result<(), Failure> {
    let node = with("redis", &[]).await?;
    let kv = kv_redis::open(&format!("redis://{}/taken/", node.address)).await?;
    let kv = kv.with_deadline(Duration::from_secs(1));
    let mut watch = kv.watch_tree("").await?;
    let mut holder = kv.lock_holder("l").watch().await?;
    watch.event().await?;
    holder.event().await?;
    let mut resp = node.resp().await?;
    resp.say("CONFIG SET maxclients 2").await?;
    let ended = tokio::spawn(async move {
        tokio::select! {
            event = async { loop { if let Err(e) = watch.event().await { break e } } } => event,
            event = async { loop { if let Err(e) = holder.event().await { break e } } } => event,
        }
    });
    for _ in 0..10 {
        resp.say("CLIENT KILL TYPE pubsub").await?;
        resp.say("CLIENT KILL TYPE normal SKIPME yes").await?;
        let _ = kv.put("a", "").await;
    }
    resp.say("CONFIG SET maxclients 100").await?;
    kv.put("b", "").deadline(Duration::from_secs(20)).await?;
    assert!(!ended.is_finished(), "a watch ended: {:?}", ended.await?);
    ended.abort();
    Ok(())
}

/// The memory that is left decides whether a write begins, and never whether it ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_refuses_whole_writes() -> Result<(), Failure> {
    let node = with("redis", &["--maxmemory", "8mb"]).await?;
    let kv = kv_redis::open(&format!("redis://{}/full/", node.address)).await?;
    let kv = kv.with_deadline(Duration::from_secs(2));
    let mut written = 0;
    let e = loop {
        match kv.put(format!("d/{written}"), vec![b'x'; 100_000]).await {
            Ok(_) => written += 1,
            Err(e) => break e,
        }
    };
    assert!(e.to_string().contains("maxmemory"), "{e}");
    assert_ne!(e.kind(), ErrorKind::OutcomeUnknown, "{e}");
    assert_eq!(kv.list("d").await?.len(), written);
    assert!(!kv.exists(format!("d/{written}")).await?);
    kv.delete_tree("d").await?;
    kv.put("d/again", "").await?;
    Ok(())
}
