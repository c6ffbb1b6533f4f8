//! The conformance suite on a server of our own, or on a live one.

use super::{
    cluster::{Cluster, Role},
    full::Tight,
    *,
};
use kv_core::{Bytes, Kv, Result, driver::async_trait};
use kv_redis::Config;
use kv_testsuite::{Base, Foreign, Full, Harness, Proxy, Server, leavings::none_at_the_end};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

/// The tag of all names in a cluster: one slot, of one node, which can stand behind a proxy.
const TAG: &str = "{suite}";

/// Makes the suite on a cluster of our own, with the keys in one slot, or spread over several.
pub async fn cluster(name: &'static str, spread: Option<u16>) -> Result<Suite, Failure> {
    // No replica is to take over while the suite pauses the whole cluster.
    let cluster = Arc::new(Cluster::start("redis", 60_000).await?);
    let base = Base::new(format!("{}{TAG}/", cluster.url()))?;
    let tool = Some(cluster.owner(TAG).await?.address);
    let (cluster, theirs) = (Some((cluster, spread)), Theirs::default());
    Ok(Suite { name: name.into(), kind: "redis", base, tool, node: None, cluster, theirs })
}

/// Makes the suite on the live server, or on one of our own.
pub async fn suite(kind: &'static str, name: &'static str) -> Result<Suite, Failure> {
    if let Some(base) = Base::live(LIVE)? {
        return Suite::live(base).await;
    }
    let node = single(kind).await?;
    let base = Base::new(format!("redis://{}/", node.address))?;
    let (tool, theirs) = (Some(node.address), Theirs::default());
    Ok(Suite { name: name.into(), kind, base, tool, node: Some(Arc::new(node)), cluster: None, theirs })
}

pub struct Suite {
    name: String,
    /// The programs of the server.
    kind: &'static str,
    base: Base,
    node: Option<Arc<Node>>,
    cluster: Option<(Arc<Cluster>, Option<u16>)>,
    /// The address for the bare protocol; `None` if a live server asks for more than an address.
    tool: Option<SocketAddr>,
    /// The names that the tests wrote with the tool, which no call of the library has to delete.
    theirs: Theirs,
}

type Theirs = Arc<Mutex<BTreeSet<String>>>;

impl Suite {
    async fn live(base: Base) -> Result<Self, Failure> {
        let kv = kv_redis::open(&base.with_prefix(""))
            .await
            .map_err(|e| format!("{LIVE}, {}: {e}", base.shown()))?;
        let name = format!("redis-{}", kv.health().await?.version);
        kv.close().await?;
        let is_single = base.with_prefix("").starts_with("redis://");
        let tool = base.address(6379).filter(|_| base.is_plain() && is_single);
        Ok(Self { name, kind: "redis", base, node: None, cluster: None, tool, theirs: Theirs::default() })
    }
}

impl Suite {
    fn spread(&self) -> Option<u16> {
        self.cluster.as_ref()?.1
    }

    fn with_prefix(&self, prefix: &str) -> String {
        let url = self.base.with_prefix(prefix);
        self.spread().map_or(url.clone(), |parts| format!("{url}?spread={parts}"))
    }
}

/// Returns the names that are left on all nodes of the cluster.
async fn left_in_all(
    cluster: Option<&(Arc<Cluster>, Option<u16>)>,
    prefix: &str,
) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    for node in cluster.iter().flat_map(|(cluster, _)| &cluster.0) {
        if node.role().await? == Role::Master {
            all.extend(left(node.address, &format!("{{{prefix}")).await?);
        }
    }
    Ok(all)
}

#[async_trait]
impl Server for Cluster {
    async fn stop(&self) {
        self.0.iter().for_each(|node| node.daemon.stop());
    }
    async fn kill(&self) {
        self.0.iter().for_each(|node| node.daemon.kill());
    }
    async fn start(&self) {
        for node in &self.0 {
            node.daemon.spawn().expect("it started before");
        }
        self.serves().await.expect("it served before");
    }
    async fn pause(&self) {
        self.0.iter().for_each(|node| node.daemon.pause());
    }
    async fn resume(&self) {
        self.0.iter().for_each(|node| node.daemon.resume());
        self.serves().await.expect("it served before");
    }
}

