//! The leader is cut off from its peers, and not from us: it does not know yet that it leads nobody.

mod common;

use common::{Node, Setup, hosts};
use kv_core::{Kv, Linearizable};
use kv_testsuite::{
    Failure,
    failover::{goes_on, is_lost_in_time, soon},
    network::{Network, inside},
};
use std::time::Duration;

/// Members on hosts of their own.
async fn cluster(network: &Network) -> Result<Vec<Node>, Failure> {
    let nodes = hosts(&Setup::cluster("etcd"), network, 3)?;
    nodes.iter().try_for_each(|node| node.daemon.spawn())?;
    for node in &nodes {
        node.ready().await?;
    }
    Ok(nodes)
}

async fn open(nodes: &[Node], places: &[usize]) -> Result<Kv, Failure> {
    let members: Vec<_> = places.iter().map(|&place| nodes[place].address.to_string()).collect();
    let kv = kv_etcd::open(&format!("etcd://{}/cluster/", members.join(","))).await?;
    Ok(kv.with_deadline(Duration::from_secs(2)))
}

/// Who leads, as the members at these places say.
async fn leader(nodes: &[Node], places: &[usize], not: Option<usize>) -> Result<usize, Failure> {
    let kv = open(nodes, places).await?;
    let leads = soon("a leader", async {
        loop {
            // Until there is one, the question may fail.
            let leads = kv.health().await.ok().and_then(|health| health.leader).unwrap_or_default();
            let place = nodes.iter().position(|node| node.is(&leads));
            if let Some(place) = place.filter(|place| Some(*place) != not) {
                return place;
            }
        }
    });
    let leads = leads.await?;
    kv.close().await?;
    Ok(leads)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes network namespaces: needs root, or the right to make user namespaces"]
async fn the_leader_is_cut_off_from_its_peers() -> Result<(), Failure> {
    if !inside("the_leader_is_cut_off_from_its_peers")? {
        return Ok(());
    }
    let network = Network::of(3)?;
    let nodes = cluster(&network).await?;
    // Whoever asks it first must find another; whoever asks another first must not need it.
    for first in [true, false] {
        let leads = leader(&nodes, &[0, 1, 2], None).await?;
        let (host, next, last) = (u8::try_from(leads + 1)?, (leads + 1) % 3, (leads + 2) % 3);
        let kv = open(&nodes, &if first { [leads, next, last] } else { [next, last, leads] }).await?;
        let away = async || {
            network.cut_off(host)?;
            leader(&nodes, &[next, last], Some(leads)).await.map(drop)
        };
        goes_on(&kv, away, async || network.join(host)).await?;
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
    let nodes = cluster(&network).await?;
    let leads = leader(&nodes, &[0, 1, 2], None).await?;
    let (kv, others) =
        (open(&nodes, &[leads]).await?, open(&nodes, &[(leads + 1) % 3, (leads + 2) % 3]).await?);
    assert_eq!(kv.capabilities().linearizable, Linearizable::Always);
    let host = u8::try_from(leads + 1)?;
    is_lost_in_time(&kv, &others, || network.cut_off(host)).await
}
