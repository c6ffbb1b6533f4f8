//! The backend itself: each call, by the server's own means.

use crate::{
    client::{
        Client, Purpose,
        api::{self, About, MOST_OPS, OP_OVERHEAD, Pair},
    },
    lease, list, lock,
    names::Names,
    poll::Polls,
    session::Sessions,
    tree,
    ttl::{self, Lives},
    txn, watch,
};
use kv_core::{
    backend::{Clock, Tasks},
    *,
};
use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::sync::watch as flag;

/// What the server grants unless it says otherwise.
const LEAST_SESSION: Duration = Duration::from_secs(10);
const GREATEST_SESSION: Duration = Duration::from_secs(24 * 3600);
/// What a transaction, and a value, may have unless the server says otherwise.
const LARGEST: usize = 512 << 10;
/// The longest key.
const KEY: usize = 1000;
/// The longest name with its prefix; only a prefix that is longer than all keys leaves less for values.
const NAME: usize = 2 << 10;

/// A store in one datacenter, below one prefix; clones share its connections. [`Config`](crate::Config) opens one.
#[derive(Clone)]
pub struct Consul(Arc<Open>);

/// What the last clone ends.
struct Open(Arc<Inner>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.polls.dismiss();
    }
}

pub(crate) struct Inner {
    pub(crate) client: Arc<Client>,
    pub(crate) names: Names,
    pub(crate) clock: Clock,
    pub(crate) capabilities: Capabilities,
    pub(crate) sessions: Sessions,
    pub(crate) lives: Lives,
    pub(crate) polls: Polls,
    /// What is given back in the background.
    pub(crate) tasks: Tasks,
    /// Whether the store is being closed, which waits for that.
    pub(crate) closing: flag::Sender<bool>,
    /// Where sessions live, in another datacenter than the agent's.
    node: Arc<RwLock<Option<String>>>,
    /// How many bytes a transaction's body may have.
    pub(crate) largest_txn: usize,
    version: String,
}

impl Inner {
    pub(crate) fn node(&self) -> Option<String> {
        self.node.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks for a node anew, when sessions cannot be made on the one that there was: nodes come and go. What is not found by the
    /// deadline is looked for in the background.
    pub(crate) async fn renew_node(&self, deadline: Deadline, each_request: Duration) {
        if self.node().is_none() {
            return;
        }
        let (client, node) = (self.client.clone(), self.node.clone());
        let renewing = tokio::spawn(async move {
            if let Ok(new) = api::server_node(&client, Deadline::after(each_request)).await {
                *node.write().unwrap_or_else(PoisonError::into_inner) = Some(new);
            }
        });
        deadline.limit(renewing).await;
    }
}

impl Consul {
    pub(crate) async fn open(
        client: Client,
        prefix: String,
        has_token: bool,
        datacenter: Option<String>,
        clock: Clock,
        deadline: Deadline,
    ) -> Result<Self> {
        let (client, names) = (Arc::new(client), Names::new(prefix)?);
        // What it tells of itself is for those who may read it.
        let about = match api::about(&client, deadline).await {
            Err(e) if e.kind() == ErrorKind::PermissionDenied => About::default(),
            about => about?,
        };
        check_version(&about.config.version)?;
        match api::get(&client, Purpose::Read, deadline, &names.health()).await {
            Err(e) if e.kind() == ErrorKind::PermissionDenied => return Err(no_rights(&names, has_token, e)),
            answer => drop(answer?),
        }
        let elsewhere = datacenter.is_some_and(|name| name != about.config.datacenter);
        let node = if elsewhere { Some(api::server_node(&client, deadline).await?) } else { None };
        let capabilities = capabilities(names.prefix(), &about);
        client.opened();
        Ok(Self(Arc::new(Open(Arc::new(Inner {
            client,
            names,
            sessions: Sessions::new(clock.clone()),
            clock,
            capabilities,
            lives: Lives::default(),
            polls: Polls::default(),
            tasks: Tasks::default(),
            closing: flag::Sender::new(false),
            node: Arc::new(RwLock::new(node)),
            largest_txn: about.largest_txn().unwrap_or(LARGEST),
            version: about.config.version,
        })))))
    }