#[async_trait]
impl Harness for Suite {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn open(&self, prefix: &str) -> Result<Kv> {
        kv_redis::open(&self.with_prefix(prefix)).await
    }

    async fn open_through(&self, proxy: &Proxy, prefix: &str) -> Option<Result<Kv>> {
        let address = self.address()?;
        if self.cluster.is_some() {
            let config = Config::cluster([proxy.address().to_string()]).prefix(self.base.name_of(prefix));
            return Some(config.reached(address.to_string(), proxy.address().to_string()).open().await);
        }
        Some(kv_redis::open(&format!("redis://{}/{}", proxy.address(), self.base.name_of(prefix))).await)
    }

    fn address(&self) -> Option<SocketAddr> {
        // A live server that asks for nothing but its address can stand behind a proxy, and so can
        // one node of a cluster.
        self.tool.filter(|_| self.spread().is_none())
    }

    fn server(&self) -> Option<Arc<dyn Server>> {
        match (&self.node, &self.cluster) {
            (Some(node), _) => Some(node.clone()),
            (_, Some((cluster, _))) => Some(cluster.clone()),
            _ => None,
        }
    }

    fn foreign(&self) -> Option<Arc<dyn Foreign>> {
        // The names of a spread store are none that another tool would use.
        self.spread().is_none().then_some(())?;
        let tool = Tool::new(self.tool?, self.base.name_of(""));
        Some(Arc::new(Tool { theirs: self.theirs.clone(), ..tool }))
    }

    fn url(&self, prefix: &str) -> Option<String> {
        Some(self.with_prefix(prefix))
    }

    async fn open_url(&self, url: &str) -> Option<Result<Kv>> {
        Some(kv_redis::open(url).await)
    }

    async fn beside(&self, prefix: &str) -> Vec<(&'static str, Result<Kv>)> {
        // A cluster has one database, and a live server may have another in the URL.
        if self.node.is_none() {
            return Vec::new();
        }
        let in_database = |number: u8| {
            let url = format!("{}?db={number}", self.with_prefix(prefix));
            async move { kv_redis::open(&url).await }
        };
        vec![("database 1", in_database(1).await), ("database 2", in_database(2).await)]
    }

    async fn internals(&self, prefix: &str) -> Option<Vec<String>> {
        let (tool, prefix) = (self.tool?, self.base.name_of(prefix));
        self.spread().is_none().then_some(())?;
        Some(internals(tool, &format!("{prefix}.kv/")).await.expect("the server serves"))
    }

    async fn full(&self) -> Option<Arc<dyn Full>> {
        self.node.as_ref()?;
        Some(Arc::new(Tight::start(self.kind).await.expect("a server of its own")))
    }

    fn is_documented(&self) -> bool {
        // A spread store is the code of the cluster with fewer capabilities.
        self.spread().is_none()
    }

    async fn leftovers(&self, prefix: &str) -> Vec<String> {
        let Some(tool) = self.tool else { return Vec::new() };
        let prefix = self.base.name_of(prefix);
        let theirs: Vec<_> = {
            let all = self.theirs.lock().unwrap_or_else(PoisonError::into_inner);
            all.iter().filter(|name| name.starts_with(&prefix)).cloned().collect()
        };
        let own = Tool::new(tool, String::new());
        for name in theirs {
            own.delete(&name).await;
        }
        if self.spread().is_some() {
            return left_in_all(self.cluster.as_ref(), &prefix).await.unwrap_or_else(|e| vec![e.to_string()]);
        }
        left(tool, &prefix).await.unwrap_or_else(|e| vec![e.to_string()])
    }
}

