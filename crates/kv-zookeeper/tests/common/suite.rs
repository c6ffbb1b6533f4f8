//! The conformance suite on a server of our own, or on a live one.

use super::*;
use kv_core::{Bytes, Kv, Result, driver::async_trait};
use kv_testsuite::{Base, Foreign, Full, Harness, Proxy, Server, Troubles, leavings::none_at_the_end};
use std::sync::Arc;
use zookeeper_client::{Acls, Client, CreateMode, Error};

/// Makes the suite on the live server, or on one of our own.
pub async fn suite(kind: &'static str, name: &'static str) -> Result<Suite, Failure> {
    if let Some(base) = Base::live(LIVE)? {
        return Suite::live(base).await;
    }
    let node = single(kind).await?;
    let base = Base::new(format!("zookeeper://{}/", node.address))?;
    Ok(Suite::ours(name, kind, base, Arc::new(node)))
}

pub struct Suite {
    name: String,
    kind: &'static str,
    base: Base,
    node: Option<Arc<Node>>,
    /// Tells whether the server's bare protocol can be spoken: not to a live server that asks for
    /// more than an address.
    plain: bool,
    /// The address at which it speaks TLS too, and the parameters of a URL that a client needs
    /// there.
    with_tls: Option<(SocketAddr, String)>,
    troubles: Option<Arc<dyn Troubles>>,
}

impl Suite {
    /// Makes the suite on a server of our own.
    pub fn ours(name: &str, kind: &'static str, base: Base, node: Arc<Node>) -> Self {
        Self { name: name.into(), kind, base, node: Some(node), plain: true, with_tls: None, troubles: None }
    }

    pub fn with_tls(mut self, with_tls: (SocketAddr, String)) -> Self {
        self.with_tls = Some(with_tls);
        self
    }

    pub fn with_troubles(mut self, troubles: Arc<dyn Troubles>) -> Self {
        self.troubles = Some(troubles);
        self
    }

    pub async fn live(base: Base) -> Result<Self, Failure> {
        let kv = kv_zookeeper::open(&base.with_prefix(""))
            .await
            .map_err(|e| format!("{LIVE}, {}: {e}", base.shown()))?;
        let name = format!("zookeeper-{}", kv.health().await?.version);
        kv.close().await?;
        let plain = base.is_plain();
        Ok(Self { name, kind: "", base, node: None, plain, with_tls: None, troubles: None })
    }
}

#[async_trait]
impl Harness for Suite {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn open(&self, prefix: &str) -> Result<Kv> {
        kv_zookeeper::open(&self.base.with_prefix(prefix)).await
    }

    async fn open_through(&self, proxy: &Proxy, prefix: &str) -> Option<Result<Kv>> {
        Some(kv_zookeeper::open(&self.url_through(proxy, prefix)?).await)
    }

    fn address(&self) -> Option<SocketAddr> {
        self.plain.then(|| self.base.address(2181))?
    }

    fn other_addresses(&self) -> Vec<SocketAddr> {
        self.with_tls.iter().map(|(at, _)| *at).collect()
    }

    fn server(&self) -> Option<Arc<dyn Server>> {
        Some(self.node.clone()?)
    }

    fn troubles(&self) -> Option<Arc<dyn Troubles>> {
        self.troubles.clone()
    }

    fn foreign(&self) -> Option<Arc<dyn Foreign>> {
        Some(Arc::new(Tool(self.address()?, self.base.name_of(""))))
    }

    fn url(&self, prefix: &str) -> Option<String> {
        Some(self.base.with_prefix(prefix))
    }

    fn url_through(&self, proxy: &Proxy, prefix: &str) -> Option<String> {
        self.address()?;
        let with_tls = self.with_tls.as_ref().filter(|(at, _)| *at == proxy.server());
        let (at, parameters) = (proxy.address(), with_tls.map_or("", |(_, parameters)| parameters));
        Some(format!("zookeeper://{at}/{}{parameters}", self.base.name_of(prefix)))
    }

    async fn open_url(&self, url: &str) -> Option<Result<Kv>> {
        Some(kv_zookeeper::open(url).await)
    }

    async fn internals(&self, prefix: &str) -> Option<Vec<String>> {
        let root = format!("/{}", self.base.name_of(prefix).trim_end_matches('/'));
        leftovers(self.address()?, &root).await.ok()
    }

    async fn full(&self) -> Option<Arc<dyn Full>> {
        self.node.as_ref()?;
        Some(Arc::new(full::Quota::new(self.kind).await.expect("another server can be started")))
    }