    fn shared(&self) -> &Arc<Inner> {
        &self.0.0
    }
}

/// The prefix cannot be read: every call would be refused.
fn no_rights(names: &Names, has_token: bool, error: Error) -> Error {
    let prefix = names.prefix();
    let why = match has_token {
        true => format!(
            "the token may not read the prefix {prefix:?}: it needs the rule `key_prefix \"{prefix}\" {{ policy = \
             \"write\" }}`, or it is the wrong one of `token` or `token_file`"
        ),
        false => format!(
            "the server asks for a token to read the prefix {prefix:?}: give it as `token`, or its file as `token_file`"
        ),
    };
    Error::new(error.kind(), why).with_cause(error)
}

fn check_version(version: &str) -> Result<()> {
    let mut parts = version.split(['.', '-', '+']).map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    let found = (next(), next());
    if version.is_empty() || found >= (1, 7) {
        return Ok(());
    }
    let why = format!("the server is Consul {version}; kv-consul needs 1.7 or newer");
    Err(Error::new(ErrorKind::Unsupported, why))
}

fn capabilities(prefix: &str, about: &About) -> Capabilities {
    let session = about.least_session().unwrap_or(LEAST_SESSION);
    let mut lease = TtlRange::new(session, GREATEST_SESSION);
    // The server ends a session at twice its TTL; a new leader grants each its whole life anew.
    lease.late_share = 3.0;
    lease.late_by = Duration::from_secs(2);
    let mut ttl = TtlRange::new(session, ttl::greatest(GREATEST_SESSION));
    ttl.late_share = ttl::session_ttl(Duration::from_secs(4)).as_secs_f64() - 1.0;
    ttl.late_by = lease.late_by;
    let (txn, value) = (about.largest_txn().unwrap_or(LARGEST), about.largest_value().unwrap_or(LARGEST));
    let mut c = Capabilities::new("consul");
    c.durability = Durability::Quorum;
    // A put names its key three times at most; in JSON each of its bytes may be two, and a value is in base64.
    let name = OP_OVERHEAD + 2 * NAME.max(KEY + prefix.len());
    c.max_value = (txn.saturating_sub(3 * name) / 4 * 3).min(value);
    // A put is a deletion and a write.
    c.max_txn_ops = MOST_OPS / 2;
    // A value of the greatest size and its key. With many long names it can be less: what comes to more than the server takes
    // is refused when it is known, before it is sent.
    c.max_txn_bytes = txn.saturating_sub(3 * name) / 4 * 3 + KEY;
    c.lease = Some(lease.clone());
    c.lock = Some(Locking::new(lease));
    c.ttl = Some(ttl);
    c.watch = Watching::NewestState;
    c.list_snapshot = true;
    c.delete_tree_atomic = false;
    c.delete_tree_counts = false;
    c.health = true;
    c
}

fn entry(key: &Key, pair: Pair) -> Result<Entry> {
    Ok(Entry::new(key.clone(), pair.value()?, pair.version()))
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Consul {
    fn capabilities(&self) -> &Capabilities {
        &self.shared().capabilities
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        let name = self.shared().names.name(key.as_str());
        let found = api::get(&self.shared().client, Purpose::of(options), options.deadline, &name).await?;
        found.map(|pair| entry(key, pair)).transpose()
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
        let names: Vec<_> = keys.iter().map(|key| self.shared().names.name(key.as_str())).collect();
        let found = txn::read(self.shared(), &names, Purpose::of(options), options.deadline).await?;
        let pairs = keys.iter().zip(found);
        pairs.map(|(key, found)| found.map(|pair| entry(key, pair)).transpose()).collect()
    }

    async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool> {
        txn::exists(self.shared(), key, options).await
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        txn::put(self.shared(), key, value, expect, options).await
    }

    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        txn::delete(self.shared(), key, expect, options).await
    }

    async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        list::page(self.shared(), directory, from, options).await
    }

    async fn delete_tree(
        &self,
        directory: &Directory,
        _: Option<&Cursor>,
        options: &WriteOptions,
    ) -> Result<Batch> {
        tree::delete(self.shared(), directory, options).await
    }

    async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
        txn::transact(self.shared(), transaction, options).await
    }

    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        Ok(watch::watch(self.shared().clone(), target, options.each_request))
    }

    async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        let range = self.shared().capabilities.lease.as_ref();
        let ttl = range.ok_or_else(|| self.shared().capabilities.unsupported("leases"))?.grant(ttl)?;
        lease::lease(self.shared(), ttl, options).await
    }

    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        lock::lock(self.shared(), name, options).await
    }

    async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
        lock::holder(self.shared(), name, options).await
    }

    /// The server lists what other tools wrote.
    async fn adopt(&self, _: &Directory, _: &WriteOptions) -> Result<u64> {
        Ok(0)
    }

    async fn health(&self, options: &ReadOptions) -> Result<Health> {
        api::get(&self.shared().client, Purpose::Read, options.deadline, &self.shared().names.health())
            .await?;
        // It may be another one by now, and told to those who may read it.
        let version = match api::about(&self.shared().client, options.deadline).await {
            Ok(about) => about.config.version,
            Err(_) => self.shared().version.clone(),
        };
        let mut health = Health::new(version);
        let (leader, members) = api::status(&self.shared().client, options.deadline).await?;
        health.leader = Some(leader).filter(|leader| !leader.is_empty());
        health.members = members;
        Ok(health)
    }

    fn inner(&self) -> Option<&dyn Store> {
        None
    }

    /// It goes on in the background when the caller stops waiting, so that the connections end behind what needs them.
    async fn close(&self) -> Result<()> {
        let inner = self.shared().clone();
        inner.polls.end();
        inner.closing.send_replace(true);
        let closing = tokio::spawn(async move {
            // What contends ends with its session too.
            let (given_back, ended) = tokio::join!(inner.tasks.finish(), inner.sessions.end());
            inner.lives.end().await;
            inner.client.close();
            given_back.and(ended)
        });
        let ended = |e| Err(Error::new(ErrorKind::Unavailable, "the runtime ended meanwhile").with_cause(e));
        closing.await.unwrap_or_else(ended)
    }
}

impl fmt::Debug for Consul {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { client, names, .. } = &**self.shared();
        f.debug_struct("Consul")
            .field("agents", client)
            .field("prefix", &names.prefix())
            .finish_non_exhaustive()
    }
}
