//! The leader is cut off from its peers, and not from us: it does not know yet that it leads nobody.

mod common;

use common::{Node, Setup, hosts};
use kv_core::{Kv, Linearizable};
use kv_testsuite::{
    Failure,
    failover::{goes_on, is_lost_in_time, soon, written},
    network::{Network, inside},
};
use std::time::{Duration, Instant};

/// Members on hosts of their own, and the place of the one that leads.
async fn ensemble(setup: &Setup, network: &Network) -> Result<(Vec<Node>, usize), Failure> {
    let nodes = hosts(setup, network, 3)?;
    nodes.iter().try_for_each(|node| node.daemon.spawn())?;
    for node in &nodes {
        node.ready().await?;
    }
    let leader = leader(&nodes, &[0, 1, 2]).await?;
    Ok((nodes, leader))
}

/// Who leads, among the members at these places.
async fn leader(nodes: &[Node], places: &[usize]) -> Result<usize, Failure> {
    soon("a leader", async {
        loop {
            for &place in places {
                if nodes[place].mode().await.is_ok_and(|mode| mode == "leader") {
                    return place;
                }
            }
        }
    })
    .await
}

async fn open(nodes: &[Node], places: &[usize]) -> Result<Kv, Failure> {
    let hosts: Vec<_> = places.iter().map(|&place| nodes[place].address.to_string()).collect();
    let kv = kv_zookeeper::open(&format!("zookeeper://{}/cluster/", hosts.join(","))).await?;
    Ok(kv.with_deadline(Duration::from_secs(2)))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes network namespaces: needs root, or the right to make user namespaces"]
async fn the_leader_is_cut_off_from_its_peers() -> Result<(), Failure> {
    if !inside("the_leader_is_cut_off_from_its_peers")? {
        return Ok(());
    }
    let network = Network::of(3)?;
    let (nodes, _) = ensemble(&Setup::new("zookeeper"), &network).await?;
    for _ in 0..2 {
        let leads = leader(&nodes, &[0, 1, 2]).await?;
        let others = [(leads + 1) % 3, (leads + 2) % 3];
        let kv = open(&nodes, &[leads, others[0], others[1]]).await?;
        let away = async || {
            network.cut_off(u8::try_from(leads + 1)?)?;
            leader(&nodes, &others).await.map(drop)
        };
        goes_on(&kv, away, async || network.join(u8::try_from(leads + 1)?)).await?;
        kv.close().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes network namespaces: needs root, or the right to make user namespaces"]
async fn a_lock_by_a_leader_without_followers_is_lost_in_time() -> Result<(), Failure> {
    if !inside("a_lock_by_a_leader_without_followers_is_lost_in_time")? {
        return Ok(());
    }
    let network = Network::of(3)?;
    let (nodes, leads) = ensemble(&Setup::new("zookeeper"), &network).await?;
    let (kv, others) =
        (open(&nodes, &[leads]).await?, open(&nodes, &[(leads + 1) % 3, (leads + 2) % 3]).await?);
    let host = u8::try_from(leads + 1)?;
    is_lost_in_time(&kv, &others, || network.cut_off(host)).await
}

/// A leader believes in itself for as long as its `syncLimit`: what it says meanwhile is worth nothing.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes network namespaces: needs root, or the right to make user namespaces"]
async fn a_leader_without_followers_proves_nothing() -> Result<(), Failure> {
    if !inside("a_leader_without_followers_proves_nothing")? {
        return Ok(());
    }
    let network = Network::of(3)?;
    let believes = ["tickTime=500", "syncLimit=40"].map(str::to_owned);
    let setup = Setup { more: believes.into(), ..Setup::new("zookeeper") };
    let (nodes, leads) = ensemble(&setup, &network).await?;
    let kv = open(&nodes, &[leads]).await?;
    assert_eq!(kv.capabilities().linearizable, Linearizable::Always);
    kv.put("k", "v").await?;
    let ttl = Duration::from_secs(4);
    let (guard, lease) = (kv.new_lock("l").ttl(ttl).acquire().await?, kv.lease(ttl).await?);

    network.cut_off(u8::try_from(leads + 1)?)?;
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
        soon("the loss of the lock and the lease", async { tokio::join!(lost, reads) }).await?;
    let failed = [reads.0.err(), reads.1.err(), reads.2.err(), reads.3.err()];
    assert!(failed.iter().flatten().filter(|e| e.is_transient()).count() == 4, "each read: {failed:?}");
    // The last sign of life that counts began before the cut.
    assert!(lost < ttl + Duration::from_secs(1), "lost {lost:?} after the cut");
    assert_eq!(nodes[leads].mode().await?, "leader", "it still believes in itself");

    network.join(u8::try_from(leads + 1)?)?;
    written(&kv, "k").await
}
