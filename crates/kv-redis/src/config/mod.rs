//! Holds the settings of a store, and opens it.

mod url;

use crate::{
    client::{Client, about::warn_of_needless_password, access::Access, find::Find, tls::Connectors},
    core::Core,
    error::invalid,
    names::Names,
    spread::check_parts,
    store::Redis,
};
use kv_core::{
    Kv, Result, Secret, Tls,
    backend::{Clock, addresses, opening, whole_prefix},
    driver::Deadline,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
/// The greatest number of parts of a spread store.
const PARTS: u16 = 64;

/// The kind of server or servers that the endpoints are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub(crate) enum Kind {
    #[default]
    Single,
    Cluster,
    Sentinel,
}

/// The settings of a store; [`from_url`](crate::from_url) reads the same from a URL.
///
/// The files of [`Tls`] are read again for every new connection, so that certificates may be
/// replaced while the store is open. `Debug` shows no password, and `Serialize` writes none.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::Tls;
/// use kv_redis::Config;
///
/// let tls = Tls::new().ca("/etc/redis/ca.pem");
/// let config = Config::new(["h1:6379"]).prefix("app/").user("me", "secret").tls(tls);
/// let kv = config.open().await?;
/// kv.put("color", "red").await?; // `redis-cli get app/color`
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
    pub(crate) endpoints: Vec<String>,
    pub(crate) kind: Kind,
    pub(crate) master: Option<String>,
    pub(crate) prefix: Option<String>,
    pub(crate) raw_prefix: Option<String>,
    pub(crate) user: Option<String>,
    #[cfg_attr(feature = "serde", serde(skip_serializing))]
    pub(crate) password: Option<Secret>,
    pub(crate) sentinel_user: Option<String>,
    #[cfg_attr(feature = "serde", serde(skip_serializing))]
    pub(crate) sentinel_password: Option<Secret>,
    pub(crate) database: Option<u8>,
    pub(crate) tls: Tls,
    pub(crate) spread: Option<u16>,
    pub(crate) reached: BTreeMap<String, String>,
    pub(crate) allow_eviction: bool,
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) deadline: Option<Duration>,
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) clock: Clock,
}

