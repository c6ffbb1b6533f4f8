//! The leases of users, which outlive their keys, and those of TTLs, which puts share.

mod common;

use common::{Node, Setup, nodes, single};
use kv_core::{ErrorKind, Kv};
use kv_testsuite::{Failure, Proxy, failover::soon};
use std::{
    pin::pin,
    time::{Duration, Instant},
};

const TTL: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

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
        let emptied = async |what: &str| {
            other.put("mark", "").ttl(TTL).await?;
            other.delete("mark").await?;
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
        kv.put("a", "").ttl(TTL).await?;
        assert!(lease.revoke().await?, "it was alive");
        assert!(kv.exists("a").await?, "it has a lease of its own");
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
    assert_eq!(kv.list("new").await?.len(), 150);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn puts_of_one_ttl_share_a_lease_that_no_key_ends() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let (kv, other) = (open(node).await?, open(node).await?);
    // The lease of an hour is given to puts for a minute.
    let put = |key: String| kv.put(key, "").ttl(HOUR);
    for n in 0..40 {
        put(format!("d/{n}")).await?;
    }
    let at_once: Vec<_> = (40..80).map(|n| tokio::spawn(put(format!("d/{n}")).into_future())).collect();
    for put in at_once {
        assert_eq!(put.await??.ttl, Some(HOUR));
    }
    let both = kv.transact().then(put("e/a".into())).then(put("e/b".into()));
    assert!(both.await?.is_committed());
    put("d/0".into()).if_missing().await.unwrap_err();
    left(node, 1).await?;
    // Another TTL, and another store, have leases of their own.
    kv.put("f", "").ttl(2 * HOUR).await?;
    other.put("g", "").ttl(HOUR).await?;
    left(node, 3).await?;

    // Whatever becomes of some of its keys: the others keep their lease.
    put("d/1".into()).await?;
    kv.put("d/2", "").await?;
    kv.delete("d/3").await?;
    other.delete("d/4").await?;
    other.put("d/5", "").ttl(HOUR).await?;
    assert!(kv.transact().then(kv.delete("e/a")).await?.is_committed());
    kv.delete_tree("f").await?;
    kv.close().await?;
    left(node, 3).await?;
    assert_eq!(other.list("d").await?.len(), 78);
    assert!(other.exists("e/b").await?);
    other.delete_tree("").await?;
    left(node, 3).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_without_keys_is_revoked() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let kv = open(node).await?;
    let seen = kv.put("a", "").await?.version;
    kv.put("a", "").await?;
    let refused = async || {
        let refused = kv.put("a", "").ttl(HOUR).if_version(seen).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::KeyModified);
        let refused = kv.transact().when_missing("a").then(kv.put("b", "").ttl(HOUR)).await?;
        assert!(!refused.is_committed());
        Ok::<_, Failure>(())
    };
    refused().await?;
    left(node, 0).await?;
    refused().await?;
    kv.close().await?;
    assert_eq!(leases(node).await?, 0, "when it is closed");
    Ok(())
}

/// An administrator, or a server that was put back to an older copy of its data.
#[tokio::test(flavor = "multi_thread")]
async fn a_put_whose_lease_is_gone_takes_another() -> Result<(), Failure> {
    for kind in ["etcd", "etcd34"] {
        let node = &single(kind).await?;
        let kv = open(node).await?;
        let gone = async || {
            let tool = etcd_client::Client::connect([node.address.to_string()], None).await?;
            for lease in tool.lease_client().leases().await?.leases() {
                tool.lease_client().revoke(lease.id()).await?;
            }
            Ok::<_, Failure>(())
        };
        let first = kv.put("a", "").ttl(HOUR).await?.version;
        gone().await?;
        assert!(!kv.exists("a").await?);
        let late = kv.put("a", "").ttl(HOUR).if_version(first).await;
        assert_eq!(late.unwrap_err().kind(), ErrorKind::KeyModified);
        assert_eq!(kv.put("a", "").ttl(HOUR).await?.ttl, Some(HOUR));
        gone().await?;
        kv.put("a", "").ttl(HOUR).if_missing().await?;
        gone().await?;
        let both = kv.transact().then(kv.put("a", "").ttl(HOUR)).then(kv.put("b", "").ttl(2 * HOUR));
        assert!(both.await?.is_committed());
        assert_eq!(kv.list("").await?.len(), 2);
        // Of a lease of a user the answer is what it was.
        let lease = kv.lease(TTL).await?;
        gone().await?;
        let lost = kv.transact().then(kv.put("a", "").ttl(HOUR)).then(kv.put("b", "").lease(&lease)).await;
        assert_eq!(lost.unwrap_err().kind(), ErrorKind::LeaseLost);
        assert!(kv.list("").await?.is_empty());
        left(node, 0).await?;
    }
    Ok(())
}

