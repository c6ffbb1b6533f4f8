//! Workloads under fire on three members of etcd 3.5, in a network of their own.
//! `KV_TORTURE_LONG=1 cargo test -p kv-etcd --test torture_cluster` runs the long form.

mod common;

use common::{
    Node, Setup, hosts,
    suite::{Tool, leftovers, shows_nothing},
};
use etcd_client::Client;
use kv_core::{Kv, Result, async_trait};
use kv_testsuite::{
    Failure, Foreign, Harness, Proxy, Server, Troubles, network::Network, torture::nemesis::Stroke,
};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// How long the members may take to have a leader that all know.
const ELECTS: Duration = Duration::from_secs(60);

fn main() {
    kv_testsuite::network::enter();
    kv_testsuite::torture::main(Three::start, |url: String| async move { kv_etcd::open(&url).await })
}

/// The cluster as a whole.
struct Three(Arc<Members>);

struct Members {
    nodes: Vec<Node>,
    network: Network,
    tool: Client,
    /// The place of the one that the stroke met.
    met: Mutex<Option<usize>>,
}

impl Three {
    async fn start() -> Result<Self, Failure> {
        let network = Network::of(3)?;
        // What a long run writes and nobody reads any more goes.
        let more = ["--auto-compaction-mode=periodic".into(), "--auto-compaction-retention=5s".into()];
        // The server's own times: members share the machine with all the clients.
        let setup = Setup { more: more.into(), heartbeat: 100, election: 1000, ..Setup::cluster("etcd") };
        let nodes = hosts(&setup, &network, 3)?;
        nodes.iter().try_for_each(|node| node.daemon.spawn())?;
        for node in &nodes {
            node.ready().await?;
        }
        let all: Vec<_> = nodes.iter().map(|node| node.address.to_string()).collect();
        let tool = Client::connect(all, None).await?;
        Ok(Self(Arc::new(Members { nodes, network, tool, met: Mutex::default() })))
    }
}

#[async_trait]
impl Harness for Three {
    fn name(&self) -> String {
        "etcd-cluster".into()
    }

    async fn open(&self, prefix: &str) -> Result<Kv> {
        kv_etcd::open(&self.0.url(self.0.nodes[0].address, prefix)).await
    }

    async fn open_through(&self, proxy: &Proxy, prefix: &str) -> Option<Result<Kv>> {
        Some(kv_etcd::open(&self.0.url(proxy.address(), prefix)).await)
    }

    fn address(&self) -> Option<SocketAddr> {
        Some(self.0.nodes[0].address)
    }

    fn server(&self) -> Option<Arc<dyn Server>> {
        Some(self.0.clone())
    }

    fn foreign(&self) -> Option<Arc<dyn Foreign>> {
        Some(Arc::new(Tool(self.0.tool.clone(), String::new())))
    }

    fn url(&self, prefix: &str) -> Option<String> {
        Some(self.0.url(self.0.nodes[0].address, prefix))
    }

    async fn open_url(&self, url: &str) -> Option<Result<Kv>> {
        Some(kv_etcd::open(url).await)
    }

    fn troubles(&self) -> Option<Arc<dyn Troubles>> {
        Some(self.0.clone())
    }

    async fn leftovers(&self, prefix: &str) -> Vec<String> {
        leftovers(&self.0.tool, prefix.as_bytes()).await.unwrap_or_else(|e| vec![e.to_string()])
    }
}

impl Drop for Three {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            shows_nothing(&self.0.nodes.iter().collect::<Vec<_>>(), &self.0.tool);
        }
    }
}

impl Members {
    /// Of all members; the first is reached here.
    fn url(&self, first: SocketAddr, prefix: &str) -> String {
        let [_, second, third] = &self.nodes[..] else { unreachable!("there are three") };
        format!("etcd://{first},{},{}/{prefix}", second.address, third.address)
    }

    /// Does it to all at once, for each may wait for the others.
    fn all(&self, to_one: impl Fn(&Node) + Sync) {
        std::thread::scope(|threads| {
            for node in &self.nodes {
                threads.spawn(|| to_one(node));
            }
        });
    }

    /// Returns when each member serves, with a leader.
    async fn serves(&self) -> Result<(), Failure> {
        for node in &self.nodes {
            node.ready().await?;
        }
        Ok(())
    }

    /// The place of the member that leads.
    async fn leader(&self) -> Result<usize, Failure> {
        let deadline = Instant::now() + ELECTS;
        loop {
            for (place, node) in self.nodes.iter().enumerate() {
                if node.metric("etcd_server_is_leader", &[]).await.is_ok_and(|leads| leads > 0.0) {
                    return Ok(place);
                }
            }
            if Instant::now() > deadline {
                return Err(format!("no member leads within {ELECTS:?}").into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn met(&self) -> std::sync::MutexGuard<'_, Option<usize>> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of the host of the member at this place.
fn host(place: usize) -> Result<u8, Failure> {
    Ok(u8::try_from(place + 1)?)
}

#[async_trait]
impl Troubles for Members {
    fn known(&self) -> Vec<Stroke> {
        use Stroke::*;
        vec![KillLeader, KillMember, PauseMember, CutOffLeader, CutOffMember, OneWay]
    }

    async fn begin(&self, stroke: Stroke, member: usize) -> Result<(), Failure> {
        let place = match stroke {
            Stroke::KillLeader | Stroke::CutOffLeader => self.leader().await?,
            _ => member,
        };
        *self.met() = Some(place);
        match stroke {
            Stroke::KillLeader | Stroke::KillMember => self.nodes[place].daemon.kill(),
            Stroke::PauseMember => self.nodes[place].daemon.pause(),
            Stroke::CutOffLeader | Stroke::CutOffMember => self.network.cut_off(host(place)?)?,
            Stroke::OneWay => self.network.mute(host(place)?)?,
            other => return Err(format!("{} is not known here", other.name()).into()),
        }
        Ok(())
    }

    async fn end(&self, stroke: Stroke) -> Result<(), Failure> {
        let Some(place) = self.met().take() else { return Ok(()) };
        match stroke {
            Stroke::KillLeader | Stroke::KillMember => self.nodes[place].daemon.spawn()?,
            Stroke::PauseMember => self.nodes[place].daemon.resume(),
            Stroke::CutOffLeader | Stroke::CutOffMember => self.network.join(host(place)?)?,
            _ => self.network.unmute(host(place)?)?,
        }
        self.serves().await
    }

    fn members(&self) -> usize {
        self.nodes.len()
    }
}

#[async_trait]
impl Server for Members {
    async fn stop(&self) {
        self.all(|node| node.daemon.stop());
    }
    async fn kill(&self) {
        self.all(|node| node.daemon.kill());
    }
    async fn start(&self) {
        self.all(|node| node.daemon.spawn().expect("it started before"));
        self.serves().await.expect("it served before");
    }
    async fn pause(&self) {
        self.all(|node| node.daemon.pause());
    }
    async fn resume(&self) {
        self.all(|node| node.daemon.resume());
    }
    async fn save(&self) -> bool {
        Server::stop(self).await;
        self.all(|node| node.keep_copy().expect("its folder is ours"));
        Server::start(self).await;
        true
    }
    async fn restore_saved(&self) {
        Server::stop(self).await;
        self.all(|node| node.put_copy_back().expect("its folder is ours"));
        Server::start(self).await;
    }
}
