//! ZooKeeper servers of our own.

#![allow(unreachable_pub, reason = "a module of test programs")]
#![allow(dead_code, reason = "each test program uses a part")]

use kv_testsuite::{
    Failure,
    process::{Daemon, Port, program},
};
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, process::Command, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub mod suite;

/// The variable that names a live server to run the suite on.
pub const LIVE: &str = "KV_ZOOKEEPER_URL";

/// What a node is started with besides its own addresses.
#[derive(Clone, Debug)]
pub struct Setup {
    /// `zookeeper`, which is 3.9, or `zookeeper38`.
    pub kind: String,
    /// Lines of its settings.
    pub more: Vec<String>,
    /// Options of its Java.
    pub flags: String,
}

impl Setup {
    pub fn new(kind: &str) -> Self {
        Self { kind: kind.into(), more: Vec::new(), flags: String::new() }
    }
}

/// One member.
pub struct Node {
    pub address: SocketAddr,
    pub daemon: Daemon,
    client: PathBuf,
    _ports: [Port; 3],
    _folder: TempDir,
}

/// The members of one ensemble, not started yet.
pub fn nodes(setup: &Setup, count: usize) -> Result<Vec<Node>, Failure> {
    let ports: Vec<_> =
        (0..count).map(|_| Ok([Port::new()?, Port::new()?, Port::new()?])).collect::<Result<_, Failure>>()?;
    let member = |(n, [_, peers, election]): (usize, &[Port; 3])| {
        format!("server.{}=127.0.0.1:{}:{}", n + 1, peers.address().port(), election.address().port())
    };
    let members: Vec<_> = ports.iter().enumerate().map(member).collect();
    let members = if count > 1 { members } else { Vec::new() };
    ports.into_iter().enumerate().map(|(n, ports)| Node::new(setup, n + 1, &members, ports)).collect()
}

/// One server on its own, which serves.
pub async fn single(kind: &str) -> Result<Node, Failure> {
    start(&Setup::new(kind)).await
}

pub async fn start(setup: &Setup) -> Result<Node, Failure> {
    let node = nodes(setup, 1)?.remove(0);
    node.start().await?;
    Ok(node)
}

impl Node {
    fn new(setup: &Setup, id: usize, members: &[String], ports: [Port; 3]) -> Result<Self, Failure> {
        let address = ports[0].address();
        // Its data have to outlive the process alone: a disk that is busy with others' would be waited for by every write.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
        let data = folder.path().join("data");
        std::fs::create_dir(&data)?;
        std::fs::write(data.join("myid"), id.to_string())?;
        let mut lines = vec![
            "tickTime=200".to_owned(),
            "initLimit=50".into(),
            "syncLimit=10".into(),
            "minSessionTimeout=400".into(),
            "maxSessionTimeout=60000".into(),
            format!("dataDir={}", data.display()),
            "maxClientCnxns=0".into(),
            "admin.enableServer=false".into(),
            "4lw.commands.whitelist=*".into(),
        ];
        if !setup.more.iter().any(|line| line.starts_with("secureClientPort")) {
            lines.extend([format!("clientPort={}", address.port()), "clientPortAddress=127.0.0.1".into()]);
        }
        let port = address.port().to_string();
        lines.extend(setup.more.iter().map(|line| line.replace("PORT", &port)));
        lines.extend(members.iter().cloned());
        let settings = folder.path().join("zoo.cfg");
        std::fs::write(&settings, lines.join("\n"))?;
        let mut command = Command::new(program(&setup.kind, "zookeeper", LIVE)?);
        command.arg(&settings).env("JVMFLAGS", &setup.flags);
        Ok(Self {
            address,
            daemon: Daemon::new(command, folder.path().join("log")),
            client: program(&setup.kind, "zkCli", LIVE)?,
            _ports: ports,
            _folder: folder,
        })
    }

    /// Returns when it serves.
    pub async fn start(&self) -> Result<(), Failure> {
        self.daemon.spawn()?;
        self.ready().await
    }

    pub async fn ready(&self) -> Result<(), Failure> {
        let serves = || async { self.ask("srvr").await.is_ok_and(|answer| answer.contains("Mode:")) };
        self.daemon.serves(serves).await
    }

    /// When it listens, for one that speaks TLS.
    pub async fn listens(&self) -> Result<(), Failure> {
        self.daemon.serves(|| async { TcpStream::connect(self.address).await.is_ok() }).await
    }

    /// The answer to a command of four letters.
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

    /// A counter of `mntr`.
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

    /// The sessions that the server keeps, and what each owns.
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

    /// Those of them that somebody is connected to.
    pub async fn connected(&self) -> Result<Vec<String>, Failure> {
        let connections = self.ask("cons").await?;
        let session = |line: &str| Some(line.split_once("sid=0x")?.1.split(',').next()?.to_owned());
        Ok(connections.lines().filter_map(session).collect())
    }

    /// `zkCli`, against this node.
    pub fn zkcli(&self) -> Command {
        let mut command = Command::new(&self.client);
        command.args(["-server", &self.address.to_string()]);
        command
    }
}
