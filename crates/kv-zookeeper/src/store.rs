//! The backend itself: each call, by the server's own means.

use crate::{
    client::{Client, Via},
    connect::Options,
    error::Problem,
    expiring::Expiring,
    feed::{Feed, answers},
    holder, lease,
    limits::Limits,
    list, lock,
    names::Names,
    node::{self, Ask, Directories, Found, Got, Known, Mark, Node, read},
    pool::Sessions,
    probe::{self, Probe},
    session::Ephemeral,
    tree, txn, watch, write,
};
use futures::future::join_all;
use kv_core::{
    backend::{
        Clock, Mutex, Tasks,
        retry::{Effect, RequestError, RetrySafety, Servers},
    },
    *,
};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Weak, atomic::AtomicBool},
    time::Duration,
};

/// What a request holds besides values and keys.
const OVERHEAD: usize = 64 << 10;
/// How long closing waits for what is given back in the background.
const GIVEN_BACK: Duration = Duration::from_millis(500);
/// So long a key may be, with a prefix of a layer.
const LONGEST_KEY: usize = 1000;
/// Conditions and writes of one transaction. The server counts bytes alone.
const MOST_OPS: usize = 128;

/// A store on one ensemble, below one node; clones share its connections. [`Config`](crate::Config) opens one.
#[derive(Clone)]
pub struct ZooKeeper(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) this: Weak<Self>,
    pub(crate) client: Client,
    pub(crate) names: Names,
    pub(crate) clock: Clock,
    pub(crate) capabilities: Capabilities,
    pub(crate) limits: Limits,
    pub(crate) feed: Feed,
    pub(crate) known: Arc<Known>,
    pub(crate) directories: Directories,
    /// Whether the nodes that count creations are there.
    pub(crate) is_prepared: AtomicBool,
    pub(crate) sessions: Sessions,
    pub(crate) expiring: Expiring,
    pub(crate) leases: Mutex<HashMap<String, Weak<Ephemeral>>>,
    /// What gives back in the background.
    pub(crate) tasks: Tasks,
}

impl ZooKeeper {
    pub(crate) async fn open(
        options: Options,
        names: Names,
        clock: Clock,
        deadline: Deadline,
    ) -> Result<Self> {
        let (found, limits) = any(&options, deadline).await?;
        let (feed, known) = (Feed::new(names.clone()), Arc::<Known>::default());
        let client = Client::new(options, &feed, &known);
        client.link(deadline).await?;
        let asks = [Ask::Data(names.slot_node(0))];
        let prepared = read(&client, &ReadOptions::default().deadline(deadline), &asks).await;
        // What this user may do, and where, the calls will tell.
        let is_prepared = match prepared {
            Ok(got) => matches!(got.first(), Some(Got::Data(..))),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => true,
            Err(e) => return Err(e),
        };
        let capabilities = capabilities(limits, &found);
        Ok(Self(Arc::new_cyclic(|this| Inner {
            this: this.clone(),
            client,
            names,
            sessions: Sessions::new(clock.clone()),
            clock,
            capabilities,
            limits,
            feed,
            known,
            directories: Directories::default(),
            is_prepared: AtomicBool::new(is_prepared),
            expiring: Expiring::default(),
            leases: Mutex::default(),
            tasks: Tasks::default(),
        })))
    }
}

/// Returns what a host that serves tells of itself, and grants. What no other attempt mends is told
/// at once when no host is better.
async fn any(options: &Options, deadline: Deadline) -> Result<(Probe, Limits)> {
    let hosts = Servers::new(&options.hosts)?;
    let asked = hosts.run(RetrySafety::Read, deadline, |attempt| async move {
        let asked = ask(options, attempt.server, attempt.patience()).await;
        asked.map_err(|error| {
            let effect = if error.is_transient() { Effect::None } else { Effect::RefusedHere };
            RequestError::new(effect, error)
        })
    });
    Ok(asked.await?.answer)
}

async fn ask(options: &Options, host: &str, deadline: Deadline) -> Result<(Probe, Limits)> {
    let tls = options.tls();
    let found = probe::probe(host, tls.as_ref(), deadline, true).await?;
    check_version(&found.version)?;
    Ok((found, probe::limits(host, tls.as_ref(), deadline).await?))
}

fn check_version(version: &str) -> Result<()> {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    if !version.is_empty() && (next(), next()) < (3, 6) {
        let why = format!("the server is ZooKeeper {version}; kv-zookeeper needs 3.6 or newer");
        return Err(Error::new(ErrorKind::Unsupported, why));
    }
    Ok(())
}

fn capabilities(limits: Limits, found: &Probe) -> Capabilities {
    let mut c = Capabilities::new("zookeeper");
    c.durability = if found.mode == "standalone" { Durability::Fsync } else { Durability::Quorum };
    // A conditional write names its key a few times, each character of it up to three times as long.
    c.max_value = txn::REQUEST - OVERHEAD;
    c.max_txn_ops = MOST_OPS;
    // Where many long names leave less, the request itself is refused before it is sent.
    c.max_txn_bytes = c.max_value + LONGEST_KEY;
    let ttl = limits.range();
    c.lease = Some(ttl.clone());
    c.lock = Some(Locking::new(ttl.clone()));
    c.ttl = Some(ttl);
    c.children_of_expiring = false;
    c.watch = Watching::NewestState;
    c.health = true;
    c
}

