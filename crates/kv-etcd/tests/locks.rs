//! Acquisitions that were given up and what they leave behind, and what is told when an answer was
//! lost.

mod common;

use common::{Node, single};
use kv_core::{ErrorKind, WatchEvent};
use kv_testsuite::{Failure, Proxy, failover::soon};
use std::time::Duration;

/// Returns the names below a prefix, our own too.
async fn names(node: &Node, prefix: &str) -> Result<Vec<String>, Failure> {
    let tool = etcd_client::Client::connect([node.address.to_string()], None).await?;
    let all = etcd_client::GetOptions::new().with_prefix().with_keys_only();
    let found = tool.kv_client().get(prefix, Some(all)).await?;
    Ok(found.kvs().iter().map(|kv| String::from_utf8_lossy(kv.key()).into_owned()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_leaves_nothing_beside_a_held_lock() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let kv = kv_etcd::open(&format!("etcd://{}/given/", node.address)).await?;
    let held = kv.new_lock("held").acquire().await?;
    let before = names(node, "given/").await?;
    for n in 0..300_u64 {
        let attempt = kv.new_lock(format!("l{}", n % 7)).acquire();
        let _ = tokio::time::timeout(Duration::from_micros(300 + 9 * n), attempt).await;
    }
    soon("nothing to be left", async {
        while names(node, "given/").await? != before {}
        Ok::<_, Failure>(())
    })
    .await??;
    for n in 0..7 {
        let guard = soon("the lock", kv.new_lock(format!("l{n}")).acquire()).await??;
        assert!(guard.release().await?);
    }
    assert!(held.release().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_never_told_as_lost_before() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let proxy = Proxy::start(node.address).await;
    let kv = kv_etcd::open(&format!("etcd://{}/lost/", proxy.address())).await?;
    let guard = kv.new_lock("l").acquire().await?;
    proxy.hold_answer_to("\u{1}lock/l\u{1}");
    let release = tokio::spawn(guard.release());
    soon("the request", proxy.trapped()).await?;
    soon("its effect", async {
        while !names(node, "lost/\u{1}lock/").await?.is_empty() {}
        Ok::<_, Failure>(())
    })
    .await??;
    proxy.reset().await;
    proxy.heal().await;
    match release.await? {
        Ok(held) => assert!(held),
        Err(e) => assert_eq!(e.kind(), ErrorKind::OutcomeUnknown, "{e}"),
    }

    let lease = kv.lease(Duration::from_secs(60)).await?;
    kv.put("leased", "").lease(&lease).await?;
    proxy.hold_next_answer();
    let revoke = tokio::spawn(lease.revoke());
    soon("its effect", async {
        while names(node, "lost/leased").await? != [""; 0] {}
        Ok::<_, Failure>(())
    })
    .await??;
    proxy.reset().await;
    proxy.heal().await;
    match revoke.await? {
        Ok(alive) => assert!(alive),
        Err(e) => assert_eq!(e.kind(), ErrorKind::OutcomeUnknown, "{e}"),
    }
    kv.close().await?;
    Ok(())
}

/// Watches take streams of a connection, of which a server may allow few; renewals go before them.
#[tokio::test(flavor = "multi_thread")]
async fn watches_do_not_keep_renewals_waiting() -> Result<(), Failure> {
    let setup =
        common::Setup { more: vec!["--max-concurrent-streams=12".into()], ..common::Setup::single("etcd") };
    let node = &common::nodes(&setup, 1)?.remove(0);
    node.start().await?;
    let kv = kv_etcd::open(&format!("etcd://{}/streams/", node.address)).await?;
    let mut watches = Vec::new();
    for n in 0..30 {
        watches.push(kv.watch_tree(format!("d{n}")).await?);
    }
    let watching =
        watches.into_iter().map(|mut watch| tokio::spawn(async move { watch.event().await.map(drop) }));
    let watching: Vec<_> = watching.collect();
    let guard = kv.new_lock("l").ttl(Duration::from_secs(10)).acquire().await?;
    tokio::time::sleep(Duration::from_secs(21)).await; // twice its TTL
    assert!(guard.is_held());
    assert!(guard.release().await?);
    watching.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}

/// Returns the contenders in a lock's queue, with their values.
async fn line(tool: &etcd_client::Client, line: &str) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Failure> {
    let all = etcd_client::GetOptions::new().with_prefix();
    let found = tool.kv_client().get(line, Some(all)).await?.take_kvs();
    Ok(found.into_iter().map(etcd_client::KeyValue::into_key_value).collect())
}

/// A tree is copied key by key, as `etcdctl make-mirror` does, or from a dump: no lease comes with
/// a key.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_copied_without_a_lease_holds_nothing() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let tool = etcd_client::Client::connect([node.address.to_string()], None).await?;
    let source = kv_etcd::open(&format!("etcd://{}/src/", node.address)).await?;
    let held = source.new_lock("l").value("me").acquire().await?;
    let waits = tokio::spawn(source.new_lock("l").acquire().into_future());
    soon("the line", async {
        while line(&tool, "src/\u{1}lock/").await?.len() < 2 {}
        Ok::<_, Failure>(())
    })
    .await??;
    let copied = line(&tool, "src/").await?;
    for (name, value) in copied {
        tool.kv_client().put([&b"dst/"[..], &name[4..]].concat(), value, None).await?;
    }

    let copy = kv_etcd::open(&format!("etcd://{}/dst/", node.address)).await?;
    assert!(copy.lock_holder("l").await?.is_none());
    let mut holder = copy.lock_holder("l").watch().await?;
    assert_eq!(soon("the holder", holder.event()).await??, WatchEvent::Synced);
    let guard = copy.new_lock("l").try_acquire().await?.ok_or("nobody holds it")?;
    copy.put("fenced", "").fenced(&guard).await?;
    assert!(matches!(soon("the holder", holder.event()).await??, WatchEvent::Put(_)));
    assert_eq!(copy.lock_holder("l").await?.ok_or("it is held")?.token, guard.token());
    let next = tokio::spawn(copy.new_lock("l").acquire().into_future());
    soon("the line", async {
        while line(&tool, "dst/\u{1}lock/").await?.len() < 4 {}
        Ok::<_, Failure>(())
    })
    .await??;
    assert!(guard.release().await?);
    assert!(soon("the lock", next).await???.release().await?);
    assert!(held.is_held() && !waits.is_finished());
    waits.abort();
    Ok(())
}

/// A contender that another tool overwrites has no lease any more: its owner has lost the lock,
/// and nobody waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_overwritten_holds_nothing_any_more() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let tool = etcd_client::Client::connect([node.address.to_string()], None).await?;
    let kv = kv_etcd::open(&format!("etcd://{}/over/", node.address)).await?;
    let held = kv.new_lock("l").value("first").acquire().await?;
    let mut holder = kv.lock_holder("l").watch().await?;
    assert!(matches!(soon("the holder", holder.event()).await??, WatchEvent::Put(_)));
    let waits = tokio::spawn(kv.new_lock("l").value("second").acquire().into_future());
    let before = line(&tool, "over/\u{1}lock/").await?;
    soon("the line", async {
        while line(&tool, "over/\u{1}lock/").await?.len() < 2 {}
        Ok::<_, Failure>(())
    })
    .await??;
    let fence = held.fence().clone();
    for (name, value) in before.into_iter().filter(|(_, value)| value == b"first") {
        tool.kv_client().put(name, value, None).await?;
    }
    let next = soon("the lock", waits).await???;
    let late = kv.put("fenced", "").fenced(fence).await;
    assert_eq!(late.map_err(|e| e.kind()).unwrap_err(), ErrorKind::LockLost);
    soon("the loss", held.lost()).await?;
    kv.put("fenced", "").fenced(&next).await?;
    soon("the holder", async {
        while !matches!(holder.event().await?, WatchEvent::Put(entry) if entry.text() == Some("second")) {}
        Ok::<_, Failure>(())
    })
    .await??;
    assert_eq!(kv.lock_holder("l").await?.ok_or("it is held")?.token, next.token());
    assert!(next.release().await?);
    Ok(())
}

/// The first acquisition of a session has less time than a watch needs on a slow link.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_was_acquired_in_haste_is_watched() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let proxy = Proxy::start(node.address).await;
    let kv = kv_etcd::open(&format!("etcd://{}/hasty/", proxy.address())).await?;
    let hasty = kv.with_deadline(Duration::from_millis(300));
    let guard = soon("the lock", async {
        loop {
            if let Ok(Some(guard)) = hasty.new_lock("l").try_acquire().await {
                return guard;
            }
        }
    })
    .await?;
    // The watch of the lock begins behind this.
    proxy.delay(Duration::from_millis(200));
    let tool = etcd_client::Client::connect([node.address.to_string()], None).await?;
    let all = etcd_client::DeleteOptions::new().with_prefix();
    // An attempt that failed may not have been taken out of the line yet.
    assert!(tool.kv_client().delete("hasty/\u{1}lock/l", Some(all)).await?.deleted() >= 1);
    let lost = soon("the news", guard.lost()).await?;
    assert!(lost.to_string().contains("deleted"), "{lost}");
    Ok(())
}
