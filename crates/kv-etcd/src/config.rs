//! The settings by which a store is opened.

use crate::{client::Client, store::Etcd};
use kv_core::{
    Error, ErrorKind, Kv, Result, Secret, StoreUrl, Tls,
    backend::{self, Clock, addresses, login, opening, whole_prefix},
    driver::Deadline,
};
use std::time::Duration;

const PORT: u16 = 2379;

/// The settings of a store; [`from_url`](crate::from_url) reads the same from a URL.
///
/// The files of [`Tls`] are read again for every new connection, so that certificates may be
/// replaced while the store is open. `Debug` shows no password, and `Serialize` writes none.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::Tls;
/// use kv_etcd::Config;
///
/// let config = Config::new(["h1:2379", "h2:2379", "h3:2379"])
///     .prefix("app")
///     .user("me", "secret")
///     .tls(Tls::new().ca("/etc/etcd/ca.pem"));
/// let kv = config.open().await?;
/// kv.put("color", "red").await?; // `etcdctl get app/color`
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
    user: Option<String>,
    #[cfg_attr(feature = "serde", serde(skip_serializing))]
    password: Option<Secret>,
    tls: Tls,
    #[cfg_attr(feature = "serde", serde(skip))]
    deadline: Option<Duration>,
    #[cfg_attr(feature = "serde", serde(skip))]
    clock: Clock,
}

impl Config {
    /// Makes the settings for a cluster with these members, each `host:port`; the port is 2379
    /// where none is given. When one member fails, the next is tried, so name all that clients may
    /// use.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self { endpoints: endpoints.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Sets the directory on the server that the store is: all names begin with it and a slash,
    /// which is added where it is missing. By default the store is the whole server.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the bytes that all names on the server begin with, in place of
    /// [`prefix`](Self::prefix): for trees that exist already. A raw prefix that does not end in a
    /// slash takes in every name that begins with it: for `app`, the name `application/secret` is
    /// the key `lication/secret`.
    pub fn raw_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.raw_prefix = Some(prefix.into());
        self
    }

    /// Sets the user and its password, for a cluster that has authentication switched on.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<Secret>) -> Self {
        (self.user, self.password) = (Some(name.into()), Some(password.into()));
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

    /// Opens the store, and learns from the server what it can do.
    ///
    /// # Errors
    /// [`InvalidArgument`](kv_core::ErrorKind::InvalidArgument) for settings that are half given
    /// or that the server does not understand, and
    /// [`Unauthenticated`](kv_core::ErrorKind::Unauthenticated) for credentials and certificates
    /// that one of the two sides does not accept: both come without waiting for the deadline.
    /// [`Unavailable`](kv_core::ErrorKind::Unavailable) or
    /// [`Timeout`](kv_core::ErrorKind::Timeout) when no member answered in time;
    /// [`Unsupported`](kv_core::ErrorKind::Unsupported) for an etcd before 3.4.
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
    pub async fn build(self) -> Result<Etcd> {
        opening("etcd", self.connect()).await
    }

    async fn connect(self) -> Result<Etcd> {
        let login = login(self.user.as_deref(), self.password.as_ref())?;
        let prefix = whole_prefix(&self.prefix, self.raw_prefix.as_deref())?;
        let members = addresses(&self.endpoints, "etcd", PORT)?;
        members.iter().try_for_each(|address| check(address))?;
        let client = Client::new(&members, self.tls, login)?;
        let deadline = Deadline::after(self.deadline.unwrap_or(Deadline::DEFAULT));
        Etcd::open(client, prefix, self.clock, deadline).await
    }

    /// Reads the settings from a URL, as [`open`](crate::open) knows them. Opens nothing.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for another scheme, and for a parameter
    /// that is unknown or cannot be read.
    pub fn from_url(mut url: StoreUrl) -> Result<Self> {
        url.expect(&["etcd"])?;
        let config = Self {
            endpoints: url.hosts_or(PORT),
            prefix: url.prefix().to_owned(),
            raw_prefix: url.take("raw_prefix")?,
            user: url.user().map(str::to_owned),
            password: url.password().cloned(),
            tls: backend::tls::take(&mut url)?,
            ..Self::default()
        };
        url.finish()?;
        Ok(config)
    }
}

/// Refuses what is no address of a member.
fn check(address: &str) -> Result<()> {
    let refused = |what: &str| {
        let why = format!(
            "{address:?} is no address of a member: {what}; it looks like `host:2379` or `[::1]:2379`"
        );
        Err(Error::new(ErrorKind::InvalidArgument, why))
    };
    let Some((name, port)) = address.rsplit_once(':') else { return refused("it has no port") };
    if !port.bytes().all(|digit| digit.is_ascii_digit()) || !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return refused("its port is no number from 1 to 65535");
    }
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    match bare {
        Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_err() => {
            refused("what is in brackets is no IPv6 address")
        }
        None if name.is_empty() => refused("it has no host"),
        None if name.contains(|c: char| "[]:/@?#".contains(c) || c.is_whitespace()) => {
            refused("its host is no name")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_whole_or_refused() {
        let address = |host: &str| -> Result<String> {
            let address = addresses(&[host.to_owned()], "etcd", PORT)?.remove(0);
            check(&address).map(|()| address)
        };
        for (host, whole) in [
            ("h1", "h1:2379"),
            ("h1:1", "h1:1"),
            ("[::1]", "[::1]:2379"),
            ("10.0.0.1:65535", "10.0.0.1:65535"),
        ] {
            assert_eq!(address(host).unwrap(), whole);
        }
        for host in [
            "",
            ":1",
            "h1:0",
            "h1:65536",
            "h1:x",
            "h1:+1",
            "h1:",
            "::1",
            "[::1:1",
            "[x]:1",
            "http://h1:1",
            "u@h:1",
            "a b",
        ] {
            let e = address(host).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{host}");
            assert!(e.to_string().contains(host), "{e}");
        }
    }

    #[test]
    #[cfg(feature = "serde")]
    fn a_configuration_is_read_and_what_it_misspells_is_named() {
        let text = r#"{"endpoints": ["h1", "h2:2379"], "prefix": "app/", "user": "me", "password": "hush", "tls": {"ca": "ca.pem"}}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert_eq!(config.endpoints, ["h1", "h2:2379"]);
        assert_eq!((&*config.prefix, config.user.as_deref()), ("app/", Some("me")));
        assert_eq!(config.password.as_ref().map(|password| password.reveal()), Some("hush"));
        assert_eq!(config.tls, Tls::default().ca("ca.pem"));
        let written = serde_json::to_string(&config).unwrap();
        assert!(!written.contains("hush"), "{written}");
        let again: Config = serde_json::from_str(&written).unwrap();
        assert_eq!(format!("{:?}", again.user("me", "hush")), format!("{config:?}"));
        assert!(!format!("{config:?}").contains("hush"));
        let misspelt = serde_json::from_str::<Config>(r#"{"endpoint": "h1"}"#).unwrap_err().to_string();
        assert!(misspelt.contains("`endpoint`") && misspelt.contains("`endpoints`"), "{misspelt}");
    }
}
