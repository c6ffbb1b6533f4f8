//! etcd, by etcd-client. `raw` is the plainest request, with the server's own locks; `eq` are the
//! requests by which versions, shared leases, listings of one moment and fair locks are made by hand.

mod eq;
mod raw;

use super::{Backend, ours::Ours, server};
use crate::{
    counts::{Counter, Counts},
    drive::named,
    side::Done,
};
use async_trait::async_trait;
use kv_testsuite::process::launch::etcd::{Member, Timing};
use std::{collections::BTreeMap, net::SocketAddr, path::Path};

/// Starts the server, and opens the sides.
pub(super) async fn start(folder: &Path) -> Done<Backend> {
    let ([clients, peers, metrics], ports) = server::ports()?;
    let peers = format!("http://{peers}");
    let member = Member {
        name: "n1".into(),
        data: folder.join("data"),
        clients: format!("http://{clients}"),
        clients_too: Vec::new(),
        peers: peers.clone(),
        cluster: vec![("n1".into(), peers)],
        timing: Timing::of(1),
    };
    let mut command = member.command(&server::program("etcd")?);
    command.arg(format!("--listen-metrics-urls=http://{metrics}"));
    // Rounds write millions of revisions.
    command.args([
        "--quota-backend-bytes=8589934592",
        "--auto-compaction-retention=10000",
        "--auto-compaction-mode=revision",
    ]);
    let probe =
        || async move { server::http(metrics, "/health").await.is_ok_and(|said| said.contains("\"true\"")) };
    let running = server::start(command, folder, ports, probe).await?;

    let ours =
        Ours::open(move || async move { kv_etcd::open(&format!("etcd://{clients}/ours")).await }).await?;
    let kv = ours.kv();
    let eq = eq::Eq::open(raw::Raw::open(clients, "eq").await?);
    let sides =
        vec![named("ours", ours), named("eq", eq), named("raw", raw::Raw::open(clients, "raw").await?)];
    let counter = Metrics(metrics);
    let version = counter.version().await?;
    Ok(Backend {
        version,
        sides,
        kv,
        counter: Some(Box::new(counter)),
        largest: usize::MAX,
        keep: Box::new(running),
    })
}

/// The address at which the server tells its metrics.
struct Metrics(SocketAddr);

impl Metrics {
    async fn version(&self) -> Done<String> {
        let all = server::http(self.0, "/metrics").await?;
        let version = all.split("server_version=\"").nth(1).and_then(|rest| rest.split('"').next());
        Ok(format!("etcd {}", version.unwrap_or("?")))
    }
}

#[async_trait]
impl Counter for Metrics {
    fn name(&self) -> &'static str {
        "messages by the server's `grpc_server_msg_received_total`, and bytes by `etcd_network_client_grpc_*`"
    }

    async fn counts(&self) -> Done<Counts> {
        let all = server::http(self.0, "/metrics").await?;
        let (mut requests, mut bytes) = (BTreeMap::new(), [None, None]);
        for line in all.lines() {
            let Some((name, value)) =
                line.rsplit_once(' ').and_then(|(name, value)| Some((name, value.parse().ok()?)))
            else {
                continue;
            };
            if let Some(labels) = name.strip_prefix("grpc_server_msg_received_total") {
                let method = labels.split("grpc_method=\"").nth(1).and_then(|rest| rest.split('"').next());
                *requests.entry(method.unwrap_or_default().to_owned()).or_insert(0.0) += value;
            }
            match name {
                "etcd_network_client_grpc_received_bytes_total" => bytes[0] = Some(value),
                "etcd_network_client_grpc_sent_bytes_total" => bytes[1] = Some(value),
                _ => {}
            }
        }
        let [received, sent] = bytes;
        Ok(Counts { requests, received, sent })
    }
}
