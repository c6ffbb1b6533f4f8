//! Leases whose keys are deleted or replaced: those of users live on, those of TTLs do not stay.

mod common;

use common::{Node, Setup, nodes, single};
use kv_core::{
    Bytes, ErrorKind, Key, Kv,
    driver::{PutOptions, Transaction, Write, WriteOptions},
};
use kv_testsuite::{Failure, failover::soon};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(60);

async fn open(node: &Node) -> Result<Kv, Failure> {
    Ok(kv_etcd::open(&format!("etcd://{}/leases/", node.address)).await?)
}

/// Counts the leases of the server.
async fn leases(node: &Node) -> Result<usize, Failure> {
    let tool = etcd_client::Client::connect([node.address.to_string()], None).await?;
    Ok(tool.lease_client().leases().await?.leases().len())
}

async fn left(node: &Node, count: usize) -> Result<(), Failure> {
    soon(&format!("{count} leases"), async {
        while leases(node).await? != count {}
        Ok::<_, Failure>(())
    })
    .await?
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_lease_outlives_its_keys() -> Result<(), Failure> {
    for kind in ["etcd", "etcd34"] {
        let node = &single(kind).await?;
        let (kv, other) = (open(node).await?, open(node).await?);
        let lease = kv.lease(TTL).await?;
        // The leases of TTLs go, which shows that the tasks that look after leases have done their
        // work.
        let emptied = async |what: &str| {
            other.put("mark", "").ttl(TTL).await?;
            other.delete("mark").await?;
            left(node, 1).await.map_err(|e| format!("{what}: {e}"))?;
            assert!(lease.is_held(), "{what}");
            kv.put("again", "").lease(&lease).await.map_err(|e| format!("{what}: {e}"))?;
            assert!(other.delete("again").await?, "{what}");
            Ok::<_, Failure>(())
        };
        kv.put("a", "").lease(&lease).await?;
        assert!(kv.delete("a").await?);
        emptied("deleted").await?;
        kv.put("a", "").lease(&lease).await?;
        kv.put("a", "").await?;
        emptied("made permanent").await?;
        kv.put("a", "").lease(&lease).await?;
        kv.put("a", "").ttl(TTL).await?;
        kv.delete("a").await?;
        emptied("given a TTL").await?;
        kv.put("d/a", "").lease(&lease).await?;
        other.delete_tree("d").await?;
        emptied("deleted by delete_tree").await?;
        let done =
            kv.transact().then(kv.put("d/a", "").lease(&lease)).then(kv.put("d/b", "").lease(&lease)).await?;
        assert!(done.is_committed());
        assert!(other.transact().then(other.delete("d/a")).then(other.delete("d/b")).await?.is_committed());
        emptied("deleted by transactions").await?;
        assert!(lease.revoke().await?, "it was alive");
        left(node, 0).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_under_an_emptied_lease_stays() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let (kv, other) = (open(node).await?, open(node).await?);
    let mut held = Vec::new();
    for n in 0..150 {
        let lease = kv.lease(TTL).await?;
        kv.put(format!("old/{n}"), "").lease(&lease).await?;
        other.delete(format!("old/{n}")).await?;
        kv.put(format!("new/{n}"), "").lease(&lease).await?;
        held.push(lease);
    }
    other.put("mark", "").ttl(TTL).await?;
    other.delete("mark").await?;
    left(node, 150).await?;
    assert_eq!(kv.list("new").await?.len(), 150);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_of_a_ttl_goes_with_its_keys() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let kv = open(node).await?;
    kv.put("a", "").ttl(TTL).await?;
    kv.put("a", "").ttl(TTL).await?;
    left(node, 1).await?;
    kv.put("a", "").await?;
    left(node, 0).await?;
    kv.put("a", "").ttl(TTL).await?;
    kv.delete("a").await?;
    left(node, 0).await?;
    // The keys of one transaction share a lease, which lives as long as one of them.
    let both = || kv.transact().then(kv.put("d/a", "").ttl(TTL)).then(kv.put("d/b", "").ttl(TTL));
    assert!(both().await?.is_committed());
    left(node, 1).await?;
    kv.delete("d/a").await?;
    kv.put("mark", "").ttl(TTL).await?;
    kv.delete("mark").await?;
    left(node, 1).await?;
    assert!(kv.exists("d/b").await?);
    assert_eq!(kv.delete_tree("d").await?, Some(1));
    assert!(both().await?.is_committed());
    assert!(both().await?.is_committed());
    kv.delete_tree("d").await?;
    // The lease whose keys went one by one remains: it ends by its TTL.
    left(node, 1).await?;
    let refused = kv
        .put("a", "")
        .ttl(TTL)
        .if_version(kv.put("a", "").await?.version)
        .await
        .and(kv.put("a", "").ttl(TTL).if_missing().await);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::KeyExists);
    kv.delete("a").await?;
    left(node, 1).await?;
    Ok(())
}

/// A layer may give to the store what the handle refuses.
#[tokio::test(flavor = "multi_thread")]
async fn a_ttl_that_is_refused_leaves_no_lease_of_another() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let kv = open(node).await?;
    let puts = [("a", TTL), ("b", Duration::MAX)].map(|(key, ttl)| Write::Put {
        key: Key::parse(key).expect("it is a key"),
        value: Bytes::new(),
        options: PutOptions::default().ttl(Some(ttl)),
    });
    let transaction = Transaction::new(Vec::new(), puts.into());
    let refused = kv.store().transact(transaction, &WriteOptions::default()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
    left(node, 0).await
}

/// The server's least TTL depends on its election time-out, and only a grant tells it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_slow_cluster_grants_is_told() -> Result<(), Failure> {
    let node = &nodes(&Setup { heartbeat: 200, election: 4000, ..Setup::single("etcd") }, 1)?.remove(0);
    node.start().await?;
    let (kv, short) = (open(node).await?, Duration::from_secs(2));
    let least = kv.lease(short).await?.ttl();
    assert!(least > short, "{least:?}");
    let granted = kv.put("a", "").ttl(short).await?.ttl.ok_or("it has a TTL")?;
    assert!(granted > short && granted <= least, "{granted:?}, {least:?}");
    let both = kv.transact().then(kv.put("b", "").ttl(short)).then(kv.put("c", "").ttl(short)).await?;
    let kv_core::Outcome::Committed(both) = both else { return Err("it has no conditions".into()) };
    assert!(both.iter().flatten().all(|written| written.ttl == Some(granted)), "{both:?}");
    tokio::time::sleep(short + Duration::from_millis(500)).await;
    assert_eq!(kv.list("").await?.len(), 3, "they live as long as was told");
    Ok(())
}
