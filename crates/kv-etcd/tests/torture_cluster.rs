//! Workloads under fire on three members of etcd 3.5, in a network of their own.
//! `KV_TORTURE_LONG=1 cargo test -p kv-etcd --test torture_cluster` runs the long form.

mod common;

use common::{
    Node, Setup, hosts,
    suite::{Tool, leftovers, shows_nothing},
};
use etcd_client::Client;
use kv_core::{Kv, Result, driver::async_trait};
use kv_testsuite::{
    Failure, Foreign, Harness, Proxy, Server, Troubles, cluster::Member, ensemble::Ensemble, network::Network,
};
use std::{net::SocketAddr, sync::Arc};

fn main() {
    kv_testsuite::network::enter();
    kv_testsuite::torture::main(Three::start, |url: String| async move { kv_etcd::open(&url).await })
}

struct Three {
    ensemble: Arc<Ensemble<Node>>,
    tool: Client,
}

impl Three {
    async fn start() -> Result<Self, Failure> {
        let network = Network::of(3)?;
        // History goes that a long run writes and nobody reads any more.
        let more = ["--auto-compaction-mode=periodic".into(), "--auto-compaction-retention=5s".into()];
        // These are the server's own times: members share the machine with all the clients.
        let setup = Setup { more: more.into(), heartbeat: 100, election: 1000, ..Setup::cluster("etcd") };
        let nodes = hosts(&setup, &network, 3)?;
        let all: Vec<_> = nodes.iter().map(|node| node.address.to_string()).collect();
        let ensemble = Arc::new(Ensemble::start(network, nodes).await?);
        Ok(Self { ensemble, tool: Client::connect(all, None).await? })
    }

    fn first(&self) -> SocketAddr {
        self.ensemble.members()[0].address
    }

    /// Returns the URL of all members; the first of them is reached at this address.
    fn url_by(&self, first: SocketAddr, prefix: &str) -> String {
        let [_, second, third] = self.ensemble.members() else { unreachable!("there are three") };
        Node::url(&[first, second.address, third.address], prefix)
    }
}

#[async_trait]
impl Harness for Three {
    fn name(&self) -> String {
        "etcd-cluster".into()
    }

    async fn open(&self, prefix: &str) -> Result<Kv> {
        kv_etcd::open(&self.url_by(self.first(), prefix)).await
    }

    async fn open_through(&self, proxy: &Proxy, prefix: &str) -> Option<Result<Kv>> {
        Some(kv_etcd::open(&self.url_by(proxy.address(), prefix)).await)
    }

    fn address(&self) -> Option<SocketAddr> {
        Some(self.first())
    }

    fn server(&self) -> Option<Arc<dyn Server>> {
        Some(self.ensemble.clone())
    }

    fn foreign(&self) -> Option<Arc<dyn Foreign>> {
        Some(Arc::new(Tool(self.tool.clone(), String::new())))
    }

    fn url(&self, prefix: &str) -> Option<String> {
        Some(self.url_by(self.first(), prefix))
    }

    fn url_through(&self, proxy: &Proxy, prefix: &str) -> Option<String> {
        Some(Node::url(&[proxy.address()], prefix))
    }

    async fn open_url(&self, url: &str) -> Option<Result<Kv>> {
        Some(kv_etcd::open(url).await)
    }

    fn troubles(&self) -> Option<Arc<dyn Troubles>> {
        Some(self.ensemble.clone())
    }

    async fn leftovers(&self, prefix: &str) -> Vec<String> {
        leftovers(&self.tool, prefix.as_bytes()).await.unwrap_or_else(|e| vec![e.to_string()])
    }
}

impl Drop for Three {
    fn drop(&mut self) {
        shows_nothing(&self.ensemble.members().iter().collect::<Vec<_>>(), &self.tool);
    }
}
