//! etcd servers of our own.

#![allow(unreachable_pub, reason = "a module of test programs")]
#![allow(dead_code, reason = "each test program uses a part")]

use kv_testsuite::{
    Failure,
    network::Network,
    process::{
        Daemon, Port, client, copy,
        launch::etcd::{Member, Timing},
        server,
    },
};
use std::{net::SocketAddr, path::PathBuf, process::Command, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

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

/// The addresses of a member: for clients, for its peers, and for questions about itself.
#[derive(Clone, Copy, Debug)]
struct Addresses {
    clients: SocketAddr,
    peers: SocketAddr,
    metrics: SocketAddr,
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
pub fn nodes(setup: &Setup, count: usize) -> Result<Vec<Node>, Failure> {
    let ports = || (0..3).map(|_| Port::new()).collect::<Result<Vec<_>, Failure>>();
    let ports = (0..count).map(|_| ports()).collect::<Result<Vec<_>, Failure>>()?;
    let at = |of: &Vec<Port>| {
        let [clients, peers, metrics] = [0, 1, 2].map(|n: usize| of[n].address());
        Addresses { clients, peers, metrics }
    };
    let all: Vec<_> = ports.iter().map(at).collect();
    let mut nodes = members(setup, &all, |_, command| command)?;
    for (node, ports) in nodes.iter_mut().zip(ports) {
        node._ports = ports;
    }
    Ok(nodes)
}

/// Makes members as [`nodes`] does, each on a host of its own: a member's number is its host's.
pub fn hosts(setup: &Setup, network: &Network, count: u8) -> Result<Vec<Node>, Failure> {
    let at = |n| Addresses {
        clients: (network.address(n), 2379).into(),
        peers: (network.peer_address(n), 2380).into(),
        metrics: (network.address(n), 2381).into(),
    };
    let all: Vec<_> = (1..=count).map(at).collect();
    members(setup, &all, |n, command| network.on(n, &command))
}

fn members(
    setup: &Setup,
    all: &[Addresses],
    on: impl Fn(u8, Command) -> Command,
) -> Result<Vec<Node>, Failure> {
    let named = all.iter().zip(1_u8..);
    let cluster: Vec<_> =
        named.clone().map(|(at, n)| (format!("n{n}"), format!("http://{}", at.peers))).collect();
    named.map(|(at, n)| Node::new(setup, &format!("n{n}"), &cluster, *at, |command| on(n, command))).collect()
}

/// Starts a server on its own, and returns when it serves.
pub async fn single(kind: &str) -> Result<Node, Failure> {
    let node = nodes(&Setup::single(kind), 1)?.remove(0);
    node.start().await?;
    Ok(node)
}

impl Node {
    fn new(
        setup: &Setup,
        name: &str,
        cluster: &[(String, String)],
        at: Addresses,
        on: impl FnOnce(Command) -> Command,
    ) -> Result<Self, Failure> {
        let Addresses { clients, peers, metrics } = at;
        let scheme = if setup.tls { "https" } else { "http" };
        // The data have to outlive the process alone: every write would wait for a disk that is
        // busy with other data.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
        let member = Member {
            name: name.into(),
            data: folder.path().join("data"),
            clients: format!("{scheme}://{clients}"),
            clients_too: setup.tls_too.iter().map(|at| format!("https://{at}")).collect(),
            peers: format!("http://{peers}"),
            cluster: cluster.to_vec(),
            timing: setup.timing(),
        };
        let mut command = member.command(&server(&setup.kind, LIVE)?);
        command.arg(format!("--listen-metrics-urls=http://{metrics}"));
        command.args(&setup.more);
        Ok(Self {
            name: name.into(),
            kind: setup.kind.clone(),
            address: clients,
            daemon: Daemon::new(on(command), folder.path().join("log")),
            metrics,
            etcdctl: client(&setup.kind, LIVE)?,
            _ports: Vec::new(),
            folder,
        })
    }

    /// Starts the server, and returns when it serves.
    pub async fn start(&self) -> Result<(), Failure> {
        self.daemon.spawn()?;
        self.ready().await
    }

    pub async fn ready(&self) -> Result<(), Failure> {
        let healthy = || async { self.http("/health").await.is_ok_and(|answer| answer.contains("\"true\"")) };
        self.daemon.serves(healthy).await
    }

    /// Keeps a copy of the data, with the server stopped meanwhile.
    pub async fn save(&self) -> Result<(), Failure> {
        self.daemon.stop();
        self.keep_copy()?;
        self.start().await
    }

    /// Puts the copy that was saved last in the place of the data, as an operator restores a
    /// backup.
    pub async fn restore_saved(&self) -> Result<(), Failure> {
        self.daemon.stop();
        self.put_copy_back()?;
        self.start().await
    }

    /// Keeps a copy of the data of a server that does not run.
    pub fn keep_copy(&self) -> Result<(), Failure> {
        copy(&self.folder.path().join("data"), &self.folder.path().join("saved"))
    }

    /// Puts the copy that was kept last in the place of the data of a server that does not run.
    pub fn put_copy_back(&self) -> Result<(), Failure> {
        copy(&self.folder.path().join("saved"), &self.folder.path().join("data"))
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
        let ask = async {
            let mut stream = TcpStream::connect(self.metrics).await?;
            stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, Failure>(answer)
        };
        tokio::time::timeout(Duration::from_secs(5), ask).await?
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

    pub fn is(&self, member: &str) -> bool {
        self.name == member
    }
}
