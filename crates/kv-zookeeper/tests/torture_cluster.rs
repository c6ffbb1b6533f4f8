//! Workloads under fire on an ensemble of three members of ZooKeeper 3.9, each on a host of its own.
//! `KV_TORTURE_LONG=1 cargo test -p kv-zookeeper --test torture_cluster` runs the long form.

mod common;

use common::{Node, Setup, hosts, suite::nothing_is_left};
use kv_core::{Kv, async_trait};
use kv_testsuite::{Failure, Harness, Proxy, Server, Troubles, network::Network, torture::nemesis::Stroke};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use zookeeper_client::Client;

const MEMBERS: u8 = 3;
/// How long members may take to find each other.
const SOON: Duration = Duration::from_secs(90);

fn main() {
    kv_testsuite::network::enter();
    kv_testsuite::torture::main(Cluster::start, |url| async move { kv_zookeeper::open(&url).await })
}

struct Ensemble {
    nodes: Vec<Node>,
    network: Network,
    /// The member that is in trouble.
    met: Mutex<Option<usize>>,
    /// A copy of each one's data.
    saved: Mutex<Vec<TempDir>>,
}

impl Ensemble {
    async fn leader(&self) -> Result<usize, Failure> {
        let leads = async {
            loop {
                for (member, node) in self.nodes.iter().enumerate() {
                    if node.mode().await.is_ok_and(|mode| mode == "leader") {
                        return member;
                    }
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, leads).await.map_err(|_| "no member leads".into())
    }

    /// Returns when each member is one of the quorum: a session begins by a write, whoever is asked for it.
    async fn serves(&self) -> Result<(), Failure> {
        for node in &self.nodes {
            let session = async {
                let address = node.address.to_string();
                while !matches!(timeout(Duration::from_secs(2), Client::connect(&address)).await, Ok(Ok(_))) {
                    sleep(Duration::from_millis(20)).await;
                }
            };
            if timeout(SOON, session).await.is_err() {
                let (at, mode) = (node.address, node.mode().await);
                return Err(
                    format!("{at} takes no session, in the mode {mode:?}; its log:\n{}", node.log()).into()
                );
            }
        }
        Ok(())
    }

    fn met(&self) -> std::sync::MutexGuard<'_, Option<usize>> {
        self.met.lock().expect("nothing panics with it")
    }
}

#[async_trait]
impl Troubles for Ensemble {
    fn known(&self) -> Vec<Stroke> {
        use Stroke::*;
        vec![KillLeader, KillMember, PauseMember, CutOffLeader, CutOffMember, OneWay]
    }

    fn members(&self) -> usize {
        self.nodes.len()
    }

    async fn begin(&self, stroke: Stroke, member: usize) -> Result<(), Failure> {
        let member = match stroke {
            Stroke::KillLeader | Stroke::CutOffLeader => self.leader().await?,
            _ => member,
        };
        *self.met() = Some(member);
        let (node, host) = (&self.nodes[member], u8::try_from(member)? + 1);
        match stroke {
            Stroke::KillLeader | Stroke::KillMember => node.daemon.kill(),
            Stroke::PauseMember => node.daemon.pause(),
            Stroke::CutOffLeader | Stroke::CutOffMember => self.network.cut_off(host)?,
            Stroke::OneWay => self.network.mute(host)?,
            other => return Err(format!("{other:?} is not one of these").into()),
        }
        Ok(())
    }

    async fn end(&self, stroke: Stroke) -> Result<(), Failure> {
        let Some(member) = self.met().take() else { return Ok(()) };
        let (node, host) = (&self.nodes[member], u8::try_from(member)? + 1);
        match stroke {
            Stroke::KillLeader | Stroke::KillMember => node.daemon.spawn()?,
            Stroke::PauseMember => node.daemon.resume(),
            Stroke::CutOffLeader | Stroke::CutOffMember => self.network.join(host)?,
            Stroke::OneWay => self.network.unmute(host)?,
            other => return Err(format!("{other:?} is not one of these").into()),
        }
        self.serves().await
    }
}

/// All members at once.
#[async_trait]
impl Server for Ensemble {
    async fn stop(&self) {
        self.nodes.iter().for_each(|node| node.daemon.stop());
    }
    async fn kill(&self) {
        self.nodes.iter().for_each(|node| node.daemon.kill());
    }
    async fn start(&self) {
        for node in &self.nodes {
            node.daemon.spawn().expect("it started before");
        }
        self.serves().await.expect("it served before");
    }
    async fn pause(&self) {
        self.nodes.iter().for_each(|node| node.daemon.pause());
    }
    async fn resume(&self) {
        self.nodes.iter().for_each(|node| node.daemon.resume());
        self.serves().await.expect("it served before");
    }
    async fn save(&self) -> bool {
        Server::stop(self).await;
        let copies: Result<Vec<_>, Failure> = self.nodes.iter().map(Node::save).collect();
        *self.saved.lock().expect("nothing panics with it") = copies.expect("their data can be copied");
        Server::start(self).await;
        true
    }
    async fn restore_saved(&self) {
        Server::stop(self).await;
        for (node, copy) in self.nodes.iter().zip(&*self.saved.lock().expect("nothing panics with it")) {
            node.restore(copy).expect("its data can be written");
        }
        Server::start(self).await;
    }
}

/// The ensemble, whose clients begin at its members in turn.
struct Cluster {
    ensemble: Arc<Ensemble>,
    turn: AtomicUsize,
}

impl Cluster {
    async fn start() -> Result<Self, Failure> {
        let network = Network::of(MEMBERS)?;
        let nodes = hosts(&Setup::new("zookeeper"), &network, MEMBERS)?;
        nodes.iter().try_for_each(|node| node.daemon.spawn())?;
        let ensemble = Arc::new(Ensemble { nodes, network, met: Mutex::default(), saved: Mutex::default() });
        for node in &ensemble.nodes {
            node.ready().await?;
        }
        ensemble.serves().await?;
        Ok(Self { ensemble, turn: AtomicUsize::new(0) })
    }

    /// All members, beginning at the one whose turn it is.
    fn members(&self) -> Vec<SocketAddr> {
        let mut members: Vec<_> = self.ensemble.nodes.iter().map(|node| node.address).collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % members.len();
        members.rotate_left(turn);
        members
    }
}

fn url(members: &[SocketAddr], prefix: &str) -> String {
    let members: Vec<_> = members.iter().map(ToString::to_string).collect();
    format!("zookeeper://{}/{prefix}", members.join(","))
}

#[async_trait]
impl Harness for Cluster {
    fn name(&self) -> String {
        "zookeeper-cluster".into()
    }

    async fn open(&self, prefix: &str) -> kv_core::Result<Kv> {
        kv_zookeeper::open(&url(&self.members(), prefix)).await
    }

    /// What befalls the link leaves the ways to the members.
    async fn open_through(&self, proxy: &Proxy, prefix: &str) -> Option<kv_core::Result<Kv>> {
        let mut members = self.members();
        // The proxy's own is another one each time, and may be among these.
        members.truncate(2);
        members.insert(0, proxy.address());
        Some(kv_zookeeper::open(&url(&members, prefix)).await)
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
        Some(url(&self.members(), prefix))
    }

    async fn open_url(&self, url: &str) -> Option<kv_core::Result<Kv>> {
        Some(kv_zookeeper::open(url).await)
    }
}

/// When the last round has ended, no member shows anything of ours.
impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.ensemble.nodes.iter().for_each(nothing_is_left);
        }
    }
}
