//! The settings by which a store is opened.

use crate::{
    client::{
        clock::ServiceTime,
        open::{Settings, open},
        table::{self, Wanted},
    },
    core::Core,
    names::Names,
    store::Dynamo,
};
use aws_credential_types::Credentials;
use kv_core::{
    Error, ErrorKind, Kv, Result, Secret, StoreUrl,
    backend::{Clock, opening, whole_prefix},
    driver::Deadline,
};
use std::time::Duration;

/// The default of [`Config::slack`]: a day.
const SLACK: Duration = Duration::from_secs(24 * 60 * 60);

/// The settings of a store; [`from_url`](crate::from_url) reads the same from a URL.
///
/// A setting that is not given here comes from where every program on AWS's SDK takes it: the
/// environment (`AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_PROFILE`, `AWS_ENDPOINT_URL`, …), the
/// profile's files, the role of the machine or container. `Debug` shows no secret.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_dynamodb::Config;
///
/// let config = Config::new("settings").prefix("app/").region("eu-central-1").create(true);
/// let kv = config.open().await?;
/// kv.put("color", "red").await?;
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
    table: String,
    prefix: String,
    raw_prefix: Option<String>,
    region: Option<String>,
    endpoint: Option<String>,
    profile: Option<String>,
    access_key: Option<String>,
    #[cfg_attr(feature = "serde", serde(skip_serializing))]
    secret_key: Option<Secret>,
    #[cfg_attr(feature = "serde", serde(skip_serializing))]
    session_token: Option<Secret>,
    create: bool,
    replicas: bool,
    slack_seconds: Option<u64>,
    #[cfg_attr(feature = "serde", serde(skip))]
    deadline: Option<Duration>,
    #[cfg_attr(feature = "serde", serde(skip))]
    clock: Clock,
}

impl Config {
    /// Makes the settings for this table, by its name.
    pub fn new(table: impl Into<String>) -> Self {
        Self { table: table.into(), ..Self::default() }
    }

    /// Sets the directory that this store is; the root by default. `app` and `app/` are the same:
    /// the partition keys of its items end in `app/`.
    ///
    /// Stores of different prefixes see nothing of each other, also where one prefix begins with
    /// the other. What the store `in/` holds as `a` is not `in/a` of the root, since each prefix
    /// is a partition of the table.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the prefix byte for byte, in place of [`prefix`](Self::prefix), for items that are
    /// there already: no slash is added at its end.
    pub fn raw_prefix(mut self, bytes: impl Into<String>) -> Self {
        self.raw_prefix = Some(bytes.into());
        self
    }

