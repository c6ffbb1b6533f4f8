//! The state that all modules of the store share: the client, the names, the clock, the limits,
//! and what lives as long as the store.

use crate::{
    client::{
        Client, Purpose,
        api::{self, About, Done, MOST_OPS, OP_OVERHEAD, Op},
    },
    lease::ttl_sessions::{self, TtlSessions},
    lock::{before::Before, sessions::LockSessions},
    names::Names,
    watch::polls::Polls,
};
use kv_core::{
    Capabilities, Durability, Error, ErrorKind, Health, Locking, Result, TtlRange, Watching,
    backend::{Clock, Tasks, queue::Lines, retry::Answered},
    driver::{Deadline, ReadOptions},
};
use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::sync::watch;

/// Sets the least TTL of a session, unless the server tells another one.
const LEAST_SESSION: Duration = Duration::from_secs(10);
const GREATEST_SESSION: Duration = Duration::from_secs(24 * 3600);
/// Limits the bytes of a transaction, and of a value, unless the server tells another limit.
const LARGEST: usize = 512 << 10;
/// Limits the bytes of a key.
const KEY: usize = 1000;
/// Counts the bytes of the longest name, with its prefix; only a prefix that is longer than all
/// keys leaves less for values.
const NAME: usize = 2 << 10;

/// One opened store.
pub(crate) struct Core {
    pub(crate) client: Arc<Client>,
    pub(crate) names: Names,
    pub(crate) clock: Clock,
    pub(crate) capabilities: Capabilities,
    pub(crate) lock_sessions: LockSessions,
    /// Holds the lines of contenders, by their locks.
    pub(crate) lines: Lines<Before>,
    pub(crate) ttl_sessions: TtlSessions,
    pub(crate) polls: Polls,
    /// Holds the tasks that give things back in the background.
    pub(crate) tasks: Tasks,
    /// Tells whether the store is being closed, which waits for these tasks.
    pub(crate) closing: watch::Sender<bool>,
    /// Names the node on which sessions live, in another datacenter than the agent's; `None` in
    /// the agent's own.
    node: Arc<RwLock<Option<String>>>,
    /// Limits the bytes of a transaction's body.
    pub(crate) largest_txn: usize,
    version: String,
}

impl Core {
    /// Asks the agent for its limits, and whether the prefix may be read, and makes the store.
    ///
    /// # Errors
    /// Those of [`Config::open`](crate::Config::open).
    pub(crate) async fn open(
        client: Client,
        prefix: String,
        has_token: bool,
        datacenter: Option<String>,
        clock: Clock,
        deadline: Deadline,
    ) -> Result<Self> {
        let (client, names) = (Arc::new(client), Names::new(prefix)?);
        // An agent shows its settings only to those who may read them.
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
        Ok(Self {
            client,
            names,
            lock_sessions: LockSessions::new(clock.clone()),
            lines: Lines::default(),
            clock,
            capabilities,
            ttl_sessions: TtlSessions::default(),
            polls: Polls::default(),
            tasks: Tasks::default(),
            closing: watch::Sender::new(false),
            node: Arc::new(RwLock::new(node)),
            largest_txn: about.largest_txn().unwrap_or(LARGEST),
            version: about.config.version,
        })
    }

    /// Returns the node on which sessions are to live; `None` for the agent's own.
    pub(crate) fn node(&self) -> Option<String> {
        self.node.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks for another node, when sessions cannot be made on the one that there was: nodes come
    /// and go. A search that takes longer than the deadline goes on in the background.
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

    /// Sends a transaction, unless it is larger than the server takes.
    pub(crate) async fn txn(&self, purpose: Purpose, deadline: Deadline, ops: &[Op]) -> Result<Done> {
        self.ask(purpose, deadline, ops).await.map(|answered| answered.answer)
    }

    /// Sends a transaction as [`txn`](Self::txn) does, for an answer that is another one when the
    /// transaction was done before.
    pub(crate) async fn ask(
        &self,
        purpose: Purpose,
        deadline: Deadline,
        ops: &[Op],
    ) -> Result<Answered<Done>> {
        let (body, most) = (api::body(ops)?, self.largest_txn);
        if body.len() > most {
            let why = format!(
                "the transaction has {} bytes, with its values in base64; the server takes {most} (`txn_max_req_len` in its \
                 `limits`)",
                body.len()
            );
            return Err(Error::new(ErrorKind::TooLarge, why));
        }
        api::txn(&self.client, purpose, deadline, body).await
    }

    /// Asks whether the server answers, and who leads.
    pub(crate) async fn health(&self, options: &ReadOptions) -> Result<Health> {
        api::get(&self.client, Purpose::Read, options.deadline, &self.names.health()).await?;
        // The version may be another one by now, and an agent tells it only to those who may read
        // it.
        let version = match api::about(&self.client, options.deadline).await {
            Ok(about) => about.config.version,
            Err(_) => self.version.clone(),
        };
        let mut health = Health::new(version);
        let (leader, members) = api::status(&self.client, options.deadline).await?;
        health.leader = Some(leader).filter(|leader| !leader.is_empty());
        health.members = members;
        Ok(health)
    }

    /// Ends the polls, gives everything back and ends the sessions, and then ends the connections.
    /// Closing goes on in the background when the caller stops waiting, so that the connections
    /// end behind what needs them.
    pub(crate) async fn close(self: Arc<Self>) -> Result<()> {
        self.polls.end();
        self.closing.send_replace(true);
        let closing = tokio::spawn(async move {
            // Contenders end with their sessions too, so that neither has to wait for the other.
            let (given_back, ended) = tokio::join!(self.tasks.finish(), self.lock_sessions.end());
            self.ttl_sessions.end();
            // A session that cannot be ended now ends by its time.
            let _ = self.tasks.finish().await;
            self.client.close();
            given_back.and(ended)
        });
        let ended = |e| Err(Error::new(ErrorKind::Unavailable, "the runtime ended meanwhile").with_cause(e));
        closing.await.unwrap_or_else(ended)
    }
}

/// Returns the error for a prefix that cannot be read, with which every call would be refused.
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

/// Checks that the server is new enough.
///
/// # Errors
/// [`Unsupported`](ErrorKind::Unsupported) for a server that is too old.
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

/// Returns what a server of this kind can do, below this prefix.
fn capabilities(prefix: &str, about: &About) -> Capabilities {
    let session = about.least_session().unwrap_or(LEAST_SESSION);
    let mut lease = TtlRange::new(session, GREATEST_SESSION);
    // The server ends a session at twice its TTL; a new leader grants each session its whole life
    // anew.
    lease.late_share = 3.0;
    lease.late_by = Duration::from_secs(2);
    let mut ttl = TtlRange::new(session, ttl_sessions::greatest(GREATEST_SESSION));
    ttl.late_share = ttl_sessions::session_ttl(Duration::from_secs(4)).as_secs_f64() - 1.0;
    ttl.late_by = lease.late_by;
    let (txn, value) = (about.largest_txn().unwrap_or(LARGEST), about.largest_value().unwrap_or(LARGEST));
    let mut c = Capabilities::new("consul");
    c.durability = Durability::Quorum;
    // A put names its key three times at most; in JSON each of its bytes may be two, and a value
    // is in base64.
    let name = OP_OVERHEAD + 2 * NAME.max(KEY + prefix.len());
    c.max_value = (txn.saturating_sub(3 * name) / 4 * 3).min(value);
    // A put is a deletion and a write.
    c.max_txn_ops = MOST_OPS / 2;
    // A transaction has room for a value of the greatest size and its key. Many long names leave
    // less: a transaction that comes to more than the server takes is refused before it is sent.
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
