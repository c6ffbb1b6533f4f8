//! The conformance suite on a server of our own, or on a live one.

use super::*;
use etcd_client::{
    AlarmAction, AlarmOptions, AlarmType, Client, CompactionOptions, DeleteOptions, GetOptions,
    LeaseTimeToLiveOptions,
};
use kv_core::{Bytes, Kv, Result, driver::async_trait};
use kv_testsuite::{Base, Foreign, Full, Harness, Proxy, Server, leavings::none_at_the_end};
use std::sync::Arc;

/// Opens the suite on the live server, or on one of our own.
pub async fn suite(kind: &'static str, name: &'static str) -> Result<Suite, Failure> {
    if let Some(base) = Base::live(LIVE)? {
        return Suite::live(base).await;
    }
    let node = single(kind).await?;
    let base = Base::new(format!("etcd://{}/", node.address))?;
    let tool = Client::connect([node.address.to_string()], None).await?;
    Ok(Suite { name: name.into(), base, node: Some(Arc::new(node)), tool: Some(tool) })
}

pub struct Suite {
    name: String,
    base: Base,
    node: Option<Arc<Node>>,
    /// Holds a client of the server's bare protocol; `None` for a live server that asks for more
    /// than an address.
    tool: Option<Client>,
}

impl Suite {
    async fn live(base: Base) -> Result<Self, Failure> {
        let kv = kv_etcd::open(&base.with_prefix(""))
            .await
            .map_err(|e| format!("{LIVE}, {}: {e}", base.shown()))?;
        let name = format!("etcd-{}", kv.health().await?.version);
        kv.close().await?;
        let tool = match base.address(2379).filter(|_| base.is_plain()) {
            Some(address) => Some(Client::connect([address.to_string()], None).await?),
            None => None,
        };
        Ok(Self { name, base, node: None, tool })
    }
}

#[async_trait]
impl Harness for Suite {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn open(&self, prefix: &str) -> Result<Kv> {
        kv_etcd::open(&self.base.with_prefix(prefix)).await
    }

    async fn open_through(&self, proxy: &Proxy, prefix: &str) -> Option<Result<Kv>> {
        self.address()?;
        Some(kv_etcd::open(&format!("etcd://{}/{}", proxy.address(), self.base.name_of(prefix))).await)
    }

    fn address(&self) -> Option<SocketAddr> {
        // A live server can stand behind a proxy only if it asks for nothing but its address.
        self.tool.as_ref()?;
        self.base.address(2379)
    }

    fn server(&self) -> Option<Arc<dyn Server>> {
        Some(self.node.clone()?)
    }

    fn foreign(&self) -> Option<Arc<dyn Foreign>> {
        Some(Arc::new(Tool(self.tool.clone()?, self.base.name_of(""))))
    }

    fn url(&self, prefix: &str) -> Option<String> {
        Some(self.base.with_prefix(prefix))
    }

    async fn open_url(&self, url: &str) -> Option<Result<Kv>> {
        Some(kv_etcd::open(url).await)
    }

    async fn internals(&self, prefix: &str) -> Option<Vec<String>> {
        let tool = self.tool.as_ref()?;
        let left = leftovers(tool, self.base.name_of(prefix).as_bytes()).await;
        Some(left.unwrap_or_else(|e| vec![e.to_string()]))
    }

    async fn full(&self) -> Option<Arc<dyn Full>> {
        let kind = self.node.as_ref().map(|node| node.kind.clone())?;
        let quota = "--quota-backend-bytes=4194304".into();
        let node = nodes(&Setup { more: vec![quota], ..Setup::single(&kind) }, 1).ok()?.pop()?;
        node.start().await.ok()?;
        let tool = Client::connect([node.address.to_string()], None).await.ok()?;
        Some(Arc::new(Small { node, tool }))
    }

    async fn leftovers(&self, prefix: &str) -> Vec<String> {
        let Some(tool) = &self.tool else { return Vec::new() };
        leftovers(tool, self.base.name_of(prefix).as_bytes()).await.unwrap_or_else(|e| vec![e.to_string()])
    }
}

/// Checks, when the last case has ended, that a server of our own shows nothing of ours.
impl Drop for Suite {
    fn drop(&mut self) {
        let (Some(node), Some(tool)) = (self.node.take(), self.tool.take()) else { return };
        shows_nothing(&[&node], &tool);
    }
}

/// Panics unless the members soon show nothing of ours. A harness that ends calls it, within the
/// runtime.
pub fn shows_nothing(nodes: &[&Node], tool: &Client) {
    none_at_the_end(async || whole_server(nodes, tool).await).unwrap();
}

