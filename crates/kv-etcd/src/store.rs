//! The backend itself: each call, by the server's own means.

use crate::{
    client::{Client, Purpose},
    lease, list,
    lock::{self, sessions::Sessions},
    names::Names,
    watch, write,
};
use etcd_client::{GetOptions, KeyValue, ResponseHeader};
use kv_core::{
    backend::{Clock, Tasks},
    *,
};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

/// What a request may have by etcd's defaults.
const REQUEST: usize = 3 << 19;
/// What a request holds besides values and keys.
const OVERHEAD: usize = 4 << 10;
/// The longest name with its prefix; only a prefix that is longer than all keys leaves less for values.
const NAME: usize = 2 << 10;
/// Conditions and writes of one transaction, and the most keys that are read at once, by etcd's defaults.
pub(crate) const MOST_OPS: usize = 128;
/// The longest lease that the server grants, less the second that a TTL's has besides.
const LONGEST: Duration = Duration::from_secs(9_000_000_000 - 1);
/// What a server of etcd's defaults grants at least: one and a half of its election time-outs, rounded up. One with longer
/// ones grants more, which only a grant tells, and the answer to it says so. Shorter ones are of no use: what is kept alive
/// needs time for more than one renewal on a busy machine.
const SHORTEST: Duration = Duration::from_secs(2);
/// What is asked for to see whether there is an answer: a name of our own, below the prefix, where we have rights.
const HEALTH: &str = "\u{1}health";
/// How long `close` waits for what others dropped.
const GIVEN_BACK: Duration = Duration::from_millis(500);
/// How many leases without keys are revoked at once, and one after another.
const SWEEPERS: usize = 8;
const SWEPT: usize = 4;
/// Answers are as large as the server makes them.
pub(crate) const ANSWER: usize = i32::MAX as usize;

/// A store on one cluster, below one prefix; clones share its connections. [`Config`](crate::Config) opens one.
#[derive(Clone)]
pub struct Etcd(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) client: Arc<Client>,
    pub(crate) names: Names,
    pub(crate) clock: Clock,
    pub(crate) capabilities: Capabilities,
    pub(crate) sessions: Sessions,
    /// What was made and has to be given back.
    pub(crate) tasks: Tasks,
    /// What looks after leases without keys, which end by themselves.
    sweeps: Tasks,
    /// The revision of the last answer.
    pub(crate) seen: AtomicI64,
}

impl Etcd {
    pub(crate) async fn open(
        client: Client,
        prefix: String,
        clock: Clock,
        deadline: Deadline,
    ) -> Result<Self> {
        let client = Arc::new(client);
        // Both are answered by any member, without a leader, by one that is full and by a learner: what can be done there,
        // the calls will tell.
        let status =
            client.call(Purpose::Stale, deadline, |s| async move { s.maintenance_client().status().await });
        check_version(status.await?.version())?;
        let (names, sessions) = (Names::new(prefix), Sessions::new(clock.clone()));
        // Nothing else here needs a user.
        let asked = client.call(Purpose::Stale, deadline, |s| {
            let (name, count) = (names.key(HEALTH), GetOptions::new().with_count_only().with_serializable());
            async move { s.kv_client().get(name, Some(count)).await }
        });
        let seen = match asked.await {
            Ok(answer) => answer.header().map_or(0, ResponseHeader::revision),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => 0,
            Err(e) => return Err(e),
        };
        client.opened();
        let (capabilities, seen) = (capabilities(names.prefix()), AtomicI64::new(seen));
        let (tasks, sweeps) = (Tasks::default(), Tasks::default());
        Ok(Self(Arc::new(Inner { client, names, clock, capabilities, sessions, tasks, sweeps, seen })))
    }
}

