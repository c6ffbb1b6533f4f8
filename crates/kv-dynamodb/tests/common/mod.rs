//! An emulator of DynamoDB that the tests start.

#![allow(unreachable_pub, reason = "a module of test programs")]
#![allow(dead_code, reason = "each test program uses a part")]

use aws_sdk_dynamodb::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
};
use kv_core::Kv;
use kv_dynamodb::Config;
use kv_testsuite::{
    Failure,
    process::{Daemon, Port, copy, folder, launch::dynamodb::command, server},
};
use std::net::SocketAddr;
use tempfile::TempDir;
use tokio::net::TcpStream;

mod damage;
pub mod front;
pub mod suite;

/// The variable that names a live table to run the suite on.
pub const LIVE: &str = "KV_DYNAMODB_URL";
/// The login. The emulator takes any; tests look for the secret in what is shown.
pub const KEY_ID: &str = "kv-tests";
pub const SECRET: &str = "not-a-secret";
pub const REGION: &str = "us-east-1";

/// An emulator, with its data in a file.
pub struct Node {
    pub address: SocketAddr,
    pub daemon: Daemon,
    _port: Port,
    folder: TempDir,
}

/// Starts an emulator without a table; returns when it serves.
pub async fn single() -> Result<Node, Failure> {
    let folder = folder()?;
    std::fs::create_dir(folder.path().join("data"))?;
    let port = Port::new()?;
    let address = port.address();
    let command = command(&server("dynamodb", LIVE)?, address.port(), &folder.path().join("data/table"));
    let daemon = Daemon::new(command, folder.path().join("log"));
    let node = Node { address, daemon, _port: port, folder };
    node.start().await?;
    Ok(node)
}

impl Node {
    /// Starts the emulator; returns when it serves.
    pub async fn start(&self) -> Result<(), Failure> {
        self.daemon.spawn()?;
        self.daemon.serves(|| async { TcpStream::connect(self.address).await.is_ok() }).await
    }

    /// Keeps a copy of the emulator's data, or puts that copy in their place; returns when it
    /// serves again.
    pub async fn copy(&self, from: &str, to: &str) -> Result<(), Failure> {
        self.daemon.stop();
        copy(&self.folder.path().join(from), &self.folder.path().join(to))?;
        self.start().await
    }

    pub fn config(&self, table: &str) -> Config {
        config(self.address, table)
    }

    pub async fn open(&self, table: &str) -> Result<Kv, Failure> {
        Ok(self.config(table).create(true).open().await?)
    }

    /// Returns a client of the bare SDK.
    pub fn sdk(&self) -> Client {
        sdk(self.address)
    }

    pub fn url(&self, table: &str, prefix: &str) -> String {
        url(self.address, table, prefix)
    }
}

pub fn config(address: SocketAddr, table: &str) -> Config {
    Config::new(table).endpoint(format!("http://{address}")).region(REGION).credentials(KEY_ID, SECRET)
}

pub fn url(address: SocketAddr, table: &str, prefix: &str) -> String {
    format!(
        "dynamodb://{KEY_ID}:{SECRET}@{table}/{prefix}?endpoint=http://{address}&region={REGION}&create=true"
    )
}

pub fn sdk(address: SocketAddr) -> Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(format!("http://{address}"))
        .region(Region::new(REGION))
        .credentials_provider(Credentials::new(KEY_ID, SECRET, None, None, "tests"))
        .build();
    Client::from_conf(config)
}
