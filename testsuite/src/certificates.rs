//! Certificates of a server and its clients, and those that take their place.

use crate::{Failure, process::launch::Tls};
use kv_servers::certificates::make;
use std::{fs, path::PathBuf};
use tempfile::TempDir;

/// A CA, and the certificates that it signed for a server on loopback and for a client, each in a
/// file of its own: `ca.pem`, `server.pem`, `server.key`, `client.pem`, `client.key`; and
/// `server.both`, the server's key and certificate in one.
#[derive(Debug)]
pub struct Certificates(TempDir);

impl Certificates {
    /// The names of the files that a server needs.
    pub const OF_SERVER: [&str; 4] = ["ca.pem", "server.pem", "server.key", "server.both"];
    /// The names of the files that a client needs.
    pub const OF_CLIENT: [&str; 3] = ["ca.pem", "client.pem", "client.key"];
    /// The names of all files.
    pub const ALL: [&str; 6] =
        ["ca.pem", "server.pem", "server.key", "server.both", "client.pem", "client.key"];

    /// Makes the certificates of a new CA.
    ///
    /// # Errors
    /// The folder for temporary files cannot be written.
    pub fn new() -> Result<Self, Failure> {
        let Self(folder) = Self::none()?;
        make(folder.path())?;
        let (key, cert) = (folder.path().join("server.key"), folder.path().join("server.pem"));
        fs::write(folder.path().join("server.both"), [fs::read(key)?, fs::read(cert)?].concat())?;
        Ok(Self(folder))
    }

    /// Makes a folder without files.
    fn none() -> Result<Self, Failure> {
        Ok(Self(tempfile::tempdir()?))
    }

    /// Returns the path of the file with this name.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Returns the settings with which a server is started to speak TLS.
    #[must_use]
    pub fn of_server(&self) -> Tls {
        Tls::within(self.0.path())
    }

    /// Returns the settings with which a client speaks TLS to the server, and proves who it is.
    pub fn of_client(&self) -> kv_core::Tls {
        let [ca, cert, key] = Self::OF_CLIENT.map(|name| self.file(name));
        kv_core::Tls::new().ca(ca).client_certificate(cert, key)
    }

    /// Returns the parameters of a URL that name the client's files.
    #[must_use]
    pub fn parameters(&self) -> String {
        let [ca, cert, key] = Self::OF_CLIENT.map(|name| self.file(name));
        format!("ca={}&cert={}&key={}", ca.display(), cert.display(), key.display())
    }

    /// Replaces these files by those of `from`, one after another. Each is replaced at once, so
    /// that nobody reads half of it.
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

/// The certificates that a server has, and those that its clients have, in folders of their own:
/// each side's can be replaced before the other's.
#[derive(Debug)]
pub struct Rotation {
    /// Those of the server; the first ones of clients are copies of them.
    pub server: Certificates,
    /// Those of clients.
    pub client: Certificates,
}

impl Rotation {
    /// Makes the certificates of both sides, of one new CA.
    ///
    /// # Errors
    /// Those of [`Certificates::new`].
    pub fn new() -> Result<Self, Failure> {
        let rotation = Self { server: Certificates::new()?, client: Certificates::none()? };
        rotation.renew_client()?;
        Ok(rotation)
    }

    /// Replaces the server's files by those of a new CA, which clients do not know yet.
    ///
    /// # Errors
    /// Those of [`Certificates::new`] and [`Certificates::take`].
    pub fn renew_server(&self) -> Result<(), Failure> {
        self.server.take(&Certificates::new()?, &Certificates::ALL)
    }

    /// Replaces the clients' files by those that go with the server's.
    ///
    /// # Errors
    /// Those of [`Certificates::take`].
    pub fn renew_client(&self) -> Result<(), Failure> {
        self.client.take(&self.server, &Certificates::OF_CLIENT)
    }
}
