//! The leader is cut off from its peers, and not from us.

mod common;

use common::{Node, Setup, hosts};
use kv_core::Kv;
use kv_testsuite::{
    Failure,
    network::{Network, inside},
    partition::Cluster,
};

/// Starts members on hosts of their own, and returns when they serve.
async fn started(network: &Network) -> Result<Vec<Node>, Failure> {
    let nodes = hosts(&Setup::cluster("etcd"), network, 3)?;
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
    let members = nodes.iter().map(|node| (node.name.clone(), node.address));
    Cluster::new(network, members, async |hosts: String| {
        kv_etcd::open(&format!("etcd://{hosts}/cluster/")).await
    })
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes network namespaces: needs root, or the right to make user namespaces"]
async fn the_leader_is_cut_off_from_its_peers() -> Result<(), Failure> {
    if !inside("the_leader_is_cut_off_from_its_peers")? {
        return Ok(());
    }
    let network = Network::of(3)?;
    let nodes = started(&network).await?;
    cluster(&network, &nodes).goes_on().await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes network namespaces: needs root, or the right to make user namespaces"]
async fn a_lock_by_a_leader_without_followers_is_lost_in_time() -> Result<(), Failure> {
    if !inside("a_lock_by_a_leader_without_followers_is_lost_in_time")? {
        return Ok(());
    }
    let network = Network::of(3)?;
    let nodes = started(&network).await?;
    cluster(&network, &nodes).loses_in_time().await
}
