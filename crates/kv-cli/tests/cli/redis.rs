//! A server that tests can stop, and speak to as other tools do.

use kv_testsuite::process::{Daemon, Port, folder, launch::redis, server};
use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    process::Command,
};
use tempfile::TempDir;

/// A Redis of our own, which keeps its data and its port while it is stopped.
pub(crate) struct Redis {
    daemon: Daemon,
    port: Port,
    _data: TempDir,
}

impl Redis {
    pub(crate) async fn start() -> Self {
        let (port, data) = (Port::new().unwrap(), folder().unwrap());
        let mut command = Command::new(server("redis", "KV_REDIS_URL").unwrap());
        command.args(redis::arguments(&redis::settings(port.address(), data.path())));
        let redis = Self { daemon: Daemon::new(command, data.path().join("log")), port, _data: data };
        redis.start_again().await;
        redis
    }

    pub(crate) async fn start_again(&self) {
        self.daemon.spawn().unwrap();
        let address = self.port.address();
        self.daemon.serves(|| async move { TcpStream::connect(address).is_ok() }).await.unwrap();
    }

    /// Stops the server, and returns when a client has tried in vain to reach it so many times.
    pub(crate) fn stop_for(&self, tries: usize) {
        self.daemon.stop();
        let listener = TcpListener::bind(self.port.address()).unwrap();
        for _ in 0..tries {
            drop(listener.accept().unwrap());
        }
    }

    pub(crate) fn stop(&self) {
        self.daemon.stop();
    }

    /// Returns the URL of the server, with what is to stand before its address.
    pub(crate) fn url(&self, user: &str) -> String {
        format!("redis://{user}{}/", self.port.address())
    }

    /// Has the server do this, in its own words, and returns its answer.
    pub(crate) fn say(&self, words: &str) -> String {
        let mut server = TcpStream::connect(self.port.address()).unwrap();
        server.write_all(format!("{words}\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(server).read_line(&mut answer).unwrap();
        assert!(!answer.starts_with('-'), "{words}: {answer}");
        answer
    }
}