impl Inner {
    /// Several keys, in their order; what they are is remembered.
    pub(crate) async fn look(&self, keys: &[&Key], options: &ReadOptions) -> Result<Vec<Found>> {
        let found = node::look(&self.client, &self.names, keys, options).await?;
        for (key, found) in keys.iter().zip(&found) {
            match found.seen.epoch {
                Some(_) => self.known.set(key, found.seen),
                None => self.known.forget(key),
            }
        }
        Ok(found)
    }

    pub(crate) async fn look_one(&self, key: &Key, options: &ReadOptions) -> Result<Found> {
        let found = self.look(&[key], options).await?.pop();
        found.ok_or_else(|| Error::new(ErrorKind::Corrupt, "the server answered no read"))
    }

    pub(crate) fn forget<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        for name in names {
            self.directories.forget(&self.names.node(name));
            if let Some(key) = Key::from_stored(name) {
                self.known.forget(&key);
            }
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for ZooKeeper {
    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    /// A backend stands on nothing.
    fn inner(&self) -> Option<&dyn Store> {
        None
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        Ok(self.0.look_one(key, options).await?.entry(key))
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
        let asked: Vec<_> = keys.iter().collect();
        let found = self.0.look(&asked, options).await?;
        Ok(keys.iter().zip(found).map(|(key, found)| found.entry(key)).collect())
    }

    async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool> {
        let path = &self.0.names.key(key);
        let answer =
            Via::Any(&self.0.client).call(RetrySafety::Read, options.deadline, |linked| async move {
                let barrier = linked.barrier_for(options.consistency).await;
                let stat = linked.session.check_stat(path);
                barrier.await?;
                let Some(stat) = stat.await? else { return Ok(false) };
                let is_empty = stat.data_length == 0;
                if !is_empty || stat.ephemeral_owner != 0 || stat.num_children == 0 {
                    return Ok(Node::new(is_empty, &stat, None).is_key);
                }
                // Both at one moment: what replaces an empty value may have a node without a mark.
                let mut reader = linked.session.new_multi_reader();
                reader.add_get_data(path)?;
                reader.add_get_data(&Names::mark(path))?;
                let mut got = answers(reader.commit().await?)?.into_iter();
                Ok::<_, Problem>(match got.next() {
                    Some(Got::Data(value, stat)) => {
                        Node::new(value.is_empty(), &stat, got.next().as_ref().and_then(Mark::of)).is_key
                    }
                    _ => false,
                })
            });
        Ok(answer.await?.unwrap_or_default())
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
        from: Option<&Cursor>,
        options: &WriteOptions,
    ) -> Result<Batch> {
        tree::delete_tree(&self.0, directory, from, options).await
    }

    async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
        write::transact(&self.0, transaction, options).await
    }

    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        Ok(watch::watch(self.0.clone(), target, options))
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
        holder::holder(&self.0, name, options).await
    }

    /// The server lists what other tools wrote.
    async fn adopt(&self, _: &Directory, _: &WriteOptions) -> Result<u64> {
        Ok(0)
    }

    async fn health(&self, options: &ReadOptions) -> Result<Health> {
        let (inner, deadline) = (&*self.0, options.deadline);
        let ask = [Ask::Children(inner.names.own())];
        read(&inner.client, &ReadOptions::default().deadline(deadline), &ask).await?;
        let hosts = &inner.client.options.hosts;
        let each = Deadline::after(deadline.remaining() / 2);
        let tls = inner.client.options.tls();
        let looks = hosts.iter().map(|host| probe::probe(host, tls.as_ref(), each, false));
        let mut health = Health::default();
        for (host, found) in hosts.iter().zip(join_all(looks).await) {
            let Ok(found) = found else { continue };
            if matches!(&*found.mode, "leader" | "standalone") {
                health.leader = Some(host.clone());
            }
            health.version = found.version;
        }
        health.members = hosts.clone();
        Ok(health)
    }

    async fn close(&self) -> Result<()> {
        // What cannot be given back soon must leave time for the end of what can.
        let given_back = Deadline::after(GIVEN_BACK).limit(self.0.tasks.finish()).await;
        self.0.expiring.close();
        let (ended, _) = tokio::join!(self.0.sessions.end(), self.0.client.close());
        given_back.map(|given_back| given_back.and(ended)).unwrap_or_else(|| {
            let why = "not all was given back in time; locks and leases that are left end by their TTL";
            Err(Error::new(ErrorKind::Timeout, why))
        })
    }
}

impl fmt::Debug for ZooKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { client, names, .. } = &*self.0;
        f.debug_struct("ZooKeeper")
            .field("hosts", client)
            .field("root", &names.root())
            .finish_non_exhaustive()
    }
}
