//! Settings that the backends of servers have in common.

use crate::{Error, ErrorKind, Result, Secret};
use std::{
    fmt,
    path::{Path, PathBuf},
};

fn refused(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, why.into())
}

/// The error for what is given without its other half.
pub(crate) fn half(what: &str) -> Error {
    refused(format!("{what}; give both, or none of them"))
}

/// The address with this port, where it has none: `host`, `host:port`, `[v6]` and `[v6]:port` are known.
///
/// ```
/// use kv_core::backend::with_port;
///
/// assert_eq!(with_port("h1", 2379), "h1:2379");
/// assert_eq!(with_port("[::1]:80", 2379), "[::1]:80");
/// ```
#[must_use]
pub fn with_port(host: &str, port: u16) -> String {
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
    if has_port { host.to_owned() } else { format!("{host}:{port}") }
}

/// The prefix that means the directory of this name: with the slash that it lacks, unless it is empty.
///
/// ```
/// use kv_core::backend::directory_prefix;
///
/// assert_eq!(directory_prefix("app"), "app/");
/// assert_eq!(directory_prefix("app/"), "app/");
/// assert_eq!(directory_prefix(""), "");
/// ```
#[must_use]
pub fn directory_prefix(prefix: impl Into<String>) -> String {
    let mut prefix = prefix.into();
    if !prefix.is_empty() && !prefix.ends_with('/') {
        prefix.push('/');
    }
    prefix
}

/// A user and a password, or none of them.
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument) where one is given without the other.
pub fn login(user: Option<&str>, password: Option<&Secret>) -> Result<Option<(String, Secret)>> {
    match (user, password) {
        (Some(user), Some(password)) => Ok(Some((user.to_owned(), password.clone()))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(half("a user without a password")),
        (None, Some(_)) => Err(half("a password without a user")),
    }
}

/// TLS, with the files that the settings name, as they are now: [`Tls::read`](crate::Tls::read) reads them again, and equality
/// tells whether they have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who is trusted; the system's roots where there is none.
    pub ca: Option<Pem>,
    /// Our own certificate, and its key.
    pub identity: Option<(Pem, Pem)>,
    /// The name that the server's certificate must have.
    pub server_name: Option<String>,
}

/// What a file holds that a TLS setting names. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    setting: &'static str,
    file: PathBuf,
    bytes: Vec<u8>,
}

impl Pem {
    pub(crate) fn read(setting: &'static str, file: &Path) -> Result<Self> {
        let bytes = std::fs::read(file).map_err(|e| {
            refused(format!("the TLS setting `{setting}`: {} cannot be read", file.display())).with_cause(e)
        })?;
        Ok(Self { setting, file: file.to_owned(), bytes })
    }

    /// What the file holds.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The error for a file that holds something else. The parser's own words are left out: they may show what it read.
    pub fn wrong(&self) -> Error {
        refused(format!("the TLS settings: {} is no PEM file for `{}`", self.file.display(), self.setting))
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pem({} bytes of {})", self.bytes.len(), self.file.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_its_port() {
        for (host, full) in [("h", "h:7"), ("h:1", "h:1"), ("[::1]", "[::1]:7"), ("[::1]:1", "[::1]:1")] {
            assert_eq!(with_port(host, 7), full);
        }
    }

    #[test]
    fn a_login_is_whole_or_none() {
        let password = Secret::from("hush".to_owned());
        assert!(login(None, None).unwrap().is_none());
        assert_eq!(login(Some("me"), Some(&password)).unwrap().unwrap().0, "me");
        for half in [login(Some("me"), None), login(None, Some(&password))] {
            let e = half.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidArgument);
            assert!(!e.to_string().contains("hush"));
        }
    }
}