/// The beginning of the numbers of the leases that puts with a TTL share.
const OF_TTLS: i64 = 0x6b54;

async fn whole_server(nodes: &[&Node], tool: &Client) -> Result<Vec<String>, Failure> {
    let mut left = leftovers(tool, b"").await?;
    for node in nodes {
        let watchers = node.metric("etcd_debugging_mvcc_watcher_total", &[]).await?;
        left.extend((watchers > 0.0).then(|| format!("{watchers} watchers of {}", node.name)));
    }
    for lease in tool.lease_client().leases().await?.leases() {
        // Nobody revokes a lease that puts with a TTL have shared, as the crate's page says.
        if lease.id() >> 48 == OF_TTLS {
            continue;
        }
        let Ok(lease) = tool.lease_client().time_to_live(lease.id(), None).await else { continue };
        left.push(format!("the lease {:x} of {} s, {} s left", lease.id(), lease.granted_ttl(), lease.ttl()));
    }
    Ok(left)
}

/// Returns the keys below the prefix, and the leases with such keys.
pub async fn leftovers(tool: &Client, prefix: &[u8]) -> Result<Vec<String>, Failure> {
    let mut left = Vec::new();
    let all = GetOptions::new().with_prefix().with_keys_only();
    for kv in tool.kv_client().get(prefix, Some(all)).await?.kvs() {
        left.push(format!("the key {:?}", String::from_utf8_lossy(kv.key())));
    }
    for lease in tool.lease_client().leases().await?.leases() {
        let keys = LeaseTimeToLiveOptions::new().with_keys();
        // The lease may have ended meanwhile.
        let Ok(lease) = tool.lease_client().time_to_live(lease.id(), Some(keys)).await else { continue };
        if lease.keys().iter().any(|key| key.starts_with(prefix)) {
            left.push(format!("the lease {:x} of {} s", lease.id(), lease.granted_ttl()));
        }
    }
    Ok(left)
}

/// A server with little room.
struct Small {
    node: Node,
    tool: Client,
}

#[async_trait]
impl Full for Small {
    async fn open(&self, prefix: &str) -> Result<Kv> {
        kv_etcd::open(&format!("etcd://{}/{prefix}", self.node.address)).await
    }

    async fn fill(&self) {
        let (mut size, mut count) = (100_000, 0);
        while size > 0 {
            let put = self.tool.kv_client().put(format!("\u{1}filler/{count}"), vec![0; size], None).await;
            count += 1;
            if put.is_err() {
                size /= 10;
            }
        }
        // The server has the alarm by now, and keeps it until the alarm is taken back.
        assert!(self.tool.kv_client().put("\u{1}filler", "", None).await.is_err());
    }

    async fn relieve(&self) {
        relieve(&self.tool, "\u{1}filler").await.expect("the server serves");
    }
}

/// Makes room as an operator does: deletes the names with this prefix, gives back the room that
/// they took, and clears the alarm.
pub async fn relieve(tool: &Client, filler: &str) -> Result<(), Failure> {
    let all = DeleteOptions::new().with_prefix();
    tool.kv_client().delete(filler, Some(all)).await?;
    let status = tool.maintenance_client().status().await?;
    let header = status.header().ok_or("every answer has a header")?;
    let (at, mut member) = (header.revision(), AlarmOptions::new());
    member.with_member(header.member_id());
    let physical = CompactionOptions::new().with_physical();
    tool.kv_client().compact(at, Some(physical)).await?;
    let mut maintenance = tool.maintenance_client();
    maintenance.defragment().await?;
    maintenance.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(member)).await?;
    Ok(())
}

/// A client of the bare protocol, and the prefix of the names that it writes.
pub struct Tool(pub Client, pub String);

#[async_trait]
impl Foreign for Tool {
    async fn put(&self, name: &str, value: Bytes) {
        self.0.kv_client().put(format!("{}{name}", self.1), value, None).await.expect("the server serves");
    }
    async fn get(&self, name: &str) -> Option<Bytes> {
        let found = self.0.kv_client().get(format!("{}{name}", self.1), None).await;
        let found = found.expect("the server serves").take_kvs().pop();
        found.map(|kv| kv.into_key_value().1.into())
    }
    async fn delete(&self, name: &str) {
        self.0.kv_client().delete(format!("{}{name}", self.1), None).await.expect("the server serves");
    }
    fn damaged(&self) -> &'static [&'static str] {
        &["\u{1}lock/LOCK\u{1}", "\u{1}lock/LOCK\u{1}0000", "\u{1}lock/LOCK\u{1}zz"]
    }
}
