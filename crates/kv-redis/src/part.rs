//! A store in one slot: what it knows of its server, and the calls that are one script.

use crate::{
    client::{Client, Does, Request},
    feed::Feed,
    names::Names,
    script::{self, Answer, Script, digest, next},
    session::Sessions,
};
use fred::types::Value;
use kv_core::{backend::Clock, *};
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

/// The largest value, and the largest transaction.
const MOST_BYTES: usize = 8 << 20;
/// Conditions and writes of one transaction.
const MOST_OPS: usize = 1000;
/// How many keys are read at once.
const MOST_KEYS: usize = 1000;
/// No lease or lock is shorter: what is kept alive needs time for more than one renewal on a busy machine.
const SHORTEST: Duration = Duration::from_secs(2);
/// The longest TTL: some hundred years, well within what the server counts.
const LONGEST: Duration = Duration::from_secs(1 << 32);
/// The low half of a version that was made of the bytes that another tool wrote.
const FOREIGN: u64 = 1 << 63;

/// What all that hangs on a store needs of it.
pub(crate) struct Core {
    pub(crate) client: Arc<Client>,
    pub(crate) names: Names,
    pub(crate) clock: Clock,
    pub(crate) feed: Feed,
}

/// A store in one slot.
pub(crate) struct Part {
    pub(crate) core: Arc<Core>,
    pub(crate) capabilities: Capabilities,
    pub(crate) sessions: Sessions,
    /// The command that its user lacks the right for.
    lacks: Option<String>,
}

/// A number that nobody else uses.
pub(crate) fn unique() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// The part of a version that is the write's own.
pub(crate) fn nonce() -> u64 {
    unique() >> 1
}

/// A version as the scripts write it.
pub(crate) fn version_text(version: Version) -> String {
    match version.parts() {
        (number, low) if low & FOREIGN != 0 => format!("{number} x{:015x}", low & !FOREIGN),
        (number, nonce) => format!("{number} {nonce}"),
    }
}

/// The same, read.
pub(crate) fn version_of_text(text: &str) -> Result<Version> {
    let parts = text.split_once(' ').and_then(|(number, low)| {
        let low = match low.strip_prefix('x') {
            Some(digest) => FOREIGN | u64::from_str_radix(digest, 16).ok()?,
            None => low.parse().ok()?,
        };
        Some(Version::new(number.parse().ok()?, low))
    });
    parts.ok_or_else(|| Error::new(ErrorKind::Corrupt, format!("{text:?} is no version")))
}

/// What was noted of a key at its last write here.
#[derive(Debug)]
pub(crate) struct Note {
    version: Version,
    digest: String,
}

impl Note {
    pub(crate) fn of(answer: Answer) -> Result<Option<Self>> {
        let Some(answer) = answer.some() else { return Ok(None) };
        let text = answer.text()?;
        let mut words = text.splitn(4, ' ');
        let note = match (words.next(), words.next(), words.next()) {
            (Some(number), Some(nonce), Some(digest)) => {
                Self { version: version_of_text(&format!("{number} {nonce}"))?, digest: digest.to_owned() }
            }
            _ => return Err(Error::new(ErrorKind::Corrupt, format!("{text:?} is no note of a key"))),
        };
        Ok(Some(note))
    }

    /// The version of a value with this note; one made of the bytes where another tool wrote them since.
    pub(crate) fn version(note: Option<Self>, value: &[u8]) -> Result<Version> {
        let digest = digest(value);
        match note {
            Some(note) if note.digest == digest => Ok(note.version),
            note => {
                let number = note.map_or(0, |note| note.version.parts().0);
                version_of_text(&format!("{number} x{digest}"))
            }
        }
    }

    /// The version that was noted, whatever is there by now.
    pub(crate) fn noted(note: Option<Self>) -> Version {
        note.map_or(Version::new(0, 0), |note| note.version)
    }
}

/// Whether a version was made of bytes.
pub(crate) fn is_foreign(version: Version) -> bool {
    version.parts().1 & FOREIGN != 0
}

impl Core {
    /// A script on this store, about these names besides the store's own.
    pub(crate) fn request(
        &self,
        script: &'static Script,
        names: impl IntoIterator<Item = String>,
        arguments: impl IntoIterator<Item = Value>,
    ) -> Request {
        let prefix = Value::from(self.names.prefix());
        Request {
            script,
            names: self.names.store().into_iter().chain(names).map(Value::from).collect(),
            arguments: std::iter::once(prefix).chain(arguments).collect(),
        }
    }

    pub(crate) async fn run(
        &self,
        does: Does,
        deadline: Deadline,
        script: &'static Script,
        names: impl IntoIterator<Item = String>,
        arguments: impl IntoIterator<Item = Value>,
    ) -> Result<Answer> {
        self.client.run(does, deadline, &self.request(script, names, arguments)).await
    }

    /// Several keys with their versions.
    pub(crate) async fn read(&self, keys: &[Key], deadline: Deadline) -> Result<Vec<Option<Entry>>> {
        let mut all = Vec::with_capacity(keys.len());
        for keys in keys.chunks(MOST_KEYS) {
            let names = keys.iter().map(|key| self.names.key(key.as_str()));
            let arguments = keys.iter().map(|key| key.as_str().into());
            let answer = self.run(Does::Read, deadline, &script::READ, names, arguments).await?;
            let mut found = answer.list()?;
            for key in keys {
                all.push(match next(&mut found)?.some() {
                    None => None,
                    Some(found) => {
                        let mut found = found.list()?;
                        let value = next(&mut found)?.bytes()?;
                        let version = Note::version(Note::of(next(&mut found)?)?, &value)?;
                        Some(Entry::new(key.clone(), value, version))
                    }
                });
            }
        }
        Ok(all)
    }
}