fn check_version(version: &str) -> Result<()> {
    let mut parts = version.split(['.', '-', '+']).map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    let found = (next(), next(), next());
    if found < (3, 4, 0) {
        let why = format!("the server is etcd {version}; kv-etcd needs 3.4 or newer");
        return Err(Error::new(ErrorKind::Unsupported, why));
    }
    let (old_leader, old_compaction) = match (found.0, found.1) {
        (3, 4) => ((3, 4, 31), (3, 4, 36)),
        (3, 5) => ((3, 5, 13), (3, 5, 18)),
        _ => return Ok(()),
    };
    if found < old_leader {
        tracing::warn!(
            version,
            "this etcd can revoke leases that are still renewed, when its leader gets stuck (etcd issue 15247): locks and \
             leases can end early; update to 3.4.31, 3.5.13 or newer"
        );
    }
    if found < old_compaction {
        tracing::warn!(
            version,
            "this etcd can lose events of deletions around a compaction (etcd issues 18089 and 19179); update to 3.4.36, \
             3.5.18 or newer"
        );
    }
    Ok(())
}

fn capabilities(prefix: &str) -> Capabilities {
    let mut ttl = TtlRange::new(SHORTEST, LONGEST);
    ttl.unit = Duration::from_secs(1);
    // A new leader grants each lease its whole TTL anew, and looks for ended ones twice a second.
    ttl.late_share = 1.0;
    ttl.late_by = Duration::from_secs(3);
    let mut c = Capabilities::new("etcd");
    c.durability = Durability::Quorum;
    let name = NAME.max(1000 + prefix.len());
    // A conditional write names its key four times.
    c.max_value = REQUEST.saturating_sub(OVERHEAD + 4 * name);
    c.max_txn_ops = MOST_OPS;
    // The names stand in conditions too, and once more in what is read when one is not true.
    c.max_txn_bytes = c.max_value.saturating_sub(2 * MOST_OPS * name);
    c.lease = Some(ttl.clone());
    c.lock = Some(Locking::new(ttl.clone()));
    c.ttl = Some(ttl);
    c.list_snapshot = true;
    c.delete_tree_atomic = true;
    c.delete_tree_counts = true;
    c.health = true;
    c
}

/// The revision that an answer speaks of.
pub(crate) fn revision(header: Option<&ResponseHeader>) -> Result<i64> {
    header
        .map(ResponseHeader::revision)
        .filter(|&revision| revision > 0)
        .ok_or_else(|| write::unexpected("the server's answer has no revision"))
}

pub(crate) fn version(revision: i64) -> Version {
    Version::new(u64::try_from(revision).unwrap_or_default(), 0)
}

pub(crate) fn entry(key: Key, found: KeyValue) -> Entry {
    let version = version(found.mod_revision());
    Entry::new(key, found.into_key_value().1, version)
}

pub(crate) fn purpose(read: &ReadOptions) -> Purpose {
    match read.consistency {
        Consistency::Linearizable => Purpose::Read,
        Consistency::Stale => Purpose::Stale,
    }
}

pub(crate) fn reading(read: &ReadOptions) -> GetOptions {
    match read.consistency {
        Consistency::Linearizable => GetOptions::new(),
        Consistency::Stale => GetOptions::new().with_serializable(),
    }
}

