//! Servers that speak TLS.

use super::*;
use kv_testsuite::{
    Certificates,
    process::launch::zookeeper::{OF_TLS, tls},
};

/// Starts a server that speaks TLS alone, on 127.0.0.1. It asks clients for certificates as
/// `of_clients` says, the value of `ssl.clientAuth`.
pub async fn server(certificates: &Certificates, kind: &str, of_clients: &str) -> Result<Node, Failure> {
    let node = server_on(certificates, kind, of_clients, "127.0.0.1")?;
    node.listens().await?;
    Ok(node)
}

/// Does the same as [`server`] on this host, and does not wait until it listens.
pub fn server_on(
    certificates: &Certificates,
    kind: &str,
    of_clients: &str,
    host: &str,
) -> Result<Node, Failure> {
    let mut setup = Setup::new(kind);
    setup.is_tls_alone = true;
    setup.with_tls(certificates, of_clients, host, "PORT");
    let node = nodes(&setup, 1)?.remove(0);
    node.daemon.spawn()?;
    Ok(node)
}

impl Setup {
    /// Has the server speak TLS there too.
    pub fn with_tls(&mut self, certificates: &Certificates, of_clients: &str, host: &str, port: &str) {
        self.flags.push(' ');
        self.flags.push_str(OF_TLS);
        let (both, ca) = (certificates.file("server.both"), certificates.file("ca.pem"));
        self.more.extend(tls(host, port, &both, &ca, of_clients));
    }
}
