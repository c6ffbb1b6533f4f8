//! Workloads under fire on an ensemble of three members of ZooKeeper 3.9, each on a host of its
//! own. `KV_TORTURE_LONG=1 cargo test -p kv-zookeeper --test torture_cluster` runs the long form.

mod common;

use common::{Node, Setup, hosts, suite::nothing_is_left};
use kv_core::{Kv, driver::async_trait};
use kv_testsuite::{
    Failure, Harness, Proxy, Server, Troubles, cluster::Member, ensemble::Ensemble, network::Network,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

const MEMBERS: u8 = 3;

fn main() {
    kv_testsuite::network::enter();
    kv_testsuite::torture::main(Cluster::start, |url| async move { kv_zookeeper::open(&url).await })
}

/// The ensemble. Its clients begin at its members in turn.
struct Cluster {
    ensemble: Arc<Ensemble<Node>>,
    turn: AtomicUsize,
}

impl Cluster {
    async fn start() -> Result<Self, Failure> {
        let network = Network::of(MEMBERS)?;
        let nodes = hosts(&Setup::new("zookeeper"), &network, MEMBERS)?;
        let ensemble = Arc::new(Ensemble::start(network, nodes).await?);
        Ok(Self { ensemble, turn: AtomicUsize::new(0) })
    }

    /// Returns the addresses of all members, beginning at the one whose turn it is.
    fn members(&self) -> Vec<SocketAddr> {
        let mut members: Vec<_> = self.ensemble.members().iter().map(|node| node.address).collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % members.len();
        members.rotate_left(turn);
        members
    }
}

#[async_trait]
impl Harness for Cluster {
    fn name(&self) -> String {
        "zookeeper-cluster".into()
    }

    async fn open(&self, prefix: &str) -> kv_core::Result<Kv> {
        kv_zookeeper::open(&Node::url(&self.members(), prefix)).await
    }

    /// Opens a store through the proxy, with direct ways to members beside it: strokes at the link
    /// leave these.
    async fn open_through(&self, proxy: &Proxy, prefix: &str) -> Option<kv_core::Result<Kv>> {
        let mut members = self.members();
        // The member behind the proxy is another one each time, and may be among these.
        members.truncate(2);
        members.insert(0, proxy.address());
        Some(kv_zookeeper::open(&Node::url(&members, prefix)).await)
    }

    fn address(&self) -> Option<SocketAddr> {
        self.members().first().copied()
    }

    fn server(&self) -> Option<Arc<dyn Server>> {
        Some(self.ensemble.clone())
    }

    fn troubles(&self) -> Option<Arc<dyn Troubles>> {
        Some(self.ensemble.clone())
    }

    fn url(&self, prefix: &str) -> Option<String> {
        Some(Node::url(&self.members(), prefix))
    }

    async fn open_url(&self, url: &str) -> Option<kv_core::Result<Kv>> {
        Some(kv_zookeeper::open(url).await)
    }
}

/// Checks that no member has anything of ours left when the last round has ended.
impl Drop for Cluster {
    fn drop(&mut self) {
        self.ensemble.members().iter().for_each(nothing_is_left);
    }
}
