//! The leader is cut off from its peers, and not from its clients.

mod common;

use common::{Node, Setup, hosts};
use kv_core::{Kv, Linearizable};
use kv_testsuite::{
    Failure,
    failover::{soon, written},
    network::{Network, inside},
    partition::Cluster,
};
use std::time::{Duration, Instant};

/// Starts members on hosts of their own, and returns when they serve.
async fn started(setup: &Setup, network: &Network) -> Result<Vec<Node>, Failure> {
    let nodes = hosts(setup, network, 3)?;
    nodes.iter().try_for_each(|node| node.daemon.spawn())?;
    for node in &nodes {
        node.ready().await?;
    }
    Ok(nodes)
}

fn cluster<'a>(
    network: &'a Network,
    nodes: &[Node],
) -> Cluster<'a, impl AsyncFn(String) -> kv_core::Result<Kv> + use<>> {
    let members = nodes.iter().map(|node| (node.address.to_string(), node.address));
    Cluster::new(network, members, async |hosts: String| {
        kv_zookeeper::open(&format!("zookeeper://{hosts}/cluster/")).await
    })
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes network namespaces: needs root, or the right to make user namespaces"]
async fn the_leader_is_cut_off_from_its_peers() -> Result<(), Failure> {
    if !inside("the_leader_is_cut_off_from_its_peers")? {
        return Ok(());
    }
    let network = Network::of(3)?;
    let nodes = started(&Setup::new("zookeeper"), &network).await?;
    cluster(&network, &nodes).goes_on().await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes network namespaces: needs root, or the right to make user namespaces"]
async fn a_lock_by_a_leader_without_followers_is_lost_in_time() -> Result<(), Failure> {
    if !inside("a_lock_by_a_leader_without_followers_is_lost_in_time")? {
        return Ok(());
    }
    let network = Network::of(3)?;
    let nodes = started(&Setup::new("zookeeper"), &network).await?;
    cluster(&network, &nodes).loses_in_time().await
}

/// A leader takes itself for one as long as its `syncLimit`: its answers meanwhile prove nothing.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes network namespaces: needs root, or the right to make user namespaces"]
async fn a_leader_without_followers_proves_nothing() -> Result<(), Failure> {
    if !inside("a_leader_without_followers_proves_nothing")? {
        return Ok(());
    }
    let network = Network::of(3)?;
    let believes = ["tickTime=500", "syncLimit=40"].map(str::to_owned);
    let setup = Setup { more: believes.into(), ..Setup::new("zookeeper") };
    let nodes = started(&setup, &network).await?;
    let cluster = cluster(&network, &nodes);
    let (leads, _) = cluster.leader().await?;
    let kv = cluster.open(&[leads]).await?;
    assert_eq!(kv.capabilities().linearizable, Linearizable::Always);
    kv.put("k", "v").await?;
    let ttl = Duration::from_secs(4);
    let (guard, lease) = (kv.new_lock("l").ttl(ttl).acquire().await?, kv.lease(ttl).await?);

    cluster.cut_off(leads)?;
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
    assert_eq!(nodes[leads].mode().await?, "leader", "it still believes in itself");

    cluster.join(leads)?;
    written(&kv, "k").await
}
