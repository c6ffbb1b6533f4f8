//! Consul servers of our own.

#![allow(unreachable_pub, reason = "a module of test programs")]
#![allow(dead_code, reason = "each test program uses a part")]

use base64::{Engine, prelude::BASE64_STANDARD};
use kv_core::driver::async_trait;
use kv_testsuite::{
    Failure, OwnServer,
    network::Network,
    places::{
        HostPort::{Clients, Peers},
        Place, on_hosts, on_loopback,
    },
    process::{
        Daemon, Port, ask, folder,
        launch::consul::{Server as Launch, add, command},
        server as server_of,
    },
};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

pub mod beyond;
pub mod ensemble;
pub mod fire;
pub mod guarded;
pub mod suite;

/// A way to a server that notes each request in one line: the method and the path.
pub struct Asked {
    pub address: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Asked {
    pub async fn of(server: SocketAddr) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, lines) = (listener.local_addr()?, Arc::<Mutex<Vec<String>>>::default());
        let noted = lines.clone();
        let task = tokio::spawn(async move {
            let mut links = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                links.spawn(note(client, server, noted.clone()));
            }
        });
        Ok(Self { address, lines, task })
    }

    /// Returns the requests since the last time, without those that no caller makes: polls, and
    /// the first look at a contender's own life.
    pub fn calls(&self) -> Vec<String> {
        let mut lines = self.all();
        let is_own_life = |line: &String| line.contains("/.kv/lock/") && !line.contains("recurse");
        lines.retain(|line| !line.contains("index=") && !is_own_life(line));
        lines
    }

    /// Returns all requests since the last time.
    pub fn all(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lock().expect("nobody panics"))
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn note(
    mut client: TcpStream,
    server: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let ((mut asks, mut hears), (mut answers, mut takes)) = (client.split(), server.split());
    let there = async {
        let mut piece = vec![0; 64 << 10];
        loop {
            let read = asks.read(&mut piece).await?;
            if read == 0 {
                return takes.shutdown().await;
            }
            // The heads of our requests come whole, and no body has a line like theirs.
            for line in String::from_utf8_lossy(&piece[..read]).lines() {
                if let Some(line) = line.strip_suffix(" HTTP/1.1") {
                    lines.lock().expect("nobody panics").push(line.to_owned());
                }
            }
            takes.write_all(&piece[..read]).await?;
        }
    };
    tokio::try_join!(there, tokio::io::copy(&mut answers, &mut hears)).map(drop)
}

/// Names the variable that holds the URL of a live server to run the suite on.
pub const LIVE: &str = "KV_CONSUL_URL";

/// One server.
pub struct Node {
    pub name: String,
    pub address: SocketAddr,
    pub rpc: SocketAddr,
    /// Holds the address at which the server hears who else is there.
    pub serf: SocketAddr,
    pub daemon: Daemon,
    pub folder: TempDir,
    consul: PathBuf,
    /// Holds the address for TLS, or for other datacenters.
    more: SocketAddr,
    _ports: Vec<Port>,
}

/// Makes the servers of one datacenter, not started yet. The settings of `more` are added to those
/// of all servers, or take their place.
pub fn nodes(count: u8, more: &Value) -> Result<Vec<Node>, Failure> {
    members(on_loopback(count)?, more)
}

/// Makes servers as [`nodes`] does, each on a host of its own: a server's place is its host's
/// number less one.
pub fn hosts(network: &Network, count: u8, more: &Value) -> Result<Vec<Node>, Failure> {
    members(on_hosts(network, count, [Clients(8500), Peers(8300), Peers(8301), Peers(8302)]), more)
}

/// Makes a server at each place, whose addresses are for requests, for the other servers, for
/// hearing who else is there, and for more.
fn members(places: Vec<Place<'_, 4>>, more: &Value) -> Result<Vec<Node>, Failure> {
    let join: Vec<_> = places.iter().map(|place| place.addresses[2]).collect();
    places.into_iter().map(|place| Node::new(place, &join, more)).collect()
}

/// Starts a server on its own, and returns when it serves. Its sessions live for half a second at
/// least.
pub async fn single() -> Result<Node, Failure> {
    with(&json!({ "limits": { "http_max_conns_per_client": 4000 } })).await
}

/// Starts a server on its own with further settings, and returns when it serves.
pub async fn with(more: &Value) -> Result<Node, Failure> {
    let node = nodes(1, more)?.remove(0);
    node.start().await?;
    Ok(node)
}

/// The answer of a server.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Result<Value, Failure> {
        let shown = || format!("{}: {}", self.status, String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).map_err(|_| shown().into())
    }
}

/// Sends a plain request, without the library.
pub async fn http(address: SocketAddr, request: &str, body: &[u8]) -> Result<Answer, Failure> {
    http_with(address, request, "", body).await
}