impl Config {
    /// Makes the settings for one server, `host:port`, port 6379 where none is given; of several,
    /// the one that is no replica is used.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self { endpoints: endpoints.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Makes the settings for a cluster with these among its nodes. All names of a store share one
    /// hash tag, and so one slot of one node. The tag is that of the prefix if it has a `{tag}`;
    /// else the whole prefix becomes one: below `app/` the key `color` is `{app/}color`.
    pub fn cluster<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self { kind: Kind::Cluster, ..Self::new(endpoints) }
    }

    /// Makes the settings for the master that these sentinels know by this name; port 26379 where
    /// none is given.
    pub fn sentinel<E: Into<String>>(
        endpoints: impl IntoIterator<Item = E>,
        master: impl Into<String>,
    ) -> Self {
        Self { kind: Kind::Sentinel, master: Some(master.into()), ..Self::new(endpoints) }
    }

    /// Sets the directory that all names on the server lie in. A missing last slash is added: with
    /// `app` and with `app/` the key `color` is `app/color`. There is none unless it is set.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Sets the bytes that all names on the server begin with, in place of a
    /// [`prefix`](Self::prefix): for names that are there already, such as `app:color`. The
    /// store's own records have names that begin with these bytes and `.kv/`.
    pub fn raw_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.raw_prefix = Some(prefix.into());
        self
    }

    /// Sets the user, one of the server's access control, and the password.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<Secret>) -> Self {
        (self.user, self.password) = (Some(name.into()), Some(password.into()));
        self
    }

    /// Sets the password of the default user, as `requirepass` sets it on the server.
    pub fn password(mut self, password: impl Into<Secret>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Sets the user and the password for the sentinels. Unless they are set, sentinels are asked
    /// without.
    pub fn sentinel_user(mut self, name: impl Into<String>, password: impl Into<Secret>) -> Self {
        (self.sentinel_user, self.sentinel_password) = (Some(name.into()), Some(password.into()));
        self
    }

    /// Sets the number of the database, from 0 to 255 as far as the server has so many; 0 unless
    /// it is set. A cluster has only database 0. Each database is a store of its own.
    pub fn database(mut self, number: u8) -> Self {
        self.database = Some(number);
        self
    }

    /// Sets TLS: `true` for the system's roots, or [`Tls`] with files of authorities and a
    /// certificate. Unless it is set, connections are in plain text.
    pub fn tls(mut self, tls: impl Into<Tls>) -> Self {
        self.tls = tls.into();
        self
    }

    /// Spreads the keys of a store in a cluster over so many parts, 2 to 64, each with a slot of
    /// its own, in place of one slot for all. The store then has the memory and speed of the whole
    /// cluster, and gives up what needs one slot: transactions, leases, writes that depend on a
    /// lock, and the order in which a watch tells the changes of different keys; and a listing
    /// does not show one moment. All programs must give the same number for ever: the first that
    /// opens the store notes the number there, and any other number is refused. Opening it without
    /// a number is not refused, and gives another store, which shows none of its keys.
    pub fn spread(mut self, parts: u16) -> Self {
        self.spread = Some(parts);
        self
    }

    /// Sets the address `at` which a server is reached that the cluster or the sentinels call
    /// `named`, each `host:port`: for a translation of addresses, a forwarded port, or a tunnel.
    pub fn reached(mut self, named: impl Into<String>, at: impl Into<String>) -> Self {
        self.reached.insert(named.into(), at.into());
        self
    }

    /// Allows a server that may throw keys away when its memory is full (`maxmemory-policy`),
    /// which is refused unless allowed. No promise of this library then holds for any key.
    pub fn allow_eviction(mut self, allow: bool) -> Self {
        self.allow_eviction = allow;
        self
    }

    /// Sets the time that opening may take: five seconds unless it is set.
    pub fn deadline(mut self, within: Duration) -> Self {
        self.deadline = Some(within);
        self
    }

    /// Sets the clock by which this side measures the TTLs of locks and leases: the system's,
    /// except in tests.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the store, and learns from the server what it can do.
    ///
    /// # Errors
    /// [`InvalidArgument`](kv_core::ErrorKind::InvalidArgument) for settings that are half given,
    /// that make no sense together or that the server does not understand, and for a server whose
    /// `maxmemory-policy` evicts keys; [`Unauthenticated`](kv_core::ErrorKind::Unauthenticated)
    /// for credentials and certificates that one of the two sides does not accept, and
    /// [`PermissionDenied`](kv_core::ErrorKind::PermissionDenied) for a user without the rights
    /// that all calls need, both reported at once;
    /// [`Unavailable`](kv_core::ErrorKind::Unavailable) or
    /// [`Timeout`](kv_core::ErrorKind::Timeout) when no server that takes writes answered in time;
    /// [`Unsupported`](kv_core::ErrorKind::Unsupported) for a server before Redis 7.0.
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing open.
    pub async fn open(self) -> Result<Kv> {
        self.build().await.map(Kv::new)
    }

    /// Opens the same as [`open`](Self::open), and returns the store without its handle: for
    /// layers, and for [`Kv::new`].
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub async fn build(self) -> Result<Redis> {
        opening("redis", self.connect()).await
    }

    async fn connect(self) -> Result<Redis> {
        let deadline = Deadline::after(self.deadline.unwrap_or(Deadline::DEFAULT));
        let tls = Connectors::new(self.tls.clone())?;
        let prefix = whole_prefix(self.prefix.as_deref().unwrap_or_default(), self.raw_prefix.as_deref())?;
        let (scheme, port) = match self.kind {
            Kind::Single => ("redis", PORT),
            Kind::Cluster => ("redis-cluster", PORT),
            Kind::Sentinel => ("redis-sentinel", SENTINEL_PORT),
        };
        let hosts = addresses(&self.endpoints, scheme, port)?;
        self.check()?;
        let access = Access {
            user: self.user.clone(),
            password: self.password.clone(),
            database: self.database,
            tls,
            reached: Arc::new(self.reached.clone()),
            was_right: Arc::default(),
        };
        let sentinels = Access {
            user: self.sentinel_user.clone(),
            password: self.sentinel_password.clone(),
            database: None,
            was_right: Arc::default(),
            ..access.clone()
        };
        let names = match (self.kind, self.spread) {
            (Kind::Cluster, Some(parts)) => (0..parts).map(|n| Names::part(&prefix, n)).collect(),
            (Kind::Cluster, None) => vec![Names::tagged(&prefix)],
            _ => vec![Names::new(prefix, self.database.unwrap_or_default())],
        };
        let cores = names.into_iter().map(|names| {
            let find = match (self.kind, &self.master) {
                (Kind::Sentinel, Some(master)) => {
                    Find::Sentinel(hosts.clone(), sentinels.clone(), master.clone())
                }
                (Kind::Cluster, _) => Find::Cluster(hosts.clone(), names.slot()),
                _ => Find::Single(hosts.clone()),
            };
            let client = Client::new(find, access.clone());
            Core::open(client, names, self.clock.clone(), deadline, self.allow_eviction)
        });
        let cores = futures::future::try_join_all(cores).await?;
        if let (Some(first), Some(asked)) = (cores.first(), self.spread) {
            // On the heap: the futures of callers would nest too deeply for the compiler.
            Box::pin(check_parts(first, asked, deadline)).await?;
        }
        if let (Some(core), None, true) = (cores.first(), &self.user, self.password.is_some()) {
            warn_of_needless_password(&core.client).await;
        }
        Redis::of(cores)
    }

    /// Refuses settings that make no sense, before any connection is made.
    fn check(&self) -> Result<()> {
        for (user, password, whose) in [
            (&self.user, &self.password, ""),
            (&self.sentinel_user, &self.sentinel_password, " for the sentinels"),
        ] {
            if user.is_some() && password.is_none() {
                return Err(invalid(&format!("a user{whose} without a password; give both")));
            }
        }
        if self.kind == Kind::Sentinel && self.master.is_none() {
            return Err(invalid("sentinels without `master`, the name that they know the master by"));
        }
        if self.kind == Kind::Cluster && self.database.is_some_and(|number| number != 0) {
            return Err(invalid("a cluster has no other database than 0; leave out `database`"));
        }
        match self.spread {
            Some(_) if self.kind != Kind::Cluster => {
                Err(invalid("`spread` is for clusters; one server has nothing to spread over"))
            }
            Some(parts) if !(2..=PARTS).contains(&parts) => {
                Err(invalid(&format!("`spread` over {parts} parts; 2 to {PARTS} are possible")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(all(test, feature = "serde"))]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_as_users_write_it() {
        let text = r#"{"endpoints": ["h1", "h2:7000"], "kind": "cluster", "prefix": "app/", "user": "me", "password": "s",
                       "tls": {"ca": "ca.pem"}, "spread": 8, "reached": {"10.0.0.1:6379": "h1:16379"}}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert_eq!((config.endpoints.len(), config.kind, config.spread), (2, Kind::Cluster, Some(8)));
        assert_eq!(config.reached["10.0.0.1:6379"], "h1:16379");
        assert!(!format!("{config:?}").contains("\"s\""));
        assert_eq!(config.tls, Tls::default().ca("ca.pem"));
        let written = serde_json::to_string(&config).unwrap();
        assert!(!written.contains("\"s\""), "{written}");
        let again: Config = serde_json::from_str(&written).unwrap();
        assert_eq!(format!("{:?}", again.user("me", "s")), format!("{config:?}"));
        let misspelt = serde_json::from_str::<Config>(r#"{"endpoint": "h1"}"#).unwrap_err().to_string();
        assert!(misspelt.contains("endpoint") && misspelt.contains("endpoints"), "{misspelt}");
    }
}
