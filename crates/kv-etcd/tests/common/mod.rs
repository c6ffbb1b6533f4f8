//! etcd servers of our own.

#![allow(unreachable_pub, reason = "a module of test programs")]
#![allow(dead_code, reason = "each test program uses a part")]

use kv_core::{Kv, driver::async_trait};
use kv_testsuite::{
    Failure, OwnServer,
    cluster::Member,
    network::Network,
    places::{
        HostPort::{Clients, Peers},
        Place, on_hosts, on_loopback,
    },
    process::{
        Daemon, Port, ask, client, folder,
        launch::etcd::{Member as Launch, Timing},
        server,
    },
};
use std::{net::SocketAddr, path::PathBuf, process::Command, time::Duration};
use tempfile::TempDir;

pub mod fire;
pub mod suite;
pub mod users;

/// Names the variable that holds the URL of a live server to run the suite on.
pub const LIVE: &str = "KV_ETCD_URL";

/// The settings with which a node is started, besides its own addresses.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Names the server: `etcd`, which is 3.5, or `etcd34`.
    pub kind: String,
    pub heartbeat: u32,
    pub election: u32,
    pub more: Vec<String>,
    pub tls: bool,
    /// Sets where a server that is alone speaks TLS, besides plain text.
    pub tls_too: Option<SocketAddr>,
}

impl Setup {
    pub fn single(kind: &str) -> Self {
        Self::of(kind, 1)
    }

    pub fn cluster(kind: &str) -> Self {
        Self::of(kind, 3)
    }

    fn of(kind: &str, members: usize) -> Self {
        let Timing { heartbeat, election } = Timing::of(members);
        let [heartbeat, election] = [heartbeat, election].map(|time| time.as_millis() as u32);
        Self { kind: kind.into(), heartbeat, election, ..Self::default() }
    }

    fn timing(&self) -> Timing {
        let [heartbeat, election] =
            [self.heartbeat, self.election].map(|time| Duration::from_millis(time.into()));
        Timing { heartbeat, election }
    }
}

/// One member.
pub struct Node {
    pub name: String,
    /// Names the server, as in [`Setup`].
    pub kind: String,
    pub address: SocketAddr,
    pub daemon: Daemon,
    metrics: SocketAddr,
    etcdctl: PathBuf,
    /// Keeps the ports, so that nobody else gets them.
    _ports: Vec<Port>,
    pub folder: TempDir,
}

/// Makes the members of one cluster, on loopback, not started yet.
pub fn nodes(setup: &Setup, count: u8) -> Result<Vec<Node>, Failure> {
    members(setup, on_loopback(count)?)
}

/// Makes members as [`nodes`] does, each on a host of its own: a member's number is its host's.
pub fn hosts(setup: &Setup, network: &Network, count: u8) -> Result<Vec<Node>, Failure> {
    members(setup, on_hosts(network, count, [Clients(2379), Peers(2380), Clients(2381)]))
}

/// Makes a member at each place, whose addresses are for clients, for its peers, and for questions
/// about itself.
fn members(setup: &Setup, places: Vec<Place<'_, 3>>) -> Result<Vec<Node>, Failure> {
    let named =
        |place: &Place<'_, 3>| (format!("n{}", place.number), format!("http://{}", place.addresses[1]));
    let cluster: Vec<_> = places.iter().map(named).collect();
    places.into_iter().map(|place| Node::new(setup, &cluster, place)).collect()
}

/// Starts a server on its own, and returns when it serves.
pub async fn single(kind: &str) -> Result<Node, Failure> {
    let node = nodes(&Setup::single(kind), 1)?.remove(0);
    node.start().await?;
    Ok(node)
}

impl Node {
    fn new(setup: &Setup, cluster: &[(String, String)], place: Place<'_, 3>) -> Result<Self, Failure> {
        let [clients, peers, metrics] = place.addresses;
        let (name, folder) = (format!("n{}", place.number), folder()?);
        let scheme = if setup.tls { "https" } else { "http" };
        let launch = Launch {
            name: name.clone(),
            data: folder.path().join("data"),
            clients: format!("{scheme}://{clients}"),
            clients_too: setup.tls_too.iter().map(|at| format!("https://{at}")).collect(),
            peers: format!("http://{peers}"),
            cluster: cluster.to_vec(),
            timing: setup.timing(),
        };
        let mut command = launch.command(&server(&setup.kind, LIVE)?);
        command.arg(format!("--listen-metrics-urls=http://{metrics}"));
        command.args(&setup.more);
        Ok(Self {
            name,
            kind: setup.kind.clone(),
            address: clients,
            daemon: Daemon::new(place.command(command), folder.path().join("log")),
            metrics,
            etcdctl: client(&setup.kind, LIVE)?,
            _ports: place.ports,
            folder,
        })
    }

    /// Starts the server, and returns when it serves.
    pub async fn start(&self) -> Result<(), Failure> {
        self.daemon.spawn()?;
        self.ready().await
    }

    /// Starts the server anew without its data.
    pub async fn wipe(&self) -> Result<(), Failure> {
        self.daemon.stop();
        std::fs::remove_dir_all(self.folder.path().join("data"))?;
        self.start().await
    }

    /// Returns the answer to a plain request to the address for metrics, which asks for no
    /// certificate.
    pub async fn http(&self, path: &str) -> Result<String, Failure> {
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        Ok(String::from_utf8(ask(self.metrics, request.as_bytes(), Duration::from_secs(5)).await?)?)
    }

    /// Returns the sum of a metric over all of its lines that hold all of these labels.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> Result<f64, Failure> {
        let all = self.http("/metrics").await?;
        let of = |line: &&str| line.starts_with(name) && labels.iter().all(|label| line.contains(label));
        Ok(all.lines().filter(of).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// Returns the command `etcdctl`, against this node.
    pub fn etcdctl(&self) -> Command {
        let mut command = Command::new(&self.etcdctl);
        command.env("ETCDCTL_API", "3").arg(format!("--endpoints=http://{}", self.address));
        command
    }
}

#[async_trait]
impl OwnServer for Node {
    fn daemon(&self) -> &Daemon {
        &self.daemon
    }
    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
    async fn ready(&self) -> Result<(), Failure> {
        let healthy = || async { self.http("/health").await.is_ok_and(|answer| answer.contains("\"true\"")) };
        self.daemon.serves(healthy).await
    }
}

#[async_trait]
impl Member for Node {
    const SCHEME: &'static str = "etcd";
    fn address(&self) -> SocketAddr {
        self.address
    }
    fn named(&self) -> String {
        self.name.clone()
    }
    async fn leads(&self) -> bool {
        self.metric("etcd_server_is_leader", &[]).await.is_ok_and(|leads| leads > 0.0)
    }
    async fn open(url: &str) -> kv_core::Result<Kv> {
        kv_etcd::open(url).await
    }
}
