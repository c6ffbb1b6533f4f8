//! Redis servers of our own.

#![allow(unreachable_pub, reason = "a module of test programs")]
#![allow(dead_code, reason = "each test program uses a part")]

use kv_core::{Watch, WatchEvent, driver::async_trait};
use kv_testsuite::{
    Certificates, Failure, OwnServer,
    process::{
        Daemon, Port, client, folder,
        launch::redis::{arguments, lines, sentinel, settings, tls},
        server,
    },
};
use std::{ffi::OsStr, net::SocketAddr, path::PathBuf, process::Command};
use tempfile::TempDir;

pub mod cluster;
pub mod fire;
pub mod full;
pub mod open;
pub mod resp;
pub mod suite;

pub use resp::{Reply, Resp};

/// The variable that names a live server to run the suite on.
pub const LIVE: &str = "KV_REDIS_URL";

/// One server.
pub struct Node {
    pub address: SocketAddr,
    pub daemon: Daemon,
    cli: PathBuf,
    folder: TempDir,
    /// A copy of its data.
    saved: TempDir,
    /// Its own port, and that of the bus between the nodes of a cluster.
    _ports: [Port; 2],
}

impl Node {
    /// Makes a node with further settings, and does not start it.
    pub fn new(kind: &str, more: &[&str]) -> Result<Self, Failure> {
        Self::within(kind, more, &[])
    }

    /// Makes a node with these variables in its environment, and does not start it.
    pub fn within(kind: &str, more: &[&str], variables: &[(&str, &OsStr)]) -> Result<Self, Failure> {
        let ports = [Port::new()?, Port::new()?];
        let cli = client(kind, LIVE)?;
        let folder = folder()?;
        let address = ports[0].address();
        let mut own = settings(address, folder.path());
        own.push(("cluster-port", ports[1].address().port().to_string()));
        let mut command = Command::new(server(kind, LIVE)?);
        command.args(arguments(&own));
        let log = folder.path().join("log");
        command.arg("--logfile").arg(&log).args(more).envs(variables.iter().copied());
        let daemon = Daemon::new(command, log);
        Ok(Self { address, daemon, cli, folder, saved: self::folder()?, _ports: ports })
    }

    /// Makes a sentinel for this master, and does not start it.
    pub fn sentinel(kind: &str, master: SocketAddr) -> Result<Self, Failure> {
        let ports = [Port::new()?, Port::new()?];
        let cli = client(kind, LIVE)?;
        let folder = folder()?;
        let address = ports[0].address();
        let (conf, log) = (folder.path().join("sentinel.conf"), folder.path().join("log"));
        let mut own = sentinel(address, master);
        own.push(("logfile", log.display().to_string()));
        std::fs::write(&conf, lines(&own))?;
        let mut command = Command::new(server(kind, LIVE)?);
        command.arg(&conf).arg("--sentinel");
        let (daemon, saved) = (Daemon::new(command, log), self::folder()?);
        Ok(Self { address, daemon, cli, folder, saved, _ports: ports })
    }

    /// Starts the node, and returns when it serves.
    pub async fn start(&self) -> Result<(), Failure> {
        self.daemon.spawn()?;
        self.ready().await
    }

    /// Returns the command of the server's own tool for this node.
    pub fn cli(&self) -> Command {
        let mut command = Command::new(&self.cli);
        command.args(["-h", "127.0.0.1", "-p", &self.address.port().to_string()]);
        command
    }

    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Connects with the bare protocol.
    pub async fn resp(&self) -> Result<Resp, Failure> {
        Resp::connect(self.address).await
    }
}

#[async_trait]
impl OwnServer for Node {
    fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    fn data(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    fn saved(&self) -> PathBuf {
        self.saved.path().to_owned()
    }

    async fn ready(&self) -> Result<(), Failure> {
        let address = self.address;
        let answers = || async move {
            let pong = async { Resp::connect(address).await?.ask(&[b"PING"]).await };
            // A node that wants a password or TLS serves too.
            match pong.await {
                Ok(Reply::Text(text)) => text == b"PONG",
                Ok(Reply::Error(why)) => why.starts_with("NOAUTH"),
                _ => false,
            }
        };
        self.daemon.serves(answers).await
    }
}

/// Starts one server on its own, and returns when it serves.
pub async fn single(kind: &str) -> Result<Node, Failure> {
    with(kind, &[]).await
}

pub async fn with(kind: &str, more: &[&str]) -> Result<Node, Failure> {
    let node = Node::new(kind, more)?;
    node.start().await?;
    Ok(node)
}

/// Returns the settings of a server that speaks TLS at this address too. It asks clients for
/// certificates as `of_clients` says, the value of `tls-auth-clients`.
pub fn with_tls(certificates: &Certificates, at: SocketAddr, of_clients: &str) -> Vec<String> {
    arguments(&tls(at.port(), &certificates.of_server(), of_clients))
}

/// Reads the next change of a watch that has told what is there. Behind a silence of its connection
/// it says once more that this is all.
pub async fn change(watch: &mut Watch) -> Result<WatchEvent, Failure> {
    loop {
        let event = kv_testsuite::failover::soon("a change", watch.event()).await??;
        if event != WatchEvent::Synced {
            return Ok(event);
        }
    }
}

/// Waits until the master's replica has all that was written so far.
pub async fn in_step(master: &Node) -> Result<(), Failure> {
    let mut resp = master.resp().await?;
    let mut offset = async |of: &str| {
        let said = resp.say("INFO replication").await?.text();
        let at = said.split_once(of).map(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next());
        Ok::<_, Failure>(at.flatten().and_then(|at| at.parse::<u64>().ok()))
    };
    let written = offset("master_repl_offset:").await?.ok_or("a master tells its offset")?;
    // The replica tells its offset once a second.
    kv_testsuite::failover::soon("the replica in step", async {
        while offset(",offset=").await?.is_none_or(|at| at < written) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Ok::<_, Failure>(())
    })
    .await?
}
