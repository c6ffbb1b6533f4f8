//! The facts that a server tells of itself at `open`, and what follows from them for the store.

use crate::client::{Client, answer::Answer, link::Link};
use fred::types::Value;
use kv_core::{
    Capabilities, Durability, Error, ErrorKind, ForeignKeys, Health, Linearizable, Locking, Result, TtlRange,
    Watching, backend::retry::RetrySafety, driver::Deadline,
};
use std::{collections::HashMap, sync::Arc, time::Duration};

/// The most bytes of a value.
const MOST_BYTES: usize = 8 << 20;
/// The most bytes of a key, for which a transaction has room beside the greatest value.
const LONGEST_KEY: usize = 1000;
/// The most conditions and writes of one transaction.
const MOST_OPS: usize = 1000;
/// The shortest TTL of a lease or a lock: keeping it alive takes time for more than one renewal on
/// a busy machine.
const SHORTEST: Duration = Duration::from_secs(2);
/// The longest TTL, some hundred years: well within what the server can count.
const LONGEST: Duration = Duration::from_secs(1 << 32);

/// The facts that a server tells of itself, as far as the user may ask for them.
#[derive(Debug, Default)]
pub(crate) struct About {
    address: String,
    info: HashMap<String, String>,
    /// The settings that say when the server writes through to its disk.
    fsync: HashMap<String, String>,
    version: String,
    /// Tells whether another server may take over, as the settings of the store say.
    has_others: bool,
}

/// The settings by which a server writes through: by the second, it does not while a child of its
/// rewrites the file.
const FSYNC: [&str; 3] = ["GET", "appendfsync", "no-appendfsync-on-rewrite"];

impl About {
    /// Asks the server.
    pub(crate) async fn ask(client: &Arc<Client>, deadline: Deadline) -> Result<Self> {
        let link = client.ask(RetrySafety::Read, deadline, |link| async move { Ok(link) }).await?.answer;
        let hello = client.command(deadline, "HELLO", &[]).await?;
        let version = match hello.0 {
            Value::Map(said) => said
                .inner()
                .into_iter()
                .find(|(name, _)| name.as_str() == Some("version"))
                .and_then(|(_, version)| version.as_string()),
            _ => None,
        };
        // Providers of hosted servers remove commands, or take away the right to them.
        let is_kept = |e: &Error| matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::Other);
        let info = match client.command(deadline, "INFO", &[]).await {
            Ok(info) => info.text()?,
            Err(e) if is_kept(&e) => {
                tracing::warn!("the user may not call INFO: `maxmemory-policy` is not checked");
                String::new()
            }
            Err(e) => return Err(e),
        };
        let info: HashMap<_, _> = info
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        let fsync = match client.command(deadline, "CONFIG", &FSYNC).await {
            Ok(Answer(Value::Map(said))) => {
                let said = said.inner().into_iter();
                said.filter_map(|(name, value)| Some((name.as_str()?.to_owned(), value.as_string()?)))
                    .collect()
            }
            Ok(_) => HashMap::new(),
            Err(e) if is_kept(&e) => HashMap::new(),
            Err(e) => return Err(e),
        };
        let (address, has_others) = (link.address.clone(), !client.find.is_one());
        Ok(Self { address, info, fsync, version: version.unwrap_or_default(), has_others })
    }

    fn get(&self, name: &str) -> &str {
        self.info.get(name).map_or("", String::as_str)
    }

    fn version(&self) -> String {
        let own = self.get("valkey_version");
        if own.is_empty() { self.version.clone() } else { own.to_owned() }
    }

    fn replicas(&self) -> Vec<String> {
        let part = |text: &str, name: &str| {
            text.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
        };
        let mut all: Vec<_> = self
            .info
            .iter()
            .filter(|(name, value)| name.starts_with("slave") && value.contains("ip="))
            .filter_map(|(_, value)| Some(format!("{}:{}", part(value, "ip")?, part(value, "port")?)))
            .collect();
        all.sort();
        all
    }

    /// Returns the server's version and address, and the addresses of its replicas.
    pub(crate) fn health(&self) -> Health {
        let mut health = Health::new(self.version());
        health.leader = Some(self.address.clone());
        health.members = std::iter::once(self.address.clone()).chain(self.replicas()).collect();
        health
    }

    /// Returns whether no other server can take over. Replicas may be away at this moment: where
    /// the settings name sentinels or several hosts, there are others.
    fn is_alone(&self) -> bool {
        !self.has_others && self.get("connected_slaves") == "0" && self.get("cluster_enabled") == "0"
    }

    /// Returns whether each write is on the disk before it is acknowledged.
    fn is_flushed(&self) -> bool {
        let is = |name: &str, value: &str| self.fsync.get(name).is_some_and(|said| said == value);
        self.get("aof_enabled") == "1" && is("appendfsync", "always") && is("no-appendfsync-on-rewrite", "no")
    }

    /// Refuses a server that throws keys away when its memory is full.
    pub(crate) fn check(&self, allow_eviction: bool) -> Result<()> {
        let policy = self.get("maxmemory_policy");
        if policy.is_empty() || policy == "noeviction" || allow_eviction {
            return Ok(());
        }
        let why = format!(
            "the server's setting `maxmemory-policy` is {policy}, by which it throws keys away when its memory is full: locks, \
             versions and data would vanish; set it to noeviction, or allow it with `allow_eviction`"
        );
        Err(Error::new(ErrorKind::InvalidArgument, why))
    }

    /// Returns what a store on this server can do.
    pub(crate) fn capabilities(&self) -> Capabilities {
        let mut c = Capabilities::new("redis");
        if self.is_alone() {
            c.linearizable = Linearizable::Always;
            c.durability = if self.is_flushed() { Durability::Fsync } else { Durability::MayLose };
        } else {
            c.linearizable = Linearizable::ExceptDuringLeaderChange;
            c.durability = Durability::MayLose;
        }
        c.max_value = MOST_BYTES;
        c.max_txn_ops = MOST_OPS;
        c.max_txn_bytes = MOST_BYTES + LONGEST_KEY;
        c.ttl = Some(TtlRange::new(Duration::from_millis(1), LONGEST));
        let kept = TtlRange::new(SHORTEST, LONGEST);
        c.lease = Some(kept.clone());
        c.lock = Some(Locking::new(kept));
        c.watch = Watching::EachChange;
        c.watch_ordered = true;
        c.foreign_keys = ForeignKeys::AfterAdoption;
        c.delete_tree_counts = true;
        c.health = true;
        c
    }
}

/// Warns of a password that the server does not ask for, since such a password protects nothing.
pub(crate) async fn warn_of_needless_password(client: &Arc<Client>) {
    let server = match client.link().await {
        Ok(link) => link.address.clone(),
        Err(_) => return,
    };
    if let Ok(link) = Link::open(&server, &client.access.nobody()).await
        && link.call("PING", Vec::new()).await.is_ok()
    {
        tracing::warn!(
            server,
            "a password is given, and the server asks for none: whoever reaches it may do everything"
        );
    }
}
