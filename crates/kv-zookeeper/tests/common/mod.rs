//! ZooKeeper servers of our own.

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
        launch::zookeeper::{Server as Launch, command, plain},
        server as server_of,
    },
};
use std::{
    collections::BTreeMap, fs::File, io::Write, net::SocketAddr, path::PathBuf, process::Command,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use zookeeper_client::Client;

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
}

/// Makes the members of one ensemble, and does not start them.
pub fn nodes(setup: &Setup, count: u8) -> Result<Vec<Node>, Failure> {
    members(setup, on_loopback(count)?)
}

/// Does the same as [`nodes`] with each on a host of its own: a member's index is its host's
/// number less one.
pub fn hosts(setup: &Setup, network: &Network, count: u8) -> Result<Vec<Node>, Failure> {
    members(setup, on_hosts(network, count, [Clients(2181), Peers(2888), Peers(3888)]))
}

/// Makes a member at each place, whose addresses are for clients, for its peers, and for
/// elections.
fn members(setup: &Setup, places: Vec<Place<'_, 3>>) -> Result<Vec<Node>, Failure> {
    let peers = |place: &Place<'_, 3>| (place.addresses[1], place.addresses[2]);
    let is_alone = places.len() == 1;
    let members: Vec<_> = places.iter().filter(|_| !is_alone).map(peers).collect();
    places.into_iter().map(|place| Node::new(setup, &members, place)).collect()
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
        members: &[(SocketAddr, SocketAddr)],
        place: Place<'_, 3>,
    ) -> Result<Self, Failure> {
        let (address, folder) = (place.addresses[0], folder()?);
        let (data, members) = (folder.path().join("data"), members.to_vec());
        let launch = Launch { id: place.number, data, members };
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
            daemon: Daemon::new(place.command(command), folder.path().join("log")),
            client: client(&setup.kind, LIVE)?,
            _ports: place.ports,
            folder,
        })
    }

    /// Starts the node, and returns when it serves.
    pub async fn start(&self) -> Result<(), Failure> {
        self.daemon.spawn()?;
        self.ready().await
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

    /// Waits until it listens, for a server that speaks TLS.
    pub async fn listens(&self) -> Result<(), Failure> {
        self.daemon.serves(|| async { TcpStream::connect(self.address).await.is_ok() }).await
    }

    /// Returns the answer to a command of four letters.
    pub async fn ask(&self, command: &str) -> Result<String, Failure> {
        let answer = ask(self.address, command.as_bytes(), Duration::from_secs(5)).await?;
        Ok(String::from_utf8(answer)?)
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

/// The time that members may take to find each other.
const TOGETHER: Duration = Duration::from_secs(90);

#[async_trait]
impl OwnServer for Node {
    fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    async fn ready(&self) -> Result<(), Failure> {
        let serves = || async { self.ask("srvr").await.is_ok_and(|answer| answer.contains("Mode:")) };
        self.daemon.serves(serves).await
    }
}

#[async_trait]
impl Member for Node {
    const SCHEME: &'static str = "zookeeper";

    fn address(&self) -> SocketAddr {
        self.address
    }

    async fn leads(&self) -> bool {
        self.mode().await.is_ok_and(|mode| mode == "leader")
    }

    /// Waits until it serves as one of the quorum: a session begins by a write, whichever member
    /// is asked for it.
    async fn serves(&self, _: &[Self]) -> Result<(), Failure> {
        let address = self.address.to_string();
        let session = async {
            while !matches!(timeout(Duration::from_secs(2), Client::connect(&address)).await, Ok(Ok(_))) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(TOGETHER, session).await.is_err() {
            let mode = self.mode().await;
            let log = self.log();
            return Err(format!("{address} takes no session, in the mode {mode:?}; its log:\n{log}").into());
        }
        Ok(())
    }

    async fn open(url: &str) -> kv_core::Result<Kv> {
        kv_zookeeper::open(url).await
    }
}
