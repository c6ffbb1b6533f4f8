//! Servers that speak TLS alone.

use super::*;
use kv_testsuite::process::certificates;
use std::path::Path;

/// All that there is.
pub const FILES: [&str; 4] = ["ca.pem", "client.pem", "client.key", "both.pem"];

/// A CA, and certificates that it signed for a server on loopback and for a client.
pub struct Certificates(TempDir);

impl Certificates {
    pub fn new() -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        certificates(folder.path())?;
        let (key, cert) = (folder.path().join("server.key"), folder.path().join("server.pem"));
        // Java wants both in one file.
        let both = [std::fs::read(&key)?, std::fs::read(&cert)?].concat();
        std::fs::write(folder.path().join("both.pem"), both)?;
        Ok(Self(folder))
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    /// A server that speaks TLS alone.
    pub async fn server(&self, kind: &str, client_auth: &str) -> Result<Node, Failure> {
        let node = self.server_on(kind, client_auth, "127.0.0.1")?;
        node.listens().await?;
        Ok(node)
    }

    pub fn server_on(&self, kind: &str, client_auth: &str, address: &str) -> Result<Node, Failure> {
        let mut setup = Setup::new(kind);
        setup.flags =
            "-Dzookeeper.serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory".into();
        setup.more = vec![
            "secureClientPort=PORT".into(),
            format!("secureClientPortAddress={address}"),
            format!("ssl.keyStore.location={}", self.file("both.pem").display()),
            "ssl.keyStore.type=PEM".into(),
            format!("ssl.trustStore.location={}", self.file("ca.pem").display()),
            "ssl.trustStore.type=PEM".into(),
            format!("ssl.clientAuth={client_auth}"),
        ];
        let node = nodes(&setup, 1)?.remove(0);
        node.daemon.spawn()?;
        Ok(node)
    }
}
