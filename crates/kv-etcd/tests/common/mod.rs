//! Servers of our own: on loopback, on free ports, gone with the test.

#![allow(unreachable_pub, reason = "a module of test programs")]
#![allow(dead_code, reason = "each test program uses a part")]

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::Instant,
};

pub mod process;
pub mod suite;

pub use process::Process;

/// How long a server may take to serve, on a machine that is busy.
const READY: Duration = Duration::from_secs(60);

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Where a kind's programs lie; the error names the command that gets them.
pub fn programs(kind: &str) -> Result<PathBuf, Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let servers = std::env::var_os("KV_SERVERS_DIR").map_or_else(|| root.join(".servers"), PathBuf::from);
    let programs = servers.join(kind).join("bin");
    if programs.join("etcd").exists() {
        return Ok(programs);
    }
    Err(format!(
        "there is no {} for the tests to start; get it with `ci/servers get {kind}`, or set KV_ETCD_URL to the URL of a \
         running etcd",
        programs.join("etcd").display()
    )
    .into())
}

/// A port of loopback that stays ours: bound, and never listening.
struct Port {
    address: SocketAddr,
    _socket: TcpSocket,
}

impl Port {
    fn new() -> Result<Self, Failure> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        Ok(Self { address: socket.local_addr()?, _socket: socket })
    }
}

/// What a node is started with besides its own addresses.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// `etcd`, which is 3.5, or `etcd34`.
    pub kind: String,
    pub heartbeat: u32,
    pub election: u32,
    pub more: Vec<String>,
    pub tls: bool,
}

impl Setup {
    pub fn single(kind: &str) -> Self {
        Self { kind: kind.into(), heartbeat: 10, election: 100, ..Self::default() }
    }

    pub fn cluster(kind: &str) -> Self {
        Self { kind: kind.into(), heartbeat: 50, election: 500, ..Self::default() }
    }
}

/// One member.
pub struct Node {
    pub name: String,
    pub address: SocketAddr,
    pub peers: SocketAddr,
    metrics: SocketAddr,
    _ports: [Port; 3],
    programs: PathBuf,
    arguments: Vec<String>,
    process: Mutex<Option<Process>>,
    folder: TempDir,
}

/// The members of one cluster, not started yet.
pub fn nodes(setup: &Setup, count: usize) -> Result<Vec<Node>, Failure> {
    let programs = programs(&setup.kind)?;
    let scheme = if setup.tls { "https" } else { "http" };
    let mut nodes = Vec::new();
    for n in 1..=count {
        let ports = [Port::new()?, Port::new()?, Port::new()?];
        let [address, peers, metrics] = [0, 1, 2].map(|at: usize| ports[at].address);
        let folder = tempfile::tempdir()?;
        let arguments = vec![
            format!("--name=n{n}"),
            format!("--data-dir={}", folder.path().join("data").display()),
            format!("--listen-client-urls={scheme}://{address}"),
            format!("--advertise-client-urls={scheme}://{address}"),
            format!("--listen-metrics-urls=http://{metrics}"),
            format!("--listen-peer-urls=http://{peers}"),
            format!("--initial-advertise-peer-urls=http://{peers}"),
            format!("--heartbeat-interval={}", setup.heartbeat),
            format!("--election-timeout={}", setup.election),
            "--log-level=warn".into(),
        ];
        nodes.push(Node {
            name: format!("n{n}"),
            address,
            peers,
            metrics,
            _ports: ports,
            programs: programs.clone(),
            arguments,
            process: Mutex::new(None),
            folder,
        });
    }
    let cluster: Vec<_> = nodes.iter().map(|n| format!("{}=http://{}", n.name, n.peers)).collect();
    for node in &mut nodes {
        node.arguments.push(format!("--initial-cluster={}", cluster.join(",")));
        node.arguments.extend(setup.more.iter().cloned());
    }
    Ok(nodes)
}

/// One server on its own, which serves.
pub async fn single(kind: &str) -> Result<Node, Failure> {
    let mut nodes = nodes(&Setup::single(kind), 1)?;
    let node = nodes.remove(0);
    node.start().await?;
    Ok(node)
}

impl Node {
    pub fn spawn(&self) -> Result<(), Failure> {
        let process =
            Process::spawn(&self.programs.join("etcd"), &self.arguments, &self.folder.path().join("log"))?;
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
        Ok(())
    }

    /// Returns when it serves.
    pub async fn start(&self) -> Result<(), Failure> {
        self.spawn()?;
        self.ready().await
    }

    pub async fn ready(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + READY;
        while !self.http("/health").await.is_ok_and(|answer| answer.contains("\"true\"")) {
            if Instant::now() > deadline {
                let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                return Err(format!(
                    "etcd on {} did not serve within {READY:?}; its log: {log}",
                    self.address
                )
                .into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    fn with(&self, act: impl FnOnce(&mut Process)) {
        if let Some(process) = self.process.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            act(process);
        }
    }

    fn end(&self, act: impl FnOnce(Process)) {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(process) = process {
            act(process);
        }
    }

    pub fn stop(&self) {
        self.end(Process::stop);
    }

    pub fn kill(&self) {
        self.end(drop);
    }

    pub fn pause(&self) {
        self.with(|process| process.signal("STOP"));
    }

    pub fn resume(&self) {
        self.with(|process| process.signal("CONT"));
    }

    /// The answer to a plain request to the address for metrics, which asks for no certificate.
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

    /// The sum of a metric over its labels that hold all of these.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> Result<f64, Failure> {
        let all = self.http("/metrics").await?;
        let of = |line: &&str| line.starts_with(name) && labels.iter().all(|label| line.contains(label));
        Ok(all.lines().filter(of).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// Runs `etcdctl` against this node.
    pub fn etcdctl(&self) -> Command {
        let mut command = Command::new(self.programs.join("etcdctl"));
        command.env("ETCDCTL_API", "3").arg(format!("--endpoints=http://{}", self.address));
        command
    }

    pub fn is(&self, member: &str) -> bool {
        self.name == member
    }
}

/// Runs it with this on its standard input; what it printed.
pub fn run(mut command: Command, input: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input)?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}