    /// Sets the table's region.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Sets the address of the service, where it is not AWS's own: `http://127.0.0.1:8000`.
    /// Streams are read there too.
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = Some(url.into());
        self
    }

    /// Sets the profile of the SDK's files. When the service refuses the credentials, they are
    /// fetched anew from files, environment and the roles of machines, so that replaced keys and
    /// ended tokens need no new handle.
    pub fn profile(mut self, name: impl Into<String>) -> Self {
        self.profile = Some(name.into());
        self
    }

    /// Sets the access key's id and secret.
    pub fn credentials(mut self, id: impl Into<String>, secret: impl Into<Secret>) -> Self {
        (self.access_key, self.secret_key) = (Some(id.into()), Some(secret.into()));
        self
    }

    /// Sets the token that goes with temporary credentials. Credentials that are given here are
    /// never fetched anew: when they end, calls and watches fail with
    /// [`Unauthenticated`](ErrorKind::Unauthenticated). Those of a profile or a role are.
    pub fn session_token(mut self, token: impl Into<Secret>) -> Self {
        self.session_token = Some(token.into());
        self
    }

    /// Sets whether a missing table is made: paid by request, with a stream and a TTL. It is not
    /// made unless this is set.
    pub fn create(mut self, if_missing: bool) -> Self {
        self.create = if_missing;
        self
    }

    /// Sets whether a global table, one with replicas in other regions, is opened. It is refused
    /// by default: writes of two regions do not see each other's conditions, so that versions,
    /// locks and transactions hold within one region only.
    pub fn replicas(mut self, go_on: bool) -> Self {
        self.replicas = go_on;
        self
    }

    /// Sets how long an item stays in the table after its end, unseen, before the service may
    /// delete it: in whole seconds, a day by default. A client whose idea of the service's time is
    /// wrong by more than this could lose items early.
    pub fn slack(mut self, slack: Duration) -> Self {
        self.slack_seconds = Some(slack.as_secs());
        self
    }

    /// Sets how long opening may take: five seconds by default. A table that has to be made gets a
    /// minute more.
    pub fn deadline(mut self, within: Duration) -> Self {
        self.deadline = Some(within);
        self
    }

    /// Sets the clock by which this side measures the lives of locks and leases: the system's by
    /// default, another one in tests.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the store, checks the table, and learns from it what the store can do.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for settings that are half given or
    /// missing, for a table that is not there and for one of another shape; the error names what
    /// differs. [`Unauthenticated`](ErrorKind::Unauthenticated) without credentials and for those
    /// that the service does not know; [`PermissionDenied`](ErrorKind::PermissionDenied) where
    /// they do not allow `dynamodb:DescribeTable`; [`Unavailable`](ErrorKind::Unavailable) or
    /// [`Timeout`](ErrorKind::Timeout) when the service did not answer in time.
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
    pub async fn build(self) -> Result<Dynamo> {
        opening("dynamodb", self.connect()).await
    }

    async fn connect(self) -> Result<Dynamo> {
        self.check()?;
        let names = self.names()?;
        let deadline = Deadline::after(self.deadline.unwrap_or(Deadline::DEFAULT));
        let time = ServiceTime::new(self.clock.clone());
        let client = match deadline.limit(Box::pin(open(self.settings(), time))).await {
            Some(client) => client?,
            None => return Err(Error::new(ErrorKind::Timeout, "the SDK's settings were not read in time")),
        };
        let slack = self.slack_seconds.map_or(SLACK, Duration::from_secs);
        let wanted = Wanted { create: self.create, replicas: self.replicas };
        let table = Box::pin(table::open(&client, wanted, deadline)).await?;
        Ok(Dynamo::new(Core::new(client, names, slack, table)))
    }

    /// Returns the partitions of the store, whose keys end in its prefix.
    fn names(&self) -> Result<Names> {
        let prefix = whole_prefix(&self.prefix, self.raw_prefix.as_deref())?;
        let (length, most) = (prefix.len(), Names::longest_prefix());
        if length > most {
            let why = format!("the prefix has {length} bytes; at most {most} are allowed");
            return Err(Error::new(ErrorKind::InvalidArgument, why));
        }
        Ok(Names::new(prefix))
    }

    fn check(&self) -> Result<()> {
        let refused = |why: String| Err(Error::new(ErrorKind::InvalidArgument, why));
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if !(3..=255).contains(&self.table.len()) || !self.table.chars().all(fine) {
            let table = &self.table;
            return refused(format!(
                "{table:?} is no name of a table: 3 to 255 letters, digits, `_`, `-` and `.`; a URL looks like \
                 dynamodb://TABLE/PREFIX"
            ));
        }
        match (&self.access_key, &self.secret_key) {
            (Some(_), None) => return refused("an access key without its secret; give both, or none".into()),
            (None, Some(_)) => return refused("a secret without its access key; give both, or none".into()),
            (None, None) if self.session_token.is_some() => {
                return refused("a session token without an access key; give both, or none".into());
            }
            (Some(_), Some(_)) if self.profile.is_some() => {
                return refused("an access key and a profile; give one of them".into());
            }
            _ => {}
        }
        if let Some(endpoint) = &self.endpoint {
            let rest = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
            if rest.is_none_or(|rest| rest.is_empty() || rest.contains(['@', ' '])) {
                return refused("the endpoint is no URL like http://127.0.0.1:8000".into());
            }
        }
        Ok(())
    }

    /// Returns the settings of the client.
    fn settings(&self) -> Settings {
        let credentials = self.access_key.as_ref().zip(self.secret_key.as_ref()).map(|(id, secret)| {
            let token = self.session_token.as_ref().map(|token| token.reveal().to_owned());
            Credentials::new(id, secret.reveal(), token, None, "kv-dynamodb")
        });
        Settings {
            table: self.table.clone(),
            region: self.region.clone(),
            endpoint: self.endpoint.clone(),
            profile: self.profile.clone(),
            credentials,
        }
    }

    /// Reads the settings from a URL, as [`open`](crate::open) knows them. Opens nothing.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for another scheme, and for a parameter
    /// that is unknown or cannot be read.
    pub fn from_url(mut url: StoreUrl) -> Result<Self> {
        url.expect(&["dynamodb"])?;
        let config = Self {
            table: url.hosts().join(","),
            prefix: url.prefix().to_owned(),
            access_key: url.user().map(str::to_owned),
            secret_key: url.password().cloned(),
            raw_prefix: url.take("raw_prefix")?,
            region: url.take("region")?,
            endpoint: url.take("endpoint")?,
            profile: url.take("profile")?,
            session_token: url.take::<String>("session_token")?.map(Secret::from),
            create: url.take("create")?.unwrap_or(false),
            replicas: url.take("replicas")?.unwrap_or(false),
            slack_seconds: url.take("slack")?,
            ..Self::default()
        };
        url.finish()?;
        Ok(config)
    }
}
