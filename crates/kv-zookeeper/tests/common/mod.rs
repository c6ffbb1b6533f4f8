//! ZooKeeper servers of our own.

#![allow(unreachable_pub, reason = "a module of test programs")]
#![allow(dead_code, reason = "each test program uses a part")]

use kv_testsuite::{
    Failure,
    network::Network,
    process::{
        Daemon, Port, client, copy,
        launch::zookeeper::{Server as Launch, command, plain},
        server as server_of,
    },
};
use std::{
    collections::BTreeMap, fs::File, io::Write, net::SocketAddr, path::PathBuf, process::Command,
    sync::Mutex, time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub mod fire;
pub mod full;
pub mod suite;
pub mod tls;

/// The variable that names a live server to run the suite on.
pub const LIVE: &str = "KV_ZOOKEEPER_URL";

/// The settings that a node is started with besides its own addresses.
#[derive(Clone, Debug)]
pub struct Setup {
    /// `zookeeper`, which is 3.9, or `zookeeper38`.
    pub kind: String,
    /// Further lines of its settings.
    pub more: Vec<String>,
    /// Options of its Java machine.
    pub flags: String,
    /// Tells whether it has no port for plain text. Its settings then name one for TLS, as `PORT`.
    pub is_tls_alone: bool,
}

impl Setup {
    pub fn new(kind: &str) -> Self {
        // With these, members look for a leader again within a second, however long they were busy
        // or apart; without, within a minute.
        let flags = "-Dzookeeper.cnxTimeout=500 -Dzookeeper.fastleader.maxNotificationInterval=1000";
        Self { kind: kind.into(), more: Vec::new(), flags: flags.into(), is_tls_alone: false }
    }
}

/// One member.
pub struct Node {
    pub address: SocketAddr,
    pub daemon: Daemon,
    client: PathBuf,
    _ports: Vec<Port>,
    pub folder: TempDir,
    saved: Mutex<Option<TempDir>>,
}

/// The addresses at which one member listens.
#[derive(Clone, Copy)]
struct Addresses {
    clients: SocketAddr,
    peers: SocketAddr,
    election: SocketAddr,
}

/// Makes the members of one ensemble, and does not start them.
pub fn nodes(setup: &Setup, count: usize) -> Result<Vec<Node>, Failure> {
    let mut ports = Vec::new();
    for _ in 0..count {
        ports.push([Port::new()?, Port::new()?, Port::new()?]);
    }
    let at = |[clients, peers, election]: &[Port; 3]| Addresses {
        clients: clients.address(),
        peers: peers.address(),
        election: election.address(),
    };
    let all: Vec<_> = ports.iter().map(at).collect();
    let mut nodes = members(setup, &all, |_, command| command)?;
    for (node, ports) in nodes.iter_mut().zip(ports) {
        node._ports = ports.into();
    }
    Ok(nodes)
}

/// Does the same as [`nodes`] with each on a host of its own: a member's index is its host's
/// number less one.
pub fn hosts(setup: &Setup, network: &Network, count: u8) -> Result<Vec<Node>, Failure> {
    let at = |n| Addresses {
        clients: (network.address(n), 2181).into(),
        peers: (network.peer_address(n), 2888).into(),
        election: (network.peer_address(n), 3888).into(),
    };
    let all: Vec<_> = (1..=count).map(at).collect();
    members(setup, &all, |n, command| network.on(n, &command))
}

fn members(
    setup: &Setup,
    all: &[Addresses],
    on: impl Fn(u8, Command) -> Command,
) -> Result<Vec<Node>, Failure> {
    let members = |all: &[Addresses]| all.iter().map(|at| (at.peers, at.election)).collect();
    let members: Vec<_> = if all.len() > 1 { members(all) } else { Vec::new() };
    let named = all.iter().zip(1_u8..);
    named.map(|(at, n)| Node::new(setup, n, &members, at.clients, |command| on(n, command))).collect()
}

/// Starts one server on its own, and returns when it serves.
pub async fn single(kind: &str) -> Result<Node, Failure> {
    start(&Setup::new(kind)).await
}

pub async fn start(setup: &Setup) -> Result<Node, Failure> {
    let node = nodes(setup, 1)?.remove(0);
    node.start().await?;
    Ok(node)
}

impl Node {
    fn new(
        setup: &Setup,
        id: u8,
        members: &[(SocketAddr, SocketAddr)],
        address: SocketAddr,
        on: impl Fn(Command) -> Command,
    ) -> Result<Self, Failure> {
        // Its data only has to outlive the process. On a disk that is busy with other work every
        // write would wait.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
        let (data, members) = (folder.path().join("data"), members.to_vec());
        let launch = Launch { id, data, members };
        std::fs::create_dir(&launch.data)?;
        std::fs::write(launch.data.join("myid"), launch.myid())?;
        let mut lines = launch.settings();
        lines.push("minSessionTimeout=400".into());
        if !setup.is_tls_alone {
            lines.extend(plain(address));
        }
        let port = address.port().to_string();
        // Of a setting that is given twice the last value counts.
        lines.extend(setup.more.iter().map(|line| line.replace("PORT", &port)));
        let settings = folder.path().join("zoo.cfg");
        std::fs::write(&settings, lines.join("\n"))?;
        let command = command(&server_of(&setup.kind, LIVE)?, &settings, &setup.flags);
        Ok(Self {
            address,
            daemon: Daemon::new(on(command), folder.path().join("log")),
            client: client(&setup.kind, LIVE)?,
            _ports: Vec::new(),
            folder,
            saved: Mutex::default(),
        })
    }

    /// Starts the node, and returns when it serves.
    pub async fn start(&self) -> Result<(), Failure> {
        self.daemon.spawn()?;
        self.ready().await
    }

    /// Returns a copy of its data; the server must not run.
    pub fn save(&self) -> Result<TempDir, Failure> {
        let saved = tempfile::tempdir()?;
        copy(&self.folder.path().join("data"), saved.path())?;
        Ok(saved)
    }

    /// Puts a copy back; the server must not run.
    pub fn restore(&self, saved: &TempDir) -> Result<(), Failure> {
        copy(saved.path(), &self.folder.path().join("data"))
    }

    /// Limits the time-outs of sessions to this one, from the next start on.
    pub fn grants_at_most(&self, time: Duration) -> Result<(), Failure> {
        let mut settings = File::options().append(true).open(self.folder.path().join("zoo.cfg"))?;
        Ok(writeln!(settings, "\nmaxSessionTimeout={}", time.as_millis())?)
    }

    /// Returns the last lines that it printed.
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    pub async fn ready(&self) -> Result<(), Failure> {
        let serves = || async { self.ask("srvr").await.is_ok_and(|answer| answer.contains("Mode:")) };
        self.daemon.serves(serves).await
    }

    /// Waits until it listens, for a server that speaks TLS.
    pub async fn listens(&self) -> Result<(), Failure> {
        self.daemon.serves(|| async { TcpStream::connect(self.address).await.is_ok() }).await
    }

    /// Returns the answer to a command of four letters.
    pub async fn ask(&self, command: &str) -> Result<String, Failure> {
        let ask = async {
            let mut stream = TcpStream::connect(self.address).await?;
            stream.write_all(command.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, Failure>(answer)
        };
        tokio::time::timeout(Duration::from_secs(5), ask).await?
    }

    /// Returns a counter of `mntr`.
    pub async fn count(&self, name: &str) -> Result<u64, Failure> {
        let all = self.ask("mntr").await?;
        let value =
            all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t')).ok_or(all.as_str());
        Ok(value?.parse::<f64>()? as u64)
    }

    pub async fn mode(&self) -> Result<String, Failure> {
        let all = self.ask("srvr").await?;
        Ok(all.lines().find_map(|line| line.strip_prefix("Mode: ")).unwrap_or_default().to_owned())
    }

    /// Returns the sessions that the server keeps, each with the nodes that it owns.
    pub async fn sessions(&self) -> Result<BTreeMap<String, Vec<String>>, Failure> {
        let dump = self.ask("dump").await?;
        let (mut sessions, mut last) = (BTreeMap::<_, Vec<String>>::new(), None);
        for line in dump.lines().map(str::trim) {
            if let Some(id) = line.strip_prefix("0x") {
                let id = id.trim_end_matches(':').to_owned();
                sessions.entry(id.clone()).or_default();
                last = Some(id);
            } else if let (true, Some(id)) = (line.starts_with('/'), &last) {
                sessions.entry(id.clone()).or_default().push(line.to_owned());
            }
        }
        Ok(sessions)
    }

    /// Returns the one session that owns a node.
    pub async fn owner(&self) -> Result<i64, Failure> {
        let sessions = self.sessions().await?;
        let mut owners = sessions.iter().filter(|(_, owns)| !owns.is_empty());
        let (Some((id, _)), None) = (owners.next(), owners.next()) else {
            return Err(format!("not one owner: {sessions:?}").into());
        };
        Ok(i64::from_str_radix(id, 16)?)
    }

    /// Returns the sessions that have a connection.
    pub async fn connected(&self) -> Result<Vec<String>, Failure> {
        let connections = self.ask("cons").await?;
        let session = |line: &str| Some(line.split_once("sid=0x")?.1.split(',').next()?.to_owned());
        Ok(connections.lines().filter_map(session).collect())
    }

    /// Returns the command of `zkCli` for this node.
    pub fn zkcli(&self) -> Command {
        let mut command = Command::new(&self.client);
        command.args(["-server", &self.address.to_string()]);
        command
    }
}
