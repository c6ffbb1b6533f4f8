//! How a store is opened.

use crate::{Etcd, client::Client};
use kv_core::{
    Deadline, Result, Secret, StoreUrl,
    backend::{Clock, TlsFiles, TlsSettings, login, with_port},
};
use std::{path::PathBuf, time::Duration};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

const PORT: u16 = 2379;

/// The settings of a store; [`from_url`](crate::from_url) reads the same from a URL.
///
/// TLS is on when `tls` says so or any of `ca`, `cert`, `key` and `server_name` is given; without a `ca` the system's
/// roots are trusted. `Debug` shows no password.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::Kv;
/// use kv_etcd::Config;
///
/// let config = Config::new(["h1:2379", "h2:2379", "h3:2379"])
///     .prefix("app/")
///     .user("me", "secret")
///     .ca("/etc/etcd/ca.pem");
/// let kv = Kv::new(config.open().await?);
/// kv.put("color", "red").await?; // `etcdctl get app/color`
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize), serde(default, deny_unknown_fields))]
#[must_use = "nothing is opened until `open`"]
pub struct Config {
    endpoints: Vec<String>,
    prefix: String,
    user: Option<String>,
    password: Option<Secret>,
    tls: Option<bool>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    server_name: Option<String>,
    #[cfg_attr(feature = "serde", serde(skip))]
    deadline: Option<Duration>,
    #[cfg_attr(feature = "serde", serde(skip))]
    clock: Clock,
}

impl Config {
    /// For the cluster of these members, `host:port` each; port 2379 where none is given. They are tried in turn when one
    /// fails, so name all that clients may use.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self { endpoints: endpoints.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// What all names on the server begin with, byte for byte; nothing unless told otherwise.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Who asks, where the cluster has authentication switched on.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<Secret>) -> Self {
        (self.user, self.password) = (Some(name.into()), Some(password.into()));
        self
    }

    /// Whether to speak TLS; on by itself when one of the following is given.
    pub fn tls(mut self, on: bool) -> Self {
        self.tls = Some(on);
        self
    }

    /// The PEM file of the authorities that may have signed the members' certificates, in place of the system's.
    pub fn ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca = Some(file.into());
        self
    }

    /// The PEM files of our own certificate and its key.
    pub fn client_certificate(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        (self.cert, self.key) = (Some(cert.into()), Some(key.into()));
        self
    }

    /// The name that the members' certificates must have, where it is not the one of their addresses.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// How long opening may take: five seconds unless told otherwise.
    pub fn deadline(mut self, within: Duration) -> Self {
        self.deadline = Some(within);
        self
    }

    /// The clock by which locks and leases of this side live: the system's, but in tests.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the store, and learns from the server what it can do.
    ///
    /// # Errors
    /// [`InvalidArgument`](kv_core::ErrorKind::InvalidArgument) for settings that are half given or that the server does
    /// not understand, [`Unauthenticated`](kv_core::ErrorKind::Unauthenticated) for credentials and certificates that one
    /// of the two sides does not accept, both at once; [`Unavailable`](kv_core::ErrorKind::Unavailable) or
    /// [`Timeout`](kv_core::ErrorKind::Timeout) when no member answered in time;
    /// [`Unsupported`](kv_core::ErrorKind::Unsupported) for an etcd before 3.4.
    pub async fn open(self) -> Result<Etcd> {
        let login = login(self.user.as_deref(), self.password.as_ref())?;
        let tls = self.tls_config()?;
        let endpoints: Vec<_> = self.endpoints.iter().map(|host| with_port(host, PORT)).collect();
        let client = Client::new(&endpoints, tls, login)?;
        Etcd::open(
            client,
            self.prefix,
            self.clock,
            Deadline::after(self.deadline.unwrap_or(Deadline::DEFAULT)),
        )
        .await
    }

    pub(crate) fn from_url(mut url: StoreUrl) -> Result<Self> {
        let config = Self {
            endpoints: url.hosts_or(PORT),
            prefix: url.prefix().to_owned(),
            user: url.user().map(str::to_owned),
            password: url.password().cloned(),
            tls: url.take("tls")?,
            ca: url.take("ca")?,
            cert: url.take("cert")?,
            key: url.take("key")?,
            server_name: url.take("server_name")?,
            ..Self::default()
        };
        url.finish()?;
        Ok(config)
    }

    fn tls_config(&self) -> Result<Option<ClientTlsConfig>> {
        let settings = TlsSettings {
            tls: self.tls,
            ca: self.ca.as_deref(),
            cert: self.cert.as_deref(),
            key: self.key.as_deref(),
            server_name: self.server_name.as_deref(),
        };
        let Some(TlsFiles { ca, identity, server_name }) = settings.read()? else { return Ok(None) };
        let mut tls = ClientTlsConfig::new();
        tls = match ca {
            Some(ca) => tls.ca_certificate(Certificate::from_pem(ca.bytes())),
            None => tls.with_native_roots(),
        };
        if let Some((cert, key)) = identity {
            tls = tls.identity(Identity::from_pem(cert.bytes(), key.bytes()));
        }
        if let Some(name) = server_name {
            tls = tls.domain_name(name);
        }
        Ok(Some(tls))
    }
}

#[cfg(all(test, feature = "serde"))]
mod tests {
    use super::Config;

    #[test]
    fn a_configuration_is_read_and_what_it_misspells_is_named() {
        let text = r#"{"endpoints": ["h1", "h2:2379"], "prefix": "app/", "user": "me", "password": "hush", "ca": "ca.pem"}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert_eq!(config.endpoints, ["h1", "h2:2379"]);
        assert_eq!((&*config.prefix, config.user.as_deref(), config.tls), ("app/", Some("me"), None));
        assert_eq!(config.password.as_ref().map(|password| password.reveal()), Some("hush"));
        assert_eq!(config.ca.as_deref(), Some("ca.pem".as_ref()));
        assert!(!format!("{config:?}").contains("hush"));
        let misspelt = serde_json::from_str::<Config>(r#"{"endpoint": "h1"}"#).unwrap_err().to_string();
        assert!(misspelt.contains("`endpoint`") && misspelt.contains("`endpoints`"), "{misspelt}");
    }
}
