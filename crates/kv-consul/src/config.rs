//! The settings by which a store is opened.

use crate::{
    client::{Client, Common, Token},
    core::Core,
    store::Consul,
};
use kv_core::{
    Error, ErrorKind, Kv, Result, Secret, StoreUrl, Tls,
    backend::{self, Clock, addresses, opening, whole_prefix},
    driver::Deadline,
};
use std::{path::PathBuf, time::Duration};

const PORT: u16 = 8500;

/// The settings of a store; [`from_url`](crate::from_url) reads the same from a URL.
///
/// The files of [`Tls`] and `token_file` are read again when an agent refuses what they held, so
/// that the store need not be opened anew when they are replaced. `Debug` shows no token, and
/// `Serialize` writes none.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_consul::Config;
/// use kv_core::Tls;
///
/// let tls = Tls::new().ca("/etc/consul/ca.pem");
/// let config = Config::new(["h1:8501", "h2:8501"]).prefix("app/").token("secret").tls(tls);
/// let kv = config.open().await?;
/// kv.put("color", "red").await?; // `consul kv get app/color`
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[must_use = "nothing is opened until `open` or `build`"]
pub struct Config {
    endpoints: Vec<String>,
    prefix: String,
    raw_prefix: Option<String>,
    #[cfg_attr(feature = "serde", serde(skip_serializing))]
    token: Option<Secret>,
    token_file: Option<PathBuf>,
    datacenter: Option<String>,
    namespace: Option<String>,
    tls: Tls,
    #[cfg_attr(feature = "serde", serde(skip))]
    deadline: Option<Duration>,
    #[cfg_attr(feature = "serde", serde(skip))]
    clock: Clock,
}

impl Config {
    /// Makes the settings for the datacenter of these agents, each `host:port`; the port is 8500
    /// where none is given. When one agent fails, the next is tried. An agent on the same machine
    /// is the usual choice: it finds the servers by itself.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self { endpoints: endpoints.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Sets the directory on the server in which all keys are: `app` and `app/` are the same, and
    /// have nothing to do with `application`. By default the store is the whole server.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the bytes that all names on the server begin with, in place of
    /// [`prefix`](Self::prefix): for trees that exist already. A raw prefix that does not end in
    /// `/` takes in every name that begins with it: for `app`, the name `application/x` is the key
    /// `lication/x`.
    pub fn raw_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.raw_prefix = Some(prefix.into());
        self
    }

    /// Sets the ACL token, for a datacenter that asks for one. Once the server does not know the
    /// token any more, calls, watches and waits for locks end with
    /// [`Unauthenticated`](ErrorKind::Unauthenticated): a token that is rotated is better read
    /// from a file.
    pub fn token(mut self, token: impl Into<Secret>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Sets a file that holds the ACL token, in place of [`token`](Self::token). The file is read
    /// again when the server refuses the token. Locks and leases that were begun with another
    /// token go on: their sessions belong to nobody.
    pub fn token_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.token_file = Some(file.into());
        self
    }

    /// Sets another datacenter than the agents' own.
    pub fn datacenter(mut self, name: impl Into<String>) -> Self {
        self.datacenter = Some(name.into());
        self
    }

    /// Sets the namespace, where the server has namespaces (Consul Enterprise).
    pub fn namespace(mut self, name: impl Into<String>) -> Self {
        self.namespace = Some(name.into());
        self
    }

    /// Sets TLS: `true` for the system's roots, or [`Tls`] with files of authorities and a
    /// certificate. By default connections are in plain text.
    pub fn tls(mut self, tls: impl Into<Tls>) -> Self {
        self.tls = tls.into();
        self
    }

    /// Sets how long opening may take: five seconds by default.
    pub fn deadline(mut self, within: Duration) -> Self {
        self.deadline = Some(within);
        self
    }

    /// Sets the clock by which the locks and leases of this side live: the system's by default,
    /// another one in tests.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the store, and learns from the agent what it can do.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for settings that are half given, that
    /// contradict each other or that the server does not understand;
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) where the token, or a store without one,
    /// may not read the prefix; [`Unauthenticated`](ErrorKind::Unauthenticated) for a token and
    /// for certificates that one of the two sides does not accept: all of these come without
    /// waiting for the deadline. [`Unavailable`](ErrorKind::Unavailable) or
    /// [`Timeout`](ErrorKind::Timeout) when no agent answered in time, or the datacenter has no
    /// leader; [`Unsupported`](ErrorKind::Unsupported) for a Consul before 1.7.
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing open.
    pub async fn open(self) -> Result<Kv> {
        self.build().await.map(Kv::new)
    }

    /// Opens the store as [`open`](Self::open) does, and returns it without a handle: for layers,
    /// and for [`Kv::new`].
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub async fn build(self) -> Result<Consul> {
        opening("consul", self.connect()).await
    }

    async fn connect(self) -> Result<Consul> {
        let prefix = whole_prefix(&self.prefix, self.raw_prefix.as_deref())?;
        let has_token = self.token.is_some() || self.token_file.is_some();
        let token = Token::new(self.token, self.token_file)?;
        let common = Common::new(token, self.datacenter.as_deref(), self.namespace.as_deref());
        let agents = addresses(&self.endpoints, "consul", PORT)?;
        let client = Client::new(&agents, self.tls, common)?;
        let deadline = Deadline::after(self.deadline.unwrap_or(Deadline::DEFAULT));
        let core = Core::open(client, prefix, has_token, self.datacenter, self.clock, deadline).await?;
        Ok(Consul::new(core))
    }

    /// Reads the settings from a URL, as [`open`](crate::open) knows them. Opens nothing.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for another scheme, and for a parameter
    /// that is unknown or cannot be read.
    pub fn from_url(mut url: StoreUrl) -> Result<Self> {
        url.expect(&["consul"])?;
        if url.user().is_some() || url.password().is_some() {
            let why = "Consul knows no users; give the token as the parameter `token`";
            return Err(Error::new(ErrorKind::InvalidArgument, why));
        }
        let config = Self {
            endpoints: url.hosts_or(PORT),
            prefix: url.prefix().to_owned(),
            raw_prefix: url.take("raw_prefix")?,
            token: url.take::<String>("token")?.map(Secret::from),
            token_file: url.take("token_file")?,
            datacenter: url.take("dc")?,
            namespace: url.take("ns")?,
            tls: backend::tls::take(&mut url)?,
            ..Self::default()
        };
        url.finish()?;
        Ok(config)
    }
}

#[cfg(all(test, feature = "serde"))]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_and_what_it_misspells_is_named() {
        let text = r#"{"endpoints": ["h1", "h2:8501"], "prefix": "app/", "token": "hush", "datacenter": "dc2", "tls": {"ca": "ca.pem"}}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert_eq!(config.endpoints, ["h1", "h2:8501"]);
        assert_eq!((&*config.prefix, config.datacenter.as_deref()), ("app/", Some("dc2")));
        assert_eq!(config.token.as_ref().map(|token| token.reveal()), Some("hush"));
        assert_eq!(config.tls, Tls::default().ca("ca.pem"));
        let written = serde_json::to_string(&config).unwrap();
        assert!(!written.contains("hush"), "{written}");
        let again: Config = serde_json::from_str(&written).unwrap();
        assert_eq!(format!("{:?}", again.token("hush")), format!("{config:?}"));
        assert!(!format!("{config:?}").contains("hush"));
        let misspelt = serde_json::from_str::<Config>(r#"{"endpoint": "h1"}"#).unwrap_err().to_string();
        assert!(misspelt.contains("`endpoint`") && misspelt.contains("`endpoints`"), "{misspelt}");
    }
}
