//! Holds the settings of a store, and opens it.

use crate::{
    client::{connect::Options, probe, tls::Certificates},
    names::Names,
    store::ZooKeeper,
};
use kv_core::{
    Error, ErrorKind, Kv, Result, Secret, StoreUrl, Tls,
    backend::{self, Clock, addresses, login, opening},
    driver::Deadline,
};
use std::time::Duration;
use zookeeper_client::{Acl, AuthId, Permission};

const PORT: u16 = 2181;

/// The settings of a store; [`from_url`](crate::from_url) reads the same from a URL.
///
/// [`Tls`] needs a `ca`, since the client trusts nobody by itself. Certificates must name the
/// hosts as they are given here, and `server_name` is refused. The files are read again for every
/// new connection. `Debug` shows no password, and `Serialize` writes none.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::Tls;
/// use kv_zookeeper::Config;
///
/// let config = Config::new(["h1:2181", "h2:2181", "h3:2181"])
///     .prefix("app/")
///     .user("me", "secret") // what is created belongs to this user alone
///     .tls(Tls::new().ca("/etc/zookeeper/ca.pem"));
/// let kv = config.open().await?;
/// kv.put("color", "red").await?; // `zkCli get /app/color`
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
    user: Option<String>,
    #[cfg_attr(feature = "serde", serde(skip_serializing))]
    password: Option<Secret>,
    acl: Option<String>,
    tls: Tls,
    #[cfg_attr(feature = "serde", serde(skip))]
    deadline: Option<Duration>,
    #[cfg_attr(feature = "serde", serde(skip))]
    clock: Clock,
}

