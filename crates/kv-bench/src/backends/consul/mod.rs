//! Consul, by reqwest. `raw` reads in the server's default mode and writes by `PUT /v1/kv`; `eq` reads
//! consistently and writes by transactions, which tell the version.

mod client;
mod eq;
mod raw;

use super::{
    Backend,
    ours::Ours,
    proxy::{Counting, Proxy},
    server,
};
use crate::{
    drive::{Opened, named},
    side::Done,
};
use kv_testsuite::process::launch::consul::{Server, add, command};
use serde_json::json;
use std::{net::SocketAddr, path::Path};

/// Starts the server, and opens the sides.
pub(super) async fn start(folder: &Path) -> Done<Backend> {
    let ([http, rpc, serf], ports) = server::ports()?;
    let launch = Server { name: "n1".into(), data: folder.join("data"), http, rpc, serf, all: vec![serf] };
    let mut settings = launch.settings();
    let more = json!({
        "session_ttl_min": "500ms", "leave_on_terminate": false,
        "limits": { "http_max_conns_per_client": 4_000 },
    });
    add(&mut settings, &more);
    let file = folder.join("consul.json");
    std::fs::write(&file, serde_json::to_vec(&settings)?)?;
    let program = command(&server::program("consul")?, &file);
    // A leader is known a little before it takes writes, so that only a write tells.
    let write = "DELETE /v1/kv/ready HTTP/1.0\r\nContent-Length: 0\r\n\r\n";
    let probe =
        || async move { server::question(http, write).await.is_ok_and(|said| said.ends_with("true")) };
    let running = server::start(program, folder, ports, probe).await?;

    let (ours, sides) = sides(http, ["ours", "eq", "raw"]).await?;
    let proxy = Proxy::start(http).await?;
    // A key under the session of one client is not another's to write.
    let (_, counted) = self::sides(proxy.address, ["ours-counted", "eq-counted", "raw-counted"]).await?;
    let agent = server::http(http, "/v1/agent/self").await?;
    let version = agent.split("\"Version\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("?");
    Ok(Backend {
        version: format!("Consul {version}"),
        sides,
        kv: ours.kv(),
        counter: Some(Box::new(Counting { proxy, sides: counted })),
        largest: usize::MAX,
        keep: Box::new(running),
    })
}

/// Opens the sides at this address, each below its prefix.
async fn sides(at: SocketAddr, prefixes: [&'static str; 3]) -> Done<(Ours, Vec<Box<dyn Opened>>)> {
    let [ours, eq, raw] = prefixes;
    let ours =
        Ours::open(move || async move { kv_consul::open(&format!("consul://{at}/{ours}")).await }).await?;
    let sides = vec![
        named("ours", ours.clone()),
        named("eq", eq::Eq::open(client::Consul::open(at, eq).await?)),
        named("raw", raw::Raw(client::Consul::open(at, raw).await?)),
    ];
    Ok((ours, sides))
}
