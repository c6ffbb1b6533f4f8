//! The commands and settings that servers are started with, by a person and by tests alike.
//!
//! Each has what all servers of its family are given here: loopback alone or the address that is
//! named, data that lie where they are told to, and times that are short. What one test or option
//! needs besides is added to it.

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
    /// Returns those of a folder that `ci/servers certs` has filled.
    #[must_use]
    pub fn within(folder: &Path) -> Self {
        let [ca, cert, key] = ["ca.pem", "server.pem", "server.key"].map(|name| folder.join(name));
        Self { ca, cert, key }
    }
}
