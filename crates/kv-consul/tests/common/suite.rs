//! The conformance suite on a server of our own, or on a live one.

use super::*;
use kv_core::{Bytes, Kv, driver::async_trait};
use kv_testsuite::{Base, Foreign, Harness, Proxy, Server, Troubles, leavings::none_at_the_end};
use std::sync::Arc;
use tokio::sync::OnceCell;

/// Opens the suite on the live server, or on one of our own.
pub async fn suite() -> Result<Suite, Failure> {
    if let Some(base) = Base::live(LIVE)? {
        return Suite::live(base).await;
    }
    let node =
        with(&json!({ "datacenter": beyond::NEAR, "limits": { "http_max_conns_per_client": 4000 } })).await?;
    Ok(Suite::of(Arc::new(node), String::new(), None)?.with_another_datacenter())
}

pub struct Suite {
    name: String,
    base: Base,
    node: Option<Arc<Node>>,
    /// Holds the parameters of the URL, which stand behind its path.
    parameters: String,
    /// Holds the parameters of the URL of clients that speak TLS to the server, where the server
    /// does too.
    with_tls: Option<String>,
    troubles: Option<Arc<dyn Troubles>>,
    /// Holds the server of another datacenter, once a case has asked for it; `None` where the
    /// server speaks to no other.
    far: Option<OnceCell<Node>>,
}

impl Suite {
    /// Makes the suite on a server of our own, which shows what is on it to those without a token,
    /// and lets them write.
    pub fn of(
        node: Arc<Node>,
        parameters: String,
        troubles: Option<Arc<dyn Troubles>>,
    ) -> Result<Self, Failure> {
        let base = Base::new(format!("consul://{}/{parameters}", node.address))?;
        let name = "consul-1.8".into();
        Ok(Self { name, base, node: Some(node), parameters, with_tls: None, troubles, far: None })
    }

    /// Has another datacenter beside that of the server, which was given a name of its own.
    pub fn with_another_datacenter(mut self) -> Self {
        self.far = Some(OnceCell::new());
        self
    }

    pub fn with_tls(mut self, parameters: String) -> Self {
        self.with_tls = Some(parameters);
        self
    }

    async fn live(base: Base) -> Result<Self, Failure> {
        let kv = kv_consul::open(&base.with_prefix(""))
            .await
            .map_err(|e| format!("{LIVE}, {}: {e}", base.shown()))?;
        let name = format!("consul-{}", kv.health().await?.version);
        kv.close().await?;
        let parameters = String::new();
        Ok(Self { name, base, node: None, parameters, with_tls: None, troubles: None, far: None })
    }
}

#[async_trait]
impl Harness for Suite {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn open(&self, prefix: &str) -> kv_core::Result<Kv> {
        kv_consul::open(&self.base.with_prefix(prefix)).await
    }

    async fn open_through(&self, proxy: &Proxy, prefix: &str) -> Option<kv_core::Result<Kv>> {
        Some(kv_consul::open(&self.url_through(proxy, prefix)?).await)
    }

    fn address(&self) -> Option<SocketAddr> {
        if let Some(node) = &self.node {
            return Some(node.address);
        }
        // A live server can stand behind a proxy only if it asks for nothing but its address.
        self.base.address(8500).filter(|_| self.base.is_plain())
    }

    fn other_addresses(&self) -> Vec<SocketAddr> {
        let node = self.node.as_ref().filter(|_| self.with_tls.is_some());
        node.map(|node| node.tls_address()).into_iter().collect()
    }

    fn server(&self) -> Option<Arc<dyn Server>> {
        Some(self.node.clone()?)
    }

    fn foreign(&self) -> Option<Arc<dyn Foreign>> {
        Some(Arc::new(Tool(self.address()?, self.base.name_of(""))))
    }

    fn troubles(&self) -> Option<Arc<dyn Troubles>> {
        self.troubles.clone()
    }

    fn url(&self, prefix: &str) -> Option<String> {
        Some(self.base.with_prefix(prefix))
    }