impl Inner {
    /// Revokes in the background the leases of TTLs that lost all their keys by a write, which found these there.
    pub(crate) fn replaced<'a>(&self, there: impl IntoIterator<Item = &'a KeyValue>) {
        self.revoke(lease::emptied(there.into_iter().map(KeyValue::lease)));
    }

    pub(crate) fn revoke(&self, mut leases: Vec<i64>) {
        while !leases.is_empty() {
            let part =
                leases.split_off(leases.len().saturating_sub(leases.len().div_ceil(SWEEPERS).max(SWEPT)));
            let client = self.client.clone();
            self.sweeps.spawn(async move {
                for lease in part {
                    // What cannot be revoked ends by its TTL.
                    let _ = lease::end(client.clone(), lease, Deadline::DEFAULT).await;
                }
                Ok(())
            });
        }
    }

    /// One range.
    pub(crate) async fn range(
        &self,
        purpose: Purpose,
        deadline: Deadline,
        start: &[u8],
        options: GetOptions,
    ) -> Result<etcd_client::GetResponse> {
        let answer = self
            .client
            .call(purpose, deadline, |service| {
                let (start, options) = (start.to_vec(), options.clone());
                async move {
                    service.kv_client().max_decoding_message_size(ANSWER).get(start, Some(options)).await
                }
            })
            .await?;
        self.saw(answer.header());
        Ok(answer)
    }

    pub(crate) fn saw(&self, header: Option<&ResponseHeader>) {
        self.seen.store(header.map_or(0, ResponseHeader::revision), Ordering::Relaxed);
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Etcd {
    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        let name = self.0.names.key(key.as_str());
        let mut found = self.0.range(purpose(options), options.deadline, &name, reading(options)).await?;
        Ok(found.take_kvs().pop().map(|found| entry(key.clone(), found)))
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
        let names: Vec<_> = keys.iter().map(|key| self.0.names.key(key.as_str())).collect();
        let found =
            write::read(&self.0, &names, purpose(options), options.deadline, &reading(options)).await?;
        let pairs = keys.iter().zip(found);
        Ok(pairs.map(|(key, found)| found.map(|found| entry(key.clone(), found))).collect())
    }

    async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool> {
        let name = self.0.names.key(key.as_str());
        let count = reading(options).with_count_only();
        Ok(self.0.range(purpose(options), options.deadline, &name, count).await?.count() > 0)
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        write::put(&self.0, key, value, expect, options).await
    }

    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        write::delete(&self.0, key, expect, options).await
    }

    async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        list::page(&self.0, directory, from, options).await
    }

    async fn delete_tree(
        &self,
        directory: &Directory,
        _: Option<&Cursor>,
        options: &WriteOptions,
    ) -> Result<Batch> {
        write::delete_tree(&self.0, directory, options).await
    }

    async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
        write::transact(&self.0, transaction, options).await
    }

    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        Ok(match target {
            Target::Key(_) | Target::Tree(_) => watch::watch(self.0.clone(), target, options),
            Target::Holder(name) => watch::watch_holder(self.0.clone(), name, options),
        })
    }

    async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        let range = self.0.capabilities.lease.as_ref();
        let ttl = range.ok_or_else(|| self.0.capabilities.unsupported("leases"))?.grant(ttl)?;
        lease::lease(&self.0, ttl, options).await
    }

    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        lock::lock(&self.0, name, options).await
    }

    async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
        watch::holder(&self.0, name, options).await
    }

    /// The server lists what other tools wrote.
    async fn adopt(&self, _: &Directory, _: &WriteOptions) -> Result<u64> {
        Ok(0)
    }

    async fn health(&self, options: &ReadOptions) -> Result<Health> {
        let (client, deadline) = (&self.0.client, options.deadline);
        let count = GetOptions::new().with_count_only();
        self.0.range(Purpose::Read, deadline, &self.0.names.key(HEALTH), count).await?;
        let status =
            client.call(Purpose::Read, deadline, |s| async move { s.maintenance_client().status().await });
        let status = status.await?;
        let mut health = Health::new(status.version());
        // Servers may keep the list of members to administrators.
        let members =
            client.call(Purpose::Read, deadline, |s| async move { s.cluster_client().member_list().await });
        if let Ok(members) = members.await {
            let called = |m: &etcd_client::Member| match m.name() {
                "" => format!("{:x}", m.id()),
                name => name.to_owned(),
            };
            health.leader = members.members().iter().find(|m| m.id() == status.leader()).map(called);
            health.members = members.members().iter().map(called).collect();
        }
        Ok(health)
    }

    fn inner(&self) -> Option<&dyn Store> {
        None
    }

    async fn close(&self) -> Result<()> {
        // What hangs on the sessions of locks goes with them, so that neither waits for the other.
        let others = Deadline::after(GIVEN_BACK).limit(self.0.tasks.finish());
        let sweeps = Deadline::after(GIVEN_BACK).limit(self.0.sweeps.finish());
        let (given_back, ended, _) = tokio::join!(others, self.0.sessions.end(), sweeps);
        self.0.client.close();
        given_back.map(|given_back| given_back.and(ended)).unwrap_or_else(|| {
            let why =
                format!("what was in use could not be given back within {GIVEN_BACK:?}; it ends by its TTL");
            Err(Error::new(ErrorKind::Timeout, why))
        })
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { client, names, .. } = &*self.0;
        f.debug_struct("Etcd")
            .field("members", client)
            .field("prefix", &names.prefix())
            .finish_non_exhaustive()
    }
}