/// Returns the names of our own records that begin like this; for sessions and queues one for each
/// contender in them.
async fn internals(server: SocketAddr, own: &str) -> Result<Vec<String>, Failure> {
    let mut resp = Resp::connect(server).await?;
    let mut all = Vec::new();
    for name in resp.ask(&[b"KEYS", format!("{own}*").as_bytes()]).await?.list() {
        let name = name.text();
        let parts = match name.strip_prefix(own).and_then(|rest| rest.split('/').next()) {
            Some("session" | "held") => resp.ask(&[b"HKEYS", name.as_bytes()]).await?,
            Some("lock") => resp.ask(&[b"ZRANGE", name.as_bytes(), b"0", b"-1"]).await?,
            _ => Reply::List(vec![Reply::Nothing]),
        };
        // A session has one field besides those of its contenders.
        let parts = parts.list().into_iter().map(|part| part.text()).filter(|part| part != "open");
        all.extend(parts.map(|part| format!("{name} {part}")));
    }
    Ok(all)
}

/// Returns names below the prefix, except for the last number given, which ends by itself, and the
/// number of parts; and channels that have a listener.
pub async fn left(server: SocketAddr, prefix: &str) -> Result<Vec<String>, Failure> {
    left_by(&mut Resp::connect(server).await?, prefix).await
}

/// Does the same as [`left`], over this connection.
pub async fn left_by(resp: &mut Resp, prefix: &str) -> Result<Vec<String>, Failure> {
    let mut left = Vec::new();
    for name in resp.ask(&[b"KEYS", format!("{prefix}*").as_bytes()]).await?.list() {
        let name = name.text();
        let is_ending = match resp.ask(&[b"PTTL", name.as_bytes()]).await? {
            Reply::Number(-2) => continue, // it has ended since it was listed
            life => matches!(life, Reply::Number(0..)),
        };
        if !(name.ends_with(".kv/clock") && is_ending || name.ends_with("}.kv/parts")) {
            left.push(format!("the key {name:?}"));
        }
    }
    let channels = resp.ask(&[b"PUBSUB", b"SHARDCHANNELS", format!("{prefix}*").as_bytes()]).await?;
    left.extend(channels.list().into_iter().map(|name| format!("the channel {:?}", name.text())));
    Ok(left)
}

/// Checks that nothing of ours is left on a server of our own when the last case has ended.
impl Drop for Suite {
    fn drop(&mut self) {
        let Some(node) = self.node.take() else { return };
        none_at_the_end(async || left(node.address, "").await).unwrap();
    }
}

/// Another tool, which uses whole names.
pub struct Tool {
    server: SocketAddr,
    prefix: String,
    /// The user and password, if any.
    user: Option<(&'static str, &'static str)>,
    theirs: Theirs,
}

impl Tool {
    pub fn new(server: SocketAddr, prefix: String) -> Self {
        Self { server, prefix, user: None, theirs: Theirs::default() }
    }

    pub fn with_user(self, user: Option<(&'static str, &'static str)>) -> Self {
        Self { user, ..self }
    }

    async fn ask(&self, command: &str, name: &str, more: &[&[u8]]) -> Reply {
        let name = format!("{}{name}", self.prefix);
        if matches!(command, "SET" | "RPUSH") {
            self.theirs.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        }
        let parts = [&[command.as_bytes(), name.as_bytes()], more].concat();
        let asked = async {
            let mut resp = Resp::connect(self.server).await?;
            if let Some((user, word)) = self.user {
                resp.ask(&[b"AUTH", user.as_bytes(), word.as_bytes()]).await?;
            }
            resp.ask(&parts).await
        };
        asked.await.expect("the server serves")
    }
}

#[async_trait]
impl Foreign for Tool {
    async fn put(&self, name: &str, value: Bytes) {
        self.ask("SET", name, &[&value]).await;
    }
    async fn get(&self, name: &str) -> Option<Bytes> {
        match self.ask("GET", name, &[]).await {
            Reply::Text(value) => Some(value.into()),
            _ => None,
        }
    }
    async fn delete(&self, name: &str) {
        self.ask("DEL", name, &[]).await;
    }
    async fn put_other_type(&self, name: &str) -> bool {
        self.ask("RPUSH", name, &[b"theirs"]).await == Reply::Number(1)
    }
}
