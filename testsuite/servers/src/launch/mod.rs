//! The commands and settings that servers are started with, by a person and by tests alike.
//!
//! Each has what all servers of its family are given here: loopback alone or the address that is
//! named, a folder for the data, and times that are short. A test or an option adds what it needs
//! besides.

use std::path::{Path, PathBuf};

pub mod consul;
pub mod dynamodb;
pub mod etcd;
pub mod redis;
pub mod zookeeper;

/// The files of a server that speaks TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate of the CA.
    pub ca: PathBuf,
    /// The server's certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Tls {
    /// Returns the files of a folder that `ci/servers certs` has filled.
    #[must_use]
    pub fn within(folder: &Path) -> Self {
        let [ca, cert, key] = ["ca.pem", "server.pem", "server.key"].map(|name| folder.join(name));
        Self { ca, cert, key }
    }
}
