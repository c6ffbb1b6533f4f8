//! The leader is cut off from its peers, and not from its clients.

mod common;

use common::{Node, Setup, hosts};
use kv_core::Linearizable;
use kv_testsuite::{
    Failure,
    failover::{soon, written},
    network::Network,
    partition::{Apart, apart},
};
use std::time::{Duration, Instant};

fn three(network: &Network) -> Result<Vec<Node>, Failure> {
    hosts(&Setup::new("zookeeper"), network, 3)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes network namespaces: needs root, or the right to make user namespaces"]
async fn the_leader_is_cut_off_from_its_peers() -> Result<(), Failure> {
    apart("the_leader_is_cut_off_from_its_peers", three, Apart::goes_on).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes network namespaces: needs root, or the right to make user namespaces"]
async fn a_lock_by_a_leader_without_followers_is_lost_in_time() -> Result<(), Failure> {
    apart("a_lock_by_a_leader_without_followers_is_lost_in_time", three, Apart::loses_in_time).await
}

/// A leader takes itself for one as long as its `syncLimit`: its answers meanwhile prove nothing.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes network namespaces: needs root, or the right to make user namespaces"]
async fn a_leader_without_followers_proves_nothing() -> Result<(), Failure> {
    let believes = ["tickTime=500", "syncLimit=40"].map(str::to_owned);
    let setup = Setup { more: believes.into(), ..Setup::new("zookeeper") };
    let members = |network: &Network| hosts(&setup, network, 3);
    apart("a_leader_without_followers_proves_nothing", members, proves_nothing).await
}

async fn proves_nothing(apart: Apart<Node>) -> Result<(), Failure> {
    let cluster = apart.cluster();
    let [leads, ..] = cluster.leader().await?;
    let kv = cluster.open(&[leads]).await?;
    assert_eq!(kv.capabilities().linearizable, Linearizable::Always);
    kv.put("k", "v").await?;
    let ttl = Duration::from_secs(4);
    let (guard, lease) = (kv.new_lock("l").ttl(ttl).acquire().await?, kv.lease(ttl).await?);

    apart.cut_off(leads)?;
    let cut = Instant::now();
    assert!(kv.get("k").stale().await?.is_some(), "it serves");
    let lost = async {
        tokio::join!(guard.lost(), lease.lost());
        cut.elapsed()
    };
    let reads = async {
        tokio::join!(
            kv.get("k").into_future(),
            kv.exists("k").into_future(),
            kv.list("d").into_future(),
            kv.lock_holder("l").into_future()
        )
    };
    let (lost, reads) =
        soon("the loss of the lock and the lease", Box::pin(async { tokio::join!(lost, reads) })).await?;
    let failed = [reads.0.err(), reads.1.err(), reads.2.err(), reads.3.err()];
    assert!(failed.iter().flatten().filter(|e| e.is_transient()).count() == 4, "each read: {failed:?}");
    // The last sign of life that counts began before the cut.
    assert!(lost < ttl + Duration::from_secs(1), "lost {lost:?} after the cut");
    assert_eq!(cluster.members()[leads].mode().await?, "leader", "it still believes in itself");

    apart.join(leads)?;
    written(&kv, "k").await
}
