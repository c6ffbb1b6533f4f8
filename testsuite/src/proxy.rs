//! A TCP proxy that can be slow, cut, frozen, or cut after a request has left.

use std::net::SocketAddr;

/// A TCP proxy on loopback in front of a server.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
}

impl Proxy {
    /// Starts one in front of this address, on a free port of loopback.
    pub async fn start(_server: SocketAddr) -> Self {
        unreachable!("to come")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