/// Puts that follow each other share leases, and each key lives by its own put.
#[tokio::test(flavor = "multi_thread")]
async fn no_key_ends_before_its_ttl_or_stays_for_long_behind_it() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let (kv, ttl) = (open(node).await?, Duration::from_secs(2));
    let late = kv.capabilities().lateness(ttl);
    let mut keys = Vec::new();
    for n in 0..30 {
        let kv = kv.clone();
        let before = Instant::now();
        let granted = kv.put(format!("d/{n}"), "").ttl(ttl).await?.ttl.ok_or("it has a TTL")?;
        let put = Instant::now();
        keys.push(tokio::spawn(async move {
            loop {
                let asked = put.elapsed();
                match kv.exists(format!("d/{n}")).await? {
                    false if before.elapsed() < granted => {
                        return Err(format!("{n} lived for {:?} of {granted:?}", before.elapsed()).into());
                    }
                    false => return Ok::<_, Failure>(()),
                    true if asked > granted + late => return Err(format!("{n} is there still").into()),
                    true => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        }));
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    for key in keys {
        key.await??;
    }
    Ok(())
}

/// A TTL is looked at before the store is asked for a lease of another.
#[tokio::test(flavor = "multi_thread")]
async fn a_ttl_that_is_refused_leaves_no_lease_of_another() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let kv = open(node).await?;
    let refused = kv.transact().then(kv.put("a", "").ttl(TTL)).then(kv.put("b", "").ttl(Duration::MAX)).await;
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

/// A program polls some of its calls, and waits for others meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_is_not_polled_holds_back_none_of_its_ttl() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let kv = open(node).await?;
    let mut first = pin!(kv.put("a", "").ttl(HOUR).into_future());
    assert!(futures::poll!(first.as_mut()).is_pending());
    assert_eq!(kv.put("b", "").ttl(HOUR).await?.ttl, Some(HOUR));
    assert_eq!(first.await?.ttl, Some(HOUR));
    left(node, 1).await
}

/// Opens a store through a proxy, which holds the answer to the next request.
async fn behind(node: &Node) -> Result<(Proxy, Kv), Failure> {
    let proxy = Proxy::start(node.address).await;
    let kv = kv_etcd::open(&format!("etcd://{}/leases/", proxy.address())).await?;
    kv.get("a").await?;
    proxy.hold_next_answer();
    Ok((proxy, kv))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_whose_grant_had_no_answer_is_the_one_that_is_had() -> Result<(), Failure> {
    for kind in ["etcd", "etcd34"] {
        let node = &single(kind).await?;
        let (proxy, kv) = behind(node).await?;
        let lease = tokio::spawn(kv.lease(TTL).into_future());
        left(node, 1).await?;
        proxy.reset().await;
        proxy.heal().await;
        let lease = lease.await??;
        assert_eq!((lease.ttl(), leases(node).await?), (TTL, 1));
        kv.put("a", "").lease(&lease).await?;
        assert!(lease.revoke().await?, "it was alive");
        left(node, 0).await?;

        proxy.hold_next_answer();
        let put = tokio::spawn(kv.put("a", "").ttl(HOUR).into_future());
        left(node, 1).await?;
        proxy.reset().await;
        proxy.heal().await;
        assert_eq!(put.await??.ttl, Some(HOUR));
        left(node, 1).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_of_which_nobody_heard_is_revoked_after_the_outage() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let (proxy, kv) = behind(node).await?;
    let hasty = kv.with_deadline(Duration::from_secs(5));
    let lease = tokio::spawn(hasty.lease(TTL).into_future());
    left(node, 1).await?;
    proxy.cut().await;
    let unheard = lease.await?.unwrap_err();
    assert_eq!(unheard.kind(), ErrorKind::OutcomeUnknown, "{unheard}");
    // A first attempt at revoking it fails within this time.
    tokio::time::sleep(Duration::from_secs(2)).await;
    proxy.heal().await;
    left(node, 0).await
}