impl Config {
    /// Makes the settings for the ensemble of these members, `host:port` each, port 2181 where
    /// none is given. A store connects to one of them, chosen at random, and to the next one when
    /// it fails, so name all that clients may use.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self { endpoints: endpoints.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Sets the node that everything lies below, without its first slash. `app` and `app/` are the
    /// same, and neither is `application`: a prefix is a path, so that there is no `raw_prefix`
    /// here. Unless it is set, the store is at the top of the server. The first write makes the
    /// node and its ancestors.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the user and the password, by ZooKeeper's `digest` scheme. The server has no list of
    /// users: a wrong password makes another user, and shows as
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) at nodes that belong to the right one.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<Secret>) -> Self {
        (self.user, self.password) = (Some(name.into()), Some(password.into()));
        self
    }

    /// Sets the ACL of every node that is created, as `zkCli` writes it: `scheme:id:permissions`,
    /// with commas between, and permissions of the letters `cdrwa`. Unless it is set, it is
    /// `auth::cdrwa` with a user, which allows that user alone everything; and
    /// `world:anyone:cdrwa` without.
    ///
    /// Users of the store need create, delete, read and write.
    pub fn acl(mut self, acl: impl Into<String>) -> Self {
        self.acl = Some(acl.into());
        self
    }

    /// Sets TLS, with a `ca` at least. Unless it is set, connections are in plain text.
    pub fn tls(mut self, tls: impl Into<Tls>) -> Self {
        self.tls = tls.into();
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
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for settings that are half given or that
    /// the server does not understand, [`Unauthenticated`](ErrorKind::Unauthenticated) for
    /// credentials and certificates that one of the two sides does not accept, both reported at
    /// once; [`Unavailable`](ErrorKind::Unavailable) or [`Timeout`](ErrorKind::Timeout) when no
    /// member answered in time; [`Unsupported`](ErrorKind::Unsupported) for a ZooKeeper before
    /// 3.6.
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
    pub async fn build(self) -> Result<ZooKeeper> {
        // In a box: it is large, and would be a part of whatever waits for the store.
        opening("zookeeper", Box::pin(self.connect())).await
    }

    async fn connect(self) -> Result<ZooKeeper> {
        let login = login(self.user.as_deref(), self.password.as_ref())?;
        let acl = self.acls()?;
        let certificates = Certificates::new(self.tls)?;
        let names = Names::new(&self.prefix)?;
        let hosts = addresses(&self.endpoints, "zookeeper", PORT)?;
        for host in &hosts {
            let port = host.rsplit_once(':').filter(|(name, _)| !name.is_empty()).map(|(_, port)| port);
            if port.and_then(|port| port.parse::<u16>().ok()).is_none_or(|port| port == 0)
                || host.contains(['/', ','])
            {
                let why = format!("the address {host:?} makes no sense; it is `host` or `host:port`");
                return Err(Error::new(ErrorKind::InvalidArgument, why));
            }
            if certificates.is_some() {
                probe::name(host)?;
            }
        }
        let deadline = Deadline::after(self.deadline.unwrap_or(Deadline::DEFAULT));
        let options = Options::new(hosts, certificates, login, acl);
        ZooKeeper::open(options, names, self.clock, deadline).await
    }

    /// Reads the settings from a URL, as [`open`](crate::open) knows them. Opens nothing.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for another scheme, and for a parameter
    /// that is unknown or cannot be read.
    pub fn from_url(mut url: StoreUrl) -> Result<Self> {
        url.expect(&["zookeeper"])?;
        let config = Self {
            endpoints: url.hosts_or(PORT),
            prefix: url.prefix().to_owned(),
            user: url.user().map(str::to_owned),
            password: url.password().cloned(),
            acl: url.take("acl")?,
            tls: backend::tls::take(&mut url)?,
            ..Self::default()
        };
        if url.take::<String>("raw_prefix")?.is_some() {
            let why = "ZooKeeper has no `raw_prefix`: a prefix is the path of a node there, which always ends at a segment; \
                       give it as the path of the URL";
            return Err(Error::new(ErrorKind::InvalidArgument, why));
        }
        url.finish()?;
        Ok(config)
    }

    fn acls(&self) -> Result<Vec<Acl>> {
        let own = if self.user.is_some() { "auth::cdrwa" } else { "world:anyone:cdrwa" };
        let text = self.acl.as_deref().unwrap_or(own);
        let one = |part: &str| {
            // The id of a digest has a colon of its own.
            let (scheme, rest) = part.split_once(':')?;
            let (id, letters) = rest.rsplit_once(':')?;
            let permission = |letter| {
                Some(match letter {
                    'c' => Permission::CREATE,
                    'd' => Permission::DELETE,
                    'r' => Permission::READ,
                    'w' => Permission::WRITE,
                    'a' => Permission::ADMIN,
                    _ => return None,
                })
            };
            let all =
                letters.chars().try_fold(Permission::NONE, |all, letter| Some(all | permission(letter)?));
            let all = all.filter(|_| !letters.is_empty() && !scheme.is_empty())?;
            Some(Acl::new(all, AuthId::new(scheme, id)))
        };
        let acls = text.split(',').map(one).collect::<Option<Vec<_>>>().ok_or_else(|| {
            let why = "the setting `acl` is not of the form scheme:id:permissions, with commas between; permissions are \
                       letters of `cdrwa`: world:anyone:r,auth::cdrwa";
            Error::new(ErrorKind::InvalidArgument, why)
        })?;
        if self.user.is_none() && acls.iter().any(|acl| acl.scheme() == "auth") {
            return Err(backend::half(
                "the setting `acl` with `auth`, which means the user that asks, without a user",
            ));
        }
        Ok(acls)
    }
}

#[cfg(all(test, feature = "serde"))]
mod tests {
    use super::Config;

    #[test]
    fn a_configuration_is_read_and_what_it_misspells_is_named() {
        let text = r#"{"endpoints": ["h1", "h2:2181"], "prefix": "app", "user": "me", "password": "hush", "acl": "auth::r"}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert_eq!(config.endpoints, ["h1", "h2:2181"]);
        assert_eq!((&*config.prefix, config.user.as_deref()), ("app", Some("me")));
        assert_eq!(config.password.as_ref().map(|password| password.reveal()), Some("hush"));
        assert_eq!(config.acl.as_deref(), Some("auth::r"));
        assert!(!format!("{config:?}").contains("hush"));
        let written = serde_json::to_string(&config).unwrap();
        assert!(!written.contains("hush"), "{written}");
        let again: Config = serde_json::from_str(&written).unwrap();
        assert_eq!(format!("{:?}", again.user("me", "hush")), format!("{config:?}"));
        let misspelt = serde_json::from_str::<Config>(r#"{"endpoint": "h1"}"#).unwrap_err().to_string();
        assert!(misspelt.contains("`endpoint`") && misspelt.contains("`endpoints`"), "{misspelt}");
    }
}
