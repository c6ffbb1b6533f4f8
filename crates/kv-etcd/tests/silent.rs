//! Connections and members that stay there and say nothing.

mod common;

use common::{Node, Setup, nodes, single};
use kv_core::{ErrorKind, Kv};
use kv_testsuite::{Failure, Proxy, failover::soon, own::start};
use std::time::Duration;

/// Sets a TTL that leaves renewals little time.
const TTL: Duration = Duration::from_secs(10);

/// Checks that a lock and a lease are kept while there are no other calls; `silence` begins what
/// would keep renewals from the server.
async fn is_kept(kv: &Kv, silence: impl FnOnce()) -> Result<(), Failure> {
    let guard = kv.new_lock("l").ttl(TTL).acquire().await?;
    let lease = kv.lease(TTL).await?;
    silence();
    let (lost, ended) = (guard.lost(), lease.lost());
    tokio::select! {
        e = lost => return Err(e.into()),
        e = ended => return Err(e.into()),
        () = tokio::time::sleep(2 * TTL) => {}
    }
    assert!(guard.is_held() && lease.is_held());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_a_router_forgot_ends_no_lock() -> Result<(), Failure> {
    let node = single("etcd").await?;
    let proxy = Proxy::start(node.address).await;
    let kv = kv_etcd::open(&format!("etcd://{}/silent/", proxy.address())).await?;
    is_kept(&kv, || proxy.strand()).await
}

/// Starts three members, and returns when they serve; one that does not lead comes first.
async fn members() -> Result<Vec<Node>, Failure> {
    let mut nodes = nodes(&Setup::cluster("etcd"), 3)?;
    start(&nodes).await?;
    let leader = open(&nodes).await?.health().await?.leader.ok_or("a leader")?;
    nodes.sort_by_key(|node| node.name == leader);
    Ok(nodes)
}

async fn open(nodes: &[Node]) -> Result<Kv, Failure> {
    let hosts: Vec<_> = nodes.iter().map(|node| node.address.to_string()).collect();
    Ok(kv_etcd::open(&format!("etcd://{}/silent/", hosts.join(","))).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_hangs_ends_no_lock() -> Result<(), Failure> {
    let nodes = members().await?;
    let kv = open(&nodes).await?;
    is_kept(&kv, || nodes[0].daemon.pause()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_writes_leaves_a_member_that_hangs() -> Result<(), Failure> {
    let nodes = members().await?;
    let kv = open(&nodes).await?.with_deadline(Duration::from_secs(5));
    kv.put("a", "before").await?;
    nodes[0].daemon.pause();
    for n in 0..3 {
        match kv.put("a", n.to_string()).await {
            Ok(_) => return Ok(()),
            Err(e) => assert_eq!(e.kind(), ErrorKind::OutcomeUnknown, "{e}"),
        }
    }
    Err("three writes went to the member that hangs".into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_whose_ttl_was_not_answered_was_not_done() -> Result<(), Failure> {
    let node = single("etcd").await?;
    let proxy = Proxy::start(node.address).await;
    let kv = kv_etcd::open(&format!("etcd://{}/silent/", proxy.address())).await?;
    let kv = kv.with_deadline(Duration::from_secs(5));
    kv.get("a").await?;
    proxy.freeze_requests();
    let put = kv.put("a", "").ttl(TTL).await.unwrap_err();
    let transaction = kv.transact().then(kv.put("b", "").ttl(TTL)).await.unwrap_err();
    for e in [put, transaction] {
        assert!(e.is_transient(), "{e}");
        assert!(e.to_string().contains("was not written"), "{e}");
    }
    proxy.heal().await;
    assert_eq!(soon("an answer", kv.get_many(["a", "b"]).into_future()).await??, [None, None]);
    Ok(())
}
