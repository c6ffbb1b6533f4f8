//! How a store is opened.

use crate::{
    Consul,
    client::{Client, Common, Tls},
};
use kv_core::{
    Deadline, Error, ErrorKind, Result, Secret, StoreUrl,
    backend::{Clock, TlsSettings, with_port},
};
use std::{path::PathBuf, time::Duration};

const PORT: u16 = 8500;

/// The settings of a store; [`from_url`](crate::from_url) reads the same from a URL.
///
/// TLS is on when `tls` says so or any of `ca`, `cert`, `key` and `server_name` is given; without a `ca` the system's
/// roots are trusted. `Debug` shows no token.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_consul::Config;
/// use kv_core::Kv;
///
/// let config = Config::new(["h1:8501", "h2:8501"]).prefix("app/").token("secret").ca("/etc/consul/ca.pem");
/// let kv = Kv::new(config.open().await?);
/// kv.put("color", "red").await?; // `consul kv get app/color`
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize), serde(default, deny_unknown_fields))]
#[must_use = "nothing is opened until `open`"]
pub struct Config {
    endpoints: Vec<String>,
    prefix: String,
    token: Option<Secret>,
    datacenter: Option<String>,
    namespace: Option<String>,
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
    /// For the datacenter of these agents, `host:port` each; port 8500 where none is given. They are tried in turn when one
    /// fails; one that runs on the same machine is the usual choice, and finds the servers by itself.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self { endpoints: endpoints.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// What all names on the server begin with, byte for byte; nothing unless told otherwise.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The ACL token, where the datacenter asks for one.
    pub fn token(mut self, token: impl Into<Secret>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Another datacenter than the agents' own.
    pub fn datacenter(mut self, name: impl Into<String>) -> Self {
        self.datacenter = Some(name.into());
        self
    }

    /// The namespace, where the server has them (Consul Enterprise).
    pub fn namespace(mut self, name: impl Into<String>) -> Self {
        self.namespace = Some(name.into());
        self
    }

    /// Whether to speak TLS; on by itself when one of the following is given.
    pub fn tls(mut self, on: bool) -> Self {
        self.tls = Some(on);
        self
    }

    /// The PEM file of the authorities that may have signed the agents' certificates, in place of the system's.
    pub fn ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca = Some(file.into());
        self
    }

    /// The PEM files of our own certificate and its key.
    pub fn client_certificate(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        (self.cert, self.key) = (Some(cert.into()), Some(key.into()));
        self
    }

    /// The name that the agents' certificates must have, where it is not the one of their addresses: often
    /// `server.dc1.consul`.
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

    /// Opens the store, and learns from the agent what it can do.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for settings that are half given or that the server does not
    /// understand, [`Unauthenticated`](ErrorKind::Unauthenticated) for a token and for certificates that one of the two
    /// sides does not accept, both at once; [`Unavailable`](ErrorKind::Unavailable) or [`Timeout`](ErrorKind::Timeout)
    /// when no agent answered in time, or the datacenter has no leader; [`Unsupported`](ErrorKind::Unsupported) for a
    /// Consul before 1.7.
    pub async fn open(self) -> Result<Consul> {
        let tls = self.tls_settings()?;
        let common = Common::new(self.token, self.datacenter.as_deref(), self.namespace.as_deref())?;
        let endpoints: Vec<_> = self.endpoints.iter().map(|host| with_port(host, PORT)).collect();
        let client = Client::new(&endpoints, tls, common)?;
        let deadline = Deadline::after(self.deadline.unwrap_or(Deadline::DEFAULT));
        Consul::open(client, self.prefix, self.datacenter, self.clock, deadline).await
    }

    pub(crate) fn from_url(mut url: StoreUrl) -> Result<Self> {
        if url.user().is_some() || url.password().is_some() {
            let why = "Consul knows no users; give the token as the parameter `token`";
            return Err(Error::new(ErrorKind::InvalidArgument, why));
        }
        let config = Self {
            endpoints: url.hosts_or(PORT),
            prefix: url.prefix().to_owned(),
            token: url.take::<String>("token")?.map(Secret::from),
            datacenter: url.take("dc")?,
            namespace: url.take("ns")?,
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

    fn tls_settings(&self) -> Result<Option<Tls>> {
        let settings = TlsSettings {
            tls: self.tls,
            ca: self.ca.as_deref(),
            cert: self.cert.as_deref(),
            key: self.key.as_deref(),
            server_name: self.server_name.as_deref(),
        };
        settings.read()?.map(Tls::new).transpose()
    }
}

#[cfg(all(test, feature = "serde"))]
mod tests {
    use super::Config;

    #[test]
    fn a_configuration_is_read_and_what_it_misspells_is_named() {
        let text = r#"{"endpoints": ["h1", "h2:8501"], "prefix": "app/", "token": "hush", "datacenter": "dc2", "ca": "ca.pem"}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert_eq!(config.endpoints, ["h1", "h2:8501"]);
        assert_eq!((&*config.prefix, config.datacenter.as_deref(), config.tls), ("app/", Some("dc2"), None));
        assert_eq!(config.token.as_ref().map(|token| token.reveal()), Some("hush"));
        assert_eq!(config.ca.as_deref(), Some("ca.pem".as_ref()));
        assert!(!format!("{config:?}").contains("hush"));
        let misspelt = serde_json::from_str::<Config>(r#"{"endpoint": "h1"}"#).unwrap_err().to_string();
        assert!(misspelt.contains("`endpoint`") && misspelt.contains("`endpoints`"), "{misspelt}");
    }
}
