//! The leader is cut off from its peers, and not from us: it does not know yet that it leads nobody.

mod common;

use common::{Setup, hosts};
use kv_core::Kv;
use kv_testsuite::{
    Failure,
    failover::{goes_on, soon},
    network::{Network, inside},
};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes network namespaces: needs root, or the right to make user namespaces"]
async fn the_leader_is_cut_off_from_its_peers() -> Result<(), Failure> {
    if !inside("the_leader_is_cut_off_from_its_peers")? {
        return Ok(());
    }
    let network = Network::of(3)?;
    let nodes = hosts(&Setup::cluster("etcd"), &network, 3)?;
    nodes.iter().try_for_each(|node| node.daemon.spawn())?;
    for node in &nodes {
        node.ready().await?;
    }
    let open = async |order: [usize; 3]| -> Result<Kv, Failure> {
        let members = order.map(|n| nodes[n].address.to_string()).join(",");
        Ok(kv_etcd::open(&format!("etcd://{members}/cluster/")).await?.with_deadline(Duration::from_secs(2)))
    };
    // Whoever asks it first must find another; whoever asks another first must not need it.
    for first in [true, false] {
        let leads = open([0, 1, 2]).await?.health().await?.leader.ok_or("the cluster has a leader")?;
        let leader = nodes.iter().position(|node| node.is(&leads)).ok_or("the leader is one of ours")?;
        let (next, last) = ((leader + 1) % 3, (leader + 2) % 3);
        let kv = open(if first { [leader, next, last] } else { [next, last, leader] }).await?;
        let (host, others) = (u8::try_from(leader + 1)?, open([next, last, next]).await?);
        let away = async || {
            network.cut_off(host)?;
            soon("another leader", async {
                // Until there is one, the question may fail.
                while others.health().await.map_or(true, |health| health.leader.as_ref() == Some(&leads)) {}
            })
            .await
        };
        goes_on(&kv, away, async || network.join(host)).await?;
        kv.close().await?;
        others.close().await?;
    }
    Ok(())
}