    fn url_through(&self, proxy: &Proxy, prefix: &str) -> Option<String> {
        self.address()?;
        let is_tls = self.other_addresses().contains(&proxy.server());
        let parameters = self.with_tls.as_ref().filter(|_| is_tls).unwrap_or(&self.parameters);
        let at = proxy.address();
        Some(format!("consul://{at}/{}{parameters}", self.base.name_of(prefix)))
    }

    async fn open_url(&self, url: &str) -> Option<kv_core::Result<Kv>> {
        Some(kv_consul::open(url).await)
    }

    /// Opens a store in another datacenter. Namespaces need Consul Enterprise.
    async fn beside(&self, prefix: &str) -> Vec<(&'static str, kv_core::Result<Kv>)> {
        let (Some(node), Some(far)) = (&self.node, &self.far) else { return Vec::new() };
        far.get_or_try_init(|| beyond::start(node)).await.expect("a server of another datacenter");
        let other = beyond::open(node, &self.base.name_of(prefix)).await;
        vec![("datacenter", Ok(other.expect("the two datacenters know each other")))]
    }

    fn speaks_http(&self) -> bool {
        true
    }

    async fn internals(&self, prefix: &str) -> Option<Vec<String>> {
        Some(names(self.address()?, &self.base.name_of(prefix)).await.unwrap_or_else(|e| vec![e.to_string()]))
    }

    async fn leftovers(&self, prefix: &str) -> Vec<String> {
        let Some(address) = self.address() else { return Vec::new() };
        names(address, &self.base.name_of(prefix)).await.unwrap_or_else(|e| vec![e.to_string()])
    }
}

/// Checks, when the last case has ended, that servers of our own show nothing of ours.
impl Drop for Suite {
    fn drop(&mut self) {
        let Some(node) = self.node.take() else { return };
        if std::thread::panicking() {
            return;
        }
        let far = self.far.take().and_then(OnceCell::into_inner);
        let left = none_at_the_end(async || {
            let mut left = whole_server(&node).await?;
            if let Some(far) = &far {
                left.extend(whole_server(far).await?);
            }
            Ok(left)
        });
        // A case that took the server away may hold on to the node until the program ends, which
        // removes no folder.
        node.daemon.kill();
        let _ = std::fs::remove_dir_all(node.folder.path());
        left.unwrap();
    }
}

pub async fn whole_server(node: &Node) -> Result<Vec<String>, Failure> {
    let mut left = names(node.address, "").await?;
    // Sessions of keys with a TTL that another client deleted end by their time: nobody knows
    // whether other keys live by them.
    left.extend(sessions(node.address).await?.into_iter().filter(|session| !session.contains("kv ttl")));
    Ok(left)
}

/// A tool that writes past the library: at this server, below this prefix.
pub struct Tool(pub SocketAddr, pub String);

impl Tool {
    async fn txn(&self, verb: &str, name: &str, value: &[u8]) -> Answer {
        let key = format!("{}{name}", self.1);
        let ops = json!([{ "KV": { "Verb": verb, "Key": key, "Value": base64(value) } }]);
        txn(self.0, ops).await.expect("the server serves")
    }
}

#[async_trait]
impl Foreign for Tool {
    async fn put(&self, name: &str, value: Bytes) {
        self.txn("set", name, &value).await;
    }
    async fn get(&self, name: &str) -> Option<Bytes> {
        let answer = self.txn("get", name, b"").await;
        let found = answer.json().expect("an answer in JSON");
        let pair = found["Results"].get(0)?;
        Some(from_base64(&pair["KV"]["Value"]).expect("a value in base64").into())
    }
    async fn delete(&self, name: &str) {
        self.txn("delete", name, b"").await;
    }
    fn damaged(&self) -> &'static [&'static str] {
        &[
            ".kv/lock/1/LOCK",
            ".kv/lock/1/LOCK/",
            ".kv/lock/1/LOCK/x",
            ".kv/lock/1/LOCK/.kv",
            ".kv/lock/1/LOCK/0123456789abcdef",
            ".kv/lock/7/LOCK/0123456789abcdef",
        ]
    }
}
