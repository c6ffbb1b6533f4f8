//! Settings that the backends of servers have in common.

use crate::{Error, ErrorKind, Result, Secret};
use std::{
    fmt,
    path::{Path, PathBuf},
};

fn refused(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, why.into())
}

fn half(what: &str) -> Error {
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

/// The TLS settings as a user gives them, by the names that they have in URLs.
///
/// ```
/// use kv_core::{ErrorKind, backend::TlsSettings};
///
/// assert!(TlsSettings::default().read()?.is_none());
/// let half = TlsSettings { cert: Some("cert.pem".as_ref()), ..Default::default() };
/// let e = half.read().unwrap_err();
/// assert_eq!(e.kind(), ErrorKind::InvalidArgument);
/// assert!(e.to_string().contains("`cert` without `key`"));
/// # Ok::<_, kv_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct TlsSettings<'a> {
    /// `tls`: on by itself when one of the others is given.
    pub tls: Option<bool>,
    /// `ca`: the PEM file of the authorities that are trusted, in place of the system's.
    pub ca: Option<&'a Path>,
    /// `cert`: the PEM file of our own certificate.
    pub cert: Option<&'a Path>,
    /// `key`: the PEM file of its key.
    pub key: Option<&'a Path>,
    /// `server_name`: the name that the server's certificate must have, where it is not the one of its address.
    pub server_name: Option<&'a str>,
}

/// TLS, with the files that the settings name, as they are now: [`TlsSettings::read`] reads them again, and equality
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

impl TlsSettings<'_> {
    /// Whether they ask for TLS. Reads nothing.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for settings that are half given or contradict each other.
    pub fn are_on(&self) -> Result<bool> {
        let given =
            self.ca.is_some() || self.cert.is_some() || self.key.is_some() || self.server_name.is_some();
        match (self.tls, self.cert, self.key) {
            (Some(false), ..) if given => {
                Err(half("`tls` is off, yet `ca`, `cert`, `key` or `server_name` is given"))
            }
            (_, Some(_), None) => Err(half("the TLS setting `cert` without `key`")),
            (_, None, Some(_)) => Err(half("the TLS setting `key` without `cert`")),
            (tls, ..) => Ok(tls.unwrap_or(given)),
        }
    }

    /// What they come to: `None` for plain text.
    ///
    /// # Errors
    /// Those of [`are_on`](Self::are_on), and [`InvalidArgument`](ErrorKind::InvalidArgument) for a file that cannot be read,
    /// by its name.
    pub fn read(&self) -> Result<Option<TlsFiles>> {
        if !self.are_on()? {
            return Ok(None);
        }
        let identity = match (self.cert, self.key) {
            (Some(cert), Some(key)) => Some((Pem::read("cert", cert)?, Pem::read("key", key)?)),
            _ => None,
        };
        let ca = self.ca.map(|file| Pem::read("ca", file)).transpose()?;
        Ok(Some(TlsFiles { ca, identity, server_name: self.server_name.map(str::to_owned) }))
    }
}

impl Pem {
    fn read(setting: &'static str, file: &Path) -> Result<Self> {
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

    #[test]
    fn tls_is_off_on_or_refused() {
        let on = TlsSettings { tls: Some(true), ..Default::default() }.read().unwrap().unwrap();
        assert!(on.ca.is_none() && on.identity.is_none());
        let name = Some("n");
        assert!(TlsSettings { server_name: name, ..Default::default() }.read().unwrap().is_some());
        assert!(TlsSettings { tls: Some(false), ..Default::default() }.read().unwrap().is_none());
        for (settings, says) in [
            (TlsSettings { tls: Some(false), server_name: name, ..Default::default() }, "`tls` is off"),
            (TlsSettings { key: Some("k".as_ref()), ..Default::default() }, "`key` without `cert`"),
            (TlsSettings { ca: Some("/no/such".as_ref()), ..Default::default() }, "/no/such cannot be read"),
        ] {
            let e = settings.read().unwrap_err();
            assert!(e.kind() == ErrorKind::InvalidArgument && e.to_string().contains(says), "{e}");
        }
    }
}
