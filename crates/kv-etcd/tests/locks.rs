//! What acquires that were given up leave behind, and what is told when an answer was lost.

mod common;

use common::{Node, single};
use kv_core::ErrorKind;
use kv_testsuite::{Failure, Proxy, failover::soon};
use std::time::Duration;

/// The names below a prefix, our own too.
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
    let guard = kv.new_lock("l").ttl(Duration::from_secs(2)).acquire().await?;
    tokio::time::sleep(Duration::from_secs(7)).await; // three times its TTL
    assert!(guard.is_held());
    assert!(guard.release().await?);
    watching.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}
