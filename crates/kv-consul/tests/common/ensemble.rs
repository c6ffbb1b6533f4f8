//! Three servers on hosts of their own, and what can happen to them.

use super::{
    suite::{Tool, whole_server},
    *,
};
use kv_core::Kv;
use kv_testsuite::{
    Foreign, Harness, Proxy, Server, Troubles, cluster::Member, ensemble::Ensemble, leavings::none_at_the_end,
};
use std::fs;

/// Returns the further settings of members. A member that is taken for dead keeps its vote:
/// otherwise one that is back gets a vote again only ten seconds later.
fn settings() -> Value {
    json!({
        "limits": { "http_max_conns_per_client": 4000 },
        "autopilot": { "cleanup_dead_servers": false },
    })
}

/// Starts a cluster of our own, and returns when it serves.
pub async fn suite() -> Result<Clustered, Failure> {
    let network = Network::of(3)?;
    let members = hosts(&network, 3, &settings())?;
    Ok(Clustered(Arc::new(Ensemble::start(network, members).await?)))
}

#[async_trait]
impl Member for Node {
    const SCHEME: &'static str = "consul";

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn named(&self) -> String {
        self.rpc.to_string()
    }

    async fn leads(&self) -> bool {
        let leader = http(self.address, "GET /v1/status/leader", b"").await;
        leader.and_then(|answer| answer.json()).is_ok_and(|leader| leader == json!(self.rpc.to_string()))
    }

    /// Returns when the server takes writes, and knows all members as alive and with a vote.
    async fn serves(&self, all: &[Self]) -> Result<(), Failure> {
        self.ready().await?;
        let is_whole = || async {
            let is = self.is_whole(all.len()).await.unwrap_or(false);
            if !is {
                self.bring_together(all).await;
            }
            is
        };
        self.daemon.serves(is_whole).await
    }

    async fn open(url: &str) -> kv_core::Result<Kv> {
        kv_consul::open(url).await
    }
}

impl Node {
    /// Tells the server where the others are, as an operator does: servers that took each other
    /// for dead look again by themselves only after half a minute.
    async fn bring_together(&self, all: &[Self]) {
        for other in all.iter().filter(|other| other.name != self.name) {
            // The other server may not be there yet, and is told of again then.
            let _ = http(self.address, &format!("PUT /v1/agent/join/{}", other.serf), b"").await;
        }
    }

    async fn is_whole(&self, members: usize) -> Result<bool, Failure> {
        let gossip = http(self.address, "GET /v1/agent/members", b"").await?.json()?;
        let votes = http(self.address, "GET /v1/operator/raft/configuration", b"").await?.json()?;
        let alive = |of: &&Value| of["Status"] == 1;
        let has_vote = |of: &&Value| of["Voter"] == true;
        let count = |all: &Value, is: &dyn Fn(&&Value) -> bool| {
            all.as_array().map_or(0, |all| all.iter().filter(is).count())
        };
        Ok(count(&gossip, &alive) == members && count(&votes["Servers"], &has_vote) == members)
    }
}

pub struct Clustered(Arc<Ensemble<Node>>);

impl Clustered {
    /// Opens a store on the first of these, and on the others when it fails.
    async fn open_at(&self, first: SocketAddr, prefix: &str) -> kv_core::Result<Kv> {
        kv_consul::open(&self.url_at(first, prefix)).await
    }

    fn url_at(&self, first: SocketAddr, prefix: &str) -> String {
        let others = self.0.members().iter().skip(1).map(|member| member.address);
        Node::url(&[first].into_iter().chain(others).collect::<Vec<_>>(), prefix)
    }

    fn first(&self) -> &Node {
        &self.0.members()[0]
    }
}

#[async_trait]
impl Harness for Clustered {
    fn name(&self) -> String {
        "consul-cluster".into()
    }

    async fn open(&self, prefix: &str) -> kv_core::Result<Kv> {
        self.open_at(self.first().address, prefix).await
    }

    async fn open_through(&self, proxy: &Proxy, prefix: &str) -> Option<kv_core::Result<Kv>> {
        Some(self.open_at(proxy.address(), prefix).await)
    }

    fn address(&self) -> Option<SocketAddr> {
        Some(self.first().address)
    }

    fn server(&self) -> Option<Arc<dyn Server>> {
        Some(self.0.clone())
    }

    fn troubles(&self) -> Option<Arc<dyn Troubles>> {
        Some(self.0.clone())
    }

    fn foreign(&self) -> Option<Arc<dyn Foreign>> {
        Some(Arc::new(Tool(self.first().address, String::new())))
    }

    fn url(&self, prefix: &str) -> Option<String> {
        Some(self.url_at(self.first().address, prefix))
    }

    fn url_through(&self, proxy: &Proxy, prefix: &str) -> Option<String> {
        Some(Node::url(&[proxy.address()], prefix))
    }

    async fn open_url(&self, url: &str) -> Option<kv_core::Result<Kv>> {
        Some(kv_consul::open(url).await)
    }

    fn speaks_http(&self) -> bool {
        true
    }

    async fn internals(&self, prefix: &str) -> Option<Vec<String>> {
        Some(self.leftovers(prefix).await)
    }

    async fn leftovers(&self, prefix: &str) -> Vec<String> {
        names(self.first().address, prefix).await.unwrap_or_else(|e| vec![e.to_string()])
    }
}

/// Checks, when the last round has ended, that the members show nothing of ours.
impl Drop for Clustered {
    fn drop(&mut self) {
        let left = none_at_the_end(async || whole_server(self.first()).await);
        for member in self.0.members() {
            member.daemon.kill();
            let _ = fs::remove_dir_all(member.folder.path());
        }
        left.unwrap();
    }
}