    /// Returns what is left below a prefix. The nodes that count creations stay for good, and so
    /// do the nodes above them: a count that began anew would take an earlier version for a new
    /// one. Nodes of other tools that are no keys stay too.
    async fn leftovers(&self, prefix: &str) -> Vec<String> {
        let Some(address) = self.address() else { return Vec::new() };
        let root = format!("/{}", self.base.name_of(prefix).trim_end_matches('/'));
        leftovers(address, &root).await.unwrap_or_else(|e| vec![e.to_string()])
    }
}

async fn leftovers(address: SocketAddr, root: &str) -> Result<Vec<String>, Failure> {
    let client = Client::connect(&address.to_string()).await?;
    let (mut left, mut todo) = (Vec::new(), vec![(root.to_owned(), root.to_owned())]);
    while let Some((path, mut root)) = todo.pop() {
        let children = match client.list_children(&path).await {
            Err(Error::NoNode) => continue,
            children => children?,
        };
        if path != root {
            if client.check_stat(&format!("{path}/.kv/epoch")).await?.is_some() {
                // The root of a store within this one.
                root = path.clone();
            } else if !is_skeleton(&path, &root) {
                left.push(format!("the node {path:?}"));
            }
        }
        for child in children {
            let below = format!("{path}/{child}");
            // Foreign names, which the suite's cases leave.
            let is_foreign = child.trim() != child || child.len() > 1000 || (child == ".kv" && path != root);
            if is_foreign && !below.starts_with(&format!("{root}/.kv/")) {
                return Ok(left);
            }
            if below != format!("{root}/.kv/epoch") {
                todo.push((below, root.clone()));
            }
        }
    }
    Ok(left)
}

/// Returns whether it is a node that a store keeps for good.
fn is_skeleton(path: &str, root: &str) -> bool {
    [format!("{root}/.kv"), format!("{root}/.kv/lock")].iter().any(|own| path == own)
}

/// Checks that nothing of ours is left on a server of our own when the last case has ended.
impl Drop for Suite {
    fn drop(&mut self) {
        let Some(node) = self.node.take() else { return };
        nothing_is_left(&node);
    }
}

/// Waits until the server shows nothing of ours.
pub fn nothing_is_left(node: &Node) {
    none_at_the_end(async || whole_server(node).await).unwrap();
}

async fn whole_server(node: &Node) -> Result<Vec<String>, Failure> {
    let watches = node.count("zk_watch_count").await?;
    let mut left = Vec::from_iter((watches > 0).then(|| format!("{watches} watches")));
    left.extend(
        node.connected().await?.iter().map(|session| format!("a connection of the session {session}")),
    );
    // Sessions of keys with a TTL outlive their store, and the keys too: other keys may live by
    // them.
    let owners = node.sessions().await?.into_iter().filter(|(_, nodes)| !nodes.is_empty());
    left.extend(owners.map(|(session, nodes)| format!("the nodes {nodes:?} of the session {session}")));
    Ok(left)
}

/// Another tool, which uses the bare protocol.
struct Tool(SocketAddr, String);

impl Tool {
    async fn client(&self) -> Client {
        Client::connect(&self.0.to_string()).await.expect("the server serves")
    }

    fn path(&self, name: &str) -> String {
        format!("/{}{name}", self.1)
    }
}

#[async_trait]
impl Foreign for Tool {
    async fn put(&self, name: &str, value: Bytes) {
        let (client, path) = (self.client().await, self.path(name));
        let create = CreateMode::Persistent.with_acls(Acls::anyone_all());
        if let Some((parent, _)) = path.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) {
            match client.mkdir(parent, &create).await {
                Err(Error::BadArguments(_)) => return,
                made => made.expect("the server serves"),
            }
        }
        match client.create(&path, &value, &create).await {
            Err(Error::NodeExists) => drop(client.set_data(&path, &value, None).await.expect("it is there")),
            // A name that the server cannot hold.
            Err(Error::BadArguments(_)) => {}
            made => drop(made.expect("the server serves")),
        }
    }
    async fn get(&self, name: &str) -> Option<Bytes> {
        match self.client().await.get_data(&self.path(name)).await {
            Ok((value, _)) => Some(value.into()),
            // `BadArguments` is for a name that the server cannot hold.
            Err(Error::NoNode | Error::BadArguments(_)) => None,
            Err(e) => panic!("{e}"),
        }
    }
    async fn delete(&self, name: &str) {
        match self.client().await.delete(&self.path(name), None).await {
            // `BadArguments` is for a name that the server cannot hold.
            Ok(()) | Err(Error::NoNode | Error::BadArguments(_)) => {}
            Err(e) => panic!("{e}"),
        }
    }
    fn damaged(&self) -> &'static [&'static str] {
        &[".kv/lock/LOCK/x", ".kv/lock/LOCK/x-1", ".kv/lock/LOCK/-1", ".kv/lock/LOCK/lock-0000000000"]
    }
}