/// Sends a plain request with header lines.
pub async fn http_with(
    address: SocketAddr,
    request: &str,
    headers: &str,
    body: &[u8],
) -> Result<Answer, Failure> {
    let head = format!("{request} HTTP/1.0\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    let mut answer = ask(address, &[head.as_bytes(), body].concat(), Duration::from_secs(20)).await?;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").ok_or("an answer has a head")?;
    let body = answer.split_off(end + 4);
    let status = String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap_or_default().parse()?;
    Ok(Answer { status, body })
}

/// Sends a transaction of these operations.
pub async fn txn(address: SocketAddr, ops: Value) -> Result<Answer, Failure> {
    http(address, "PUT /v1/txn", &serde_json::to_vec(&ops)?).await
}

/// Returns all names that begin with the prefix.
pub async fn names(address: SocketAddr, prefix: &str) -> Result<Vec<String>, Failure> {
    let found = txn(address, json!([{ "KV": { "Verb": "get-tree", "Key": prefix } }])).await?.json()?;
    let found = found["Results"].as_array().cloned().unwrap_or_default();
    Ok(found.iter().filter_map(|pair| Some(pair["KV"]["Key"].as_str()?.to_owned())).collect())
}

/// Returns the names of all sessions, with their TTLs.
pub async fn sessions(address: SocketAddr) -> Result<Vec<String>, Failure> {
    let found = http(address, "GET /v1/session/list", b"").await?.json()?;
    let shown = |session: &Value| format!("the session {} of {}", session["Name"], session["TTL"]);
    Ok(found.as_array().ok_or("a list of sessions")?.iter().map(shown).collect())
}

pub fn base64(value: &[u8]) -> String {
    BASE64_STANDARD.encode(value)
}

pub fn from_base64(value: &Value) -> Result<Vec<u8>, Failure> {
    Ok(BASE64_STANDARD.decode(value.as_str().unwrap_or_default())?)
}

impl Node {
    fn new(place: Place<'_, 4>, join: &[SocketAddr], more: &Value) -> Result<Self, Failure> {
        let (name, folder) = (format!("n{}", place.number), folder()?);
        let [http, rpc, serf, other] = place.addresses;
        let (is_tls, is_one_of_many) = (more.get("cert_file").is_some(), more.get("datacenter").is_some());
        let port = |is: bool| if is { i32::from(other.port()) } else { -1 };
        let (data, all) = (folder.path().join("data"), join.to_vec());
        let mut config = Launch { name: name.clone(), data, http, rpc, serf, all }.settings();
        config["ports"]["https"] = json!(port(is_tls));
        config["ports"]["serf_wan"] = json!(port(is_one_of_many));
        let settings = json!({
            "pid_file": folder.path().join("pid"), "session_ttl_min": "500ms", "leave_on_terminate": false,
            "telemetry": { "prometheus_retention_time": "1h", "disable_hostname": true },
        });
        add(&mut config, &settings);
        add(&mut config, more);
        let file = folder.path().join("consul.json");
        std::fs::write(&file, serde_json::to_vec(&config)?)?;
        let consul = server_of("consul", LIVE)?;
        let daemon = Daemon::new(place.command(command(&consul, &file)), folder.path().join("log"));
        let (address, more) = (http, other);
        Ok(Self { name, address, rpc, serf, daemon, folder, consul, more, _ports: place.ports })
    }

    /// Returns the address at which the server speaks TLS, when it was told to.
    pub fn tls_address(&self) -> SocketAddr {
        self.more
    }

    /// Returns the address at which the server speaks to other datacenters, when its own was
    /// named.
    pub fn wan_address(&self) -> SocketAddr {
        self.more
    }

    /// Starts the server, and returns when it serves.
    pub async fn start(&self) -> Result<(), Failure> {
        self.daemon.spawn()?;
        self.ready().await
    }

    /// Returns the command `consul`, against this server.
    pub fn consul(&self) -> Command {
        let mut command = Command::new(&self.consul);
        command.env("CONSUL_HTTP_ADDR", format!("http://{}", self.address));
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

    /// Returns when the server takes writes. A leader is known a little earlier, so that only a
    /// write tells; this one leaves nothing.
    async fn ready(&self) -> Result<(), Failure> {
        let takes_writes = || async {
            let answer = http(self.address, "DELETE /v1/kv/ready", b"").await;
            // Where not everybody may write, a server is ready when it says so; before it has read
            // its tokens it knows none.
            answer.is_ok_and(|answer| {
                answer.body.starts_with(b"true") || answer.body.starts_with(b"Permission denied")
            })
        };
        self.daemon.serves(takes_writes).await
    }
}
