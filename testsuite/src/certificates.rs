//! Certificates of a server and its clients, and those that take their place.

use crate::{Failure, process::run};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// A CA, and the certificates that it signed for a server on loopback and for a client, each in a file of its own: `ca.pem`,
/// `server.pem`, `server.key`, `client.pem`, `client.key`; and `server.both`, the server's key and certificate in one.
#[derive(Debug)]
pub struct Certificates(TempDir);

impl Certificates {
    /// What a server has of them.
    pub const OF_SERVER: [&str; 4] = ["ca.pem", "server.pem", "server.key", "server.both"];
    /// What a client has of them.
    pub const OF_CLIENT: [&str; 3] = ["ca.pem", "client.pem", "client.key"];
    /// The names of all.
    pub const ALL: [&str; 6] =
        ["ca.pem", "server.pem", "server.key", "server.both", "client.pem", "client.key"];

    /// Those of a new CA.
    ///
    /// # Errors
    /// The machine lacks `openssl`, or the folder for temporary files cannot be written.
    pub fn new() -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let mut make = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/servers"));
        make.arg("certs").arg(folder.path());
        run(make, b"")?;
        let (key, cert) = (folder.path().join("server.key"), folder.path().join("server.pem"));
        fs::write(folder.path().join("server.both"), [fs::read(key)?, fs::read(cert)?].concat())?;
        Ok(Self(folder))
    }

    /// The path of the file with this name.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The parameters of a URL that name what a client has.
    #[must_use]
    pub fn parameters(&self) -> String {
        let [ca, cert, key] = Self::OF_CLIENT.map(|name| self.file(name));
        format!("ca={}&cert={}&key={}", ca.display(), cert.display(), key.display())
    }

    /// Replaces these files by those of another. Nobody reads half of one; one after another they are new.
    ///
    /// # Errors
    /// One of the folders is gone.
    pub fn take(&self, from: &Self, names: &[&str]) -> Result<(), Failure> {
        for name in names {
            let new = self.file(&format!("{name}.new"));
            fs::copy(from.file(name), &new)?;
            fs::rename(new, self.file(name))?;
        }
        Ok(())
    }
}