impl Part {
    pub(crate) async fn open(
        client: Client,
        names: Names,
        clock: Clock,
        deadline: Deadline,
        allow_eviction: bool,
    ) -> Result<Self> {
        let client = Arc::new(client);
        let about = About::ask(&client, deadline).await?;
        about.check(allow_eviction)?;
        let feed = Feed::new(client.clone(), names.clone());
        let core = Arc::new(Core { client, names, clock, feed });
        // What a user may not do at all, the calls will tell.
        let lacks = match core.run(Does::Read, deadline, &script::PROBE, [], []).await {
            Ok(answer) => answer.some().map(Answer::text).transpose()?,
            Err(e) if e.kind() == ErrorKind::PermissionDenied => None,
            Err(e) => return Err(e),
        };
        Ok(Self { capabilities: about.capabilities(), sessions: Sessions::default(), core, lacks })
    }

    /// Whether all that a write does is allowed: a script that is stopped half-way is not undone.
    pub(crate) fn may_write(&self) -> Result<()> {
        let Some(command) = &self.lacks else { return Ok(()) };
        let prefix = self.core.names.prefix();
        let why = format!(
            "the user lacks the right to {command} below {prefix:?}, as every write does; give it ~{prefix}* &{prefix}* \
             +@all -@dangerous"
        );
        Err(Error::new(ErrorKind::PermissionDenied, why))
    }

    pub(crate) async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool> {
        let name = [self.core.names.key(key.as_str())];
        let answer = self.core.run(Does::Read, options.deadline, &script::EXISTS, name, []).await?;
        Ok(answer.number()? == 1)
    }

    pub(crate) async fn health(&self, options: &ReadOptions) -> Result<Health> {
        let about = About::ask(&self.core.client, options.deadline).await?;
        // A server that may not say how it is still has to answer.
        self.core
            .run(Does::Read, options.deadline, &script::EXISTS, [self.core.names.prefix().to_owned()], [])
            .await?;
        let mut health = Health::new(about.version());
        health.leader = Some(about.address.clone());
        health.members = std::iter::once(about.address.clone()).chain(about.replicas()).collect();
        Ok(health)
    }

    pub(crate) async fn close(&self) {
        self.sessions.end().await;
        self.core.feed.close();
        self.core.client.close();
    }
}

/// What a server tells of itself, as far as the user may ask.
#[derive(Debug, Default)]
struct About {
    address: String,
    info: HashMap<String, String>,
    fsync: Option<String>,
    version: String,
}

impl About {
    async fn ask(client: &Client, deadline: Deadline) -> Result<Self> {
        let link = client.ask(Does::Read, deadline, |link| async move { Ok(link) }).await?;
        let hello = client.command(deadline, "HELLO", &[]).await?;
        let version = match hello.0 {
            Value::Map(said) => said
                .inner()
                .into_iter()
                .find(|(name, _)| name.as_str() == Some("version"))
                .and_then(|(_, version)| version.as_string()),
            _ => None,
        };
        // Some who run servers for others take commands away, or rights.
        let is_kept = |e: &Error| matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::Other);
        let info = match client.command(deadline, "INFO", &[]).await {
            Ok(info) => info.text()?,
            Err(e) if is_kept(&e) => {
                tracing::warn!("INFO is not to be had: the server's eviction policy was not checked");
                String::new()
            }
            Err(e) => return Err(e),
        };
        let info: HashMap<_, _> = info
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        let fsync = match client.command(deadline, "CONFIG", &["GET", "appendfsync"]).await {
            Ok(Answer(Value::Map(said))) => {
                said.inner().into_iter().next().and_then(|(_, value)| value.as_string())
            }
            Ok(_) => None,
            Err(e) if is_kept(&e) => None,
            Err(e) => return Err(e),
        };
        Ok(Self { address: link.address.clone(), info, fsync, version: version.unwrap_or_default() })
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

    fn is_alone(&self) -> bool {
        self.get("connected_slaves") == "0" && self.get("cluster_enabled") == "0"
    }

    fn check(&self, allow_eviction: bool) -> Result<()> {
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

    fn capabilities(&self) -> Capabilities {
        let mut c = Capabilities::new("redis");
        let flushed = self.get("aof_enabled") == "1" && self.fsync.as_deref() == Some("always");
        if self.is_alone() {
            c.linearizable = Linearizable::Always;
            c.durability = if flushed { Durability::Fsync } else { Durability::MayLose };
        } else {
            c.linearizable = Linearizable::ExceptDuringLeaderChange;
            c.durability = Durability::MayLose;
        }
        c.max_value = MOST_BYTES;
        c.max_txn_ops = MOST_OPS;
        c.max_txn_bytes = MOST_BYTES;
        c.ttl = Some(TtlRange::new(Duration::from_millis(1), LONGEST));
        let kept = TtlRange::new(SHORTEST, LONGEST);
        c.lease = Some(kept.clone());
        c.lock = Some(Locking::new(kept));
        c.watch = Watching::EachChange;
        c.foreign_keys = ForeignKeys::AfterAdoption;
        c.delete_tree_counts = true;
        c.health = true;
        c
    }
}
