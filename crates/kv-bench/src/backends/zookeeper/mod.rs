//! ZooKeeper, by zookeeper-client. `raw` reads whichever member it is connected to; `eq` reads behind
//! a write, and counts what is made anew.

mod eq;
mod raw;

use super::{Backend, ours::Ours, server};
use crate::{
    counts::{Counter, Counts},
    drive::named,
    side::Done,
};
use async_trait::async_trait;
use kv_testsuite::process::launch::zookeeper::{Server, command, plain};
use std::{net::SocketAddr, path::Path};

/// Starts the server, and opens the sides.
pub(super) async fn start(folder: &Path) -> Done<Backend> {
    let ([address], ports) = server::ports()?;
    let launch = Server { id: 1, data: folder.join("data"), members: Vec::new() };
    std::fs::create_dir(&launch.data)?;
    std::fs::write(launch.data.join("myid"), launch.myid())?;
    let settings = folder.join("zoo.cfg");
    let lines = [launch.settings(), plain(address).to_vec()].concat();
    std::fs::write(&settings, lines.join("\n"))?;
    let program = command(&server::program("zookeeper")?, &settings, "");
    let probe =
        || async move { server::question(address, "srvr").await.is_ok_and(|said| said.contains("Mode:")) };
    let running = server::start(program, folder, ports, probe).await?;

    let ours =
        Ours::open(move || async move { kv_zookeeper::open(&format!("zookeeper://{address}/ours")).await })
            .await?;
    let kv = ours.kv();
    let eq = eq::Eq::open(raw::Raw::open(address, "eq").await?).await?;
    let sides =
        vec![named("ours", ours), named("eq", eq), named("raw", raw::Raw::open(address, "raw").await?)];
    let said = server::question(address, "srvr").await?;
    let version = said.split("version: ").nth(1).and_then(|rest| rest.split('-').next()).unwrap_or("?");
    let version = format!("ZooKeeper {version}");
    Ok(Backend {
        version,
        sides,
        kv,
        counter: Some(Box::new(Monitor(address))),
        largest: usize::MAX,
        keep: Box::new(running),
    })
}

/// The address at which the server answers commands of four letters.
struct Monitor(SocketAddr);

#[async_trait]
impl Counter for Monitor {
    fn name(&self) -> &'static str {
        "packets and bytes that the server received by `mntr`, pings among them"
    }

    async fn counts(&self) -> Done<Counts> {
        let said = server::question(self.0, "mntr").await?;
        let of = |name: &str| {
            said.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('\t')?.trim().parse::<f64>().ok())
        };
        let packets = of("zk_packets_received").ok_or("the server counts packets")?;
        let requests = [("requests".to_owned(), packets)].into();
        Ok(Counts { requests, received: of("zk_bytes_received_count"), sent: None })
    }
}
