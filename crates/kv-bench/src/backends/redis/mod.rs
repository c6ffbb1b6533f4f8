//! Redis, by fred. `raw` is `GET`, `SET` and the like; `eq` are scripts that keep versions, the index
//! and messages in step with the values.

mod eq;
mod raw;

use super::{Backend, ours::Ours, server};
use crate::{
    counts::{Counter, Counts},
    drive::named,
    side::Done,
};
use async_trait::async_trait;
use fred::{
    clients::Client,
    interfaces::ClientLike,
    types::{
        ClusterHash, CustomCommand, RespVersion, Value,
        config::{Config, ConnectionConfig, PerformanceConfig, ServerConfig, TcpConfig},
    },
};
use kv_testsuite::process::launch::redis::{arguments, settings};
use std::{net::SocketAddr, path::Path, process::Command};

/// Starts the server, and opens the sides.
pub(super) async fn start(folder: &Path) -> Done<Backend> {
    let ([address], ports) = server::ports()?;
    let mut command = Command::new(server::program("redis")?);
    command.args(arguments(&settings(address, folder)));
    let probe = || async move {
        server::question(address, "PING\r\nQUIT\r\n").await.is_ok_and(|said| said.starts_with("+PONG"))
    };
    let running = server::start(command, folder, ports, probe).await?;
    let counter = Stats(connect(address, 0).await?);
    let version = counter.info("server").await?;
    let ours =
        Ours::open(move || async move { kv_redis::open(&format!("redis://{address}/ours")).await }).await?;
    let kv = ours.kv();
    let sides = vec![
        named("ours", ours),
        named("eq", eq::Eq::open(address).await?),
        named("raw", raw::Raw::open(address).await?),
    ];
    let version = format!("Redis {}", field(&version, "redis_version").unwrap_or("?"));
    Ok(Backend {
        version,
        sides,
        kv,
        counter: Some(Box::new(counter)),
        largest: usize::MAX,
        keep: Box::new(running),
    })
}

/// Opens a connection of the client to a database.
async fn connect(address: SocketAddr, database: u8) -> Done<Client> {
    let config = Config {
        server: ServerConfig::new_centralized(address.ip().to_string(), address.port()),
        version: RespVersion::RESP3,
        database: Some(database),
        ..Config::default()
    };
    let tcp = TcpConfig { nodelay: Some(true), ..TcpConfig::default() };
    let connection = ConnectionConfig { tcp, ..Default::default() };
    // So many messages may wait for one who watches.
    let performance = PerformanceConfig { broadcast_channel_capacity: 1 << 16, ..Default::default() };
    let client = Client::new(config, Some(performance), Some(connection), None);
    client.init().await?;
    Ok(client)
}

/// Sends a command, and returns its answer.
async fn say(client: &Client, command: &'static str, arguments: Vec<Value>) -> Done<Value> {
    Ok(client.custom(CustomCommand::new_static(command, ClusterHash::FirstKey, false), arguments).await?)
}

/// Returns the elements of an answer.
fn list(answer: Value) -> Done<Vec<Value>> {
    match answer {
        Value::Array(values) => Ok(values),
        other => Err(format!("{other:?} is no list").into()),
    }
}

/// The server's own counts.
struct Stats(Client);

impl Stats {
    async fn info(&self, section: &'static str) -> Done<String> {
        let answer = say(&self.0, "INFO", vec![section.into()]).await?;
        Ok(answer.into_string().ok_or("INFO answers with text")?)
    }
}

#[async_trait]
impl Counter for Stats {
    fn name(&self) -> &'static str {
        "commands by `INFO commandstats`, those that scripts run among them, and bytes by `INFO stats`"
    }

    async fn counts(&self) -> Done<Counts> {
        let (commands, stats) = (self.info("commandstats").await?, self.info("stats").await?);
        let of = |line: &str| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            let count = rest.split(',').next()?.parse().ok()?;
            // Counting itself, and how a connection begins, are no part of a call.
            (!["info", "hello", "ping"].contains(&name)).then(|| (name.replace('|', " "), count))
        };
        let bytes = |name| field(&stats, name)?.parse().ok();
        Ok(Counts {
            requests: commands.lines().filter_map(of).collect(),
            received: bytes("total_net_input_bytes"),
            sent: bytes("total_net_output_bytes"),
        })
    }
}

/// Returns what stands behind a name and a colon.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}
