//! Redis servers of our own.

#![allow(unreachable_pub, reason = "a module of test programs")]
#![allow(dead_code, reason = "each test program uses a part")]

use kv_testsuite::{
    Failure,
    process::{Daemon, Port, program},
};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

pub mod cluster;
pub mod resp;
pub mod suite;

pub use resp::{Reply, Resp};

/// The variable that names a live server to run the suite on.
pub const LIVE: &str = "KV_REDIS_URL";

/// The programs of a kind: `redis`, which is 7, `redis8`, `valkey`.
fn programs(kind: &str) -> Result<(PathBuf, PathBuf), Failure> {
    let family = if kind == "valkey" { "valkey" } else { "redis" };
    let of = |what: &str| program(kind, &format!("{family}-{what}"), LIVE);
    Ok((of("server")?, of("cli")?))
}

/// In memory where there is such a place: servers that flush every write would else wait for the disk and for whoever else
/// writes to it, all of them together.
fn folder() -> Result<TempDir, Failure> {
    let memory = Path::new("/dev/shm");
    Ok(if memory.is_dir() { tempfile::tempdir_in(memory)? } else { tempfile::tempdir()? })
}

/// One server.
pub struct Node {
    pub address: SocketAddr,
    pub daemon: Daemon,
    cli: PathBuf,
    folder: TempDir,
    /// Its own, and that of the bus between the nodes of a cluster.
    _ports: [Port; 2],
}

impl Node {
    /// Not started yet; with these settings besides its own.
    pub fn new(kind: &str, more: &[&str]) -> Result<Self, Failure> {
        let ports = [Port::new()?, Port::new()?];
        let (server, cli) = programs(kind)?;
        let folder = folder()?;
        let address = ports[0].address();
        let mut command = Command::new(server);
        command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", ""]);
        command.args(["--appendonly", "yes", "--appendfsync", "always", "--dir"]).arg(folder.path());
        command.args([
            "--cluster-port",
            &ports[1].address().port().to_string(),
            "--repl-diskless-sync-delay",
            "0",
        ]);
        let log = folder.path().join("log");
        command.arg("--logfile").arg(&log).args(more);
        let daemon = Daemon::new(command, log);
        Ok(Self { address, daemon, cli, folder, _ports: ports })
    }

    /// A sentinel for this master, not started yet.
    pub fn sentinel(kind: &str, master: SocketAddr) -> Result<Self, Failure> {
        let ports = [Port::new()?, Port::new()?];
        let (server, cli) = programs(kind)?;
        let folder = folder()?;
        let address = ports[0].address();
        let (conf, log) = (folder.path().join("sentinel.conf"), folder.path().join("log"));
        let settings = [
            format!("port {}", address.port()),
            "bind 127.0.0.1".into(),
            format!("logfile {}", log.display()),
            format!("sentinel monitor mymaster 127.0.0.1 {} 2", master.port()),
            "sentinel down-after-milliseconds mymaster 500".into(),
            "sentinel failover-timeout mymaster 3000".into(),
        ];
        std::fs::write(&conf, settings.join("\n"))?;
        let mut command = Command::new(server);
        command.arg(&conf).arg("--sentinel");
        Ok(Self { address, daemon: Daemon::new(command, log), cli, folder, _ports: ports })
    }

    /// Returns when it serves.
    pub async fn start(&self) -> Result<(), Failure> {
        self.daemon.spawn()?;
        self.ready().await
    }

    pub async fn ready(&self) -> Result<(), Failure> {
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

    /// The server's own tool, against this node.
    pub fn cli(&self) -> Command {
        let mut command = Command::new(&self.cli);
        command.args(["-h", "127.0.0.1", "-p", &self.address.port().to_string()]);
        command
    }

    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The bare protocol.
    pub async fn resp(&self) -> Result<Resp, Failure> {
        Resp::connect(self.address).await
    }
}

/// One server on its own, which serves.
pub async fn single(kind: &str) -> Result<Node, Failure> {
    with(kind, &[]).await
}

pub async fn with(kind: &str, more: &[&str]) -> Result<Node, Failure> {
    let node = Node::new(kind, more)?;
    node.start().await?;
    Ok(node)
}
