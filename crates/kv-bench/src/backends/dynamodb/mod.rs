//! DynamoDB, by AWS's SDK, on an emulator: its counts are right, its speeds are the emulator's own.

mod table;

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
use kv_dynamodb::Config;
use kv_testsuite::process::launch::dynamodb::command;
use std::{net::SocketAddr, path::Path};
use table::Table;

pub(super) const REGION: &str = "us-east-1";
pub(super) const LOGIN: [&str; 2] = ["bench", "not-a-secret"];

/// Starts the emulator, and opens the sides.
pub(super) async fn start(folder: &Path) -> Done<Backend> {
    let ([address], ports) = server::ports()?;
    let program = command(&server::program("dynamodb")?, address.port(), &folder.join("tables"));
    let probe = || async move { tokio::net::TcpStream::connect(address).await.is_ok() };
    let running = server::start(program, folder, ports, probe).await?;
    let (ours, sides) = sides(address, true).await?;
    let proxy = Proxy::start(address).await?;
    let (_, counted) = self::sides(proxy.address, false).await?;
    Ok(Backend {
        version: "an emulator of DynamoDB".into(),
        sides,
        kv: ours.kv(),
        counter: Some(Box::new(Counting { proxy, sides: counted })),
        largest: 1_000,
        keep: Box::new(running),
    })
}

/// Opens the sides at this address; the first time their tables are made.
async fn sides(at: SocketAddr, is_first: bool) -> Done<(Ours, Vec<Box<dyn Opened>>)> {
    let [id, secret] = LOGIN;
    let open = move || async move {
        let config = Config::new("ours").endpoint(format!("http://{at}")).region(REGION);
        config.credentials(id, secret).create(true).open().await
    };
    let ours = Ours::open(open).await?;
    let sides = vec![
        named("ours", ours.clone()),
        named("eq", Table::open(at, "bench-eq", true, is_first).await?),
        named("raw", Table::open(at, "bench-raw", false, is_first).await?),
    ];
    Ok((ours, sides))
}
