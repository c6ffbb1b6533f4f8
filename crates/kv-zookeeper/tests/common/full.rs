//! A server with a quota, which is ZooKeeper's only limit of space.

use super::*;
use kv_core::{Kv, Result, driver::async_trait};
use kv_testsuite::Full;
use zookeeper_client::{Acls, Client, CreateMode, Error};

/// The node that every store lies below.
const ROOT: &str = "/full";
const FILLER: &str = "/full/filler";
/// The limits of the quota: more than a case makes before the server is filled.
const NODES: usize = 2000;
const BYTES: usize = 8 << 20;

/// A server with a quota of nodes and of bytes, which counts both for what lies below [`ROOT`].
pub struct Quota {
    node: Node,
    tool: Client,
}

impl Quota {
    pub async fn new(kind: &str) -> Result<Self, Failure> {
        let mut setup = Setup::new(kind);
        setup.more = vec!["enforceQuota=true".into()];
        let node = start(&setup).await?;
        let tool = Client::connect(&node.address.to_string()).await?;
        let create = CreateMode::Persistent.with_acls(Acls::anyone_all());
        tool.mkdir(FILLER, &create).await?;
        let limits = format!("/zookeeper/quota{ROOT}");
        tool.mkdir(&limits, &create).await?;
        // The limit, and the node in which the server counts what is used.
        let limit = format!("count={NODES},bytes={BYTES}=;byteHardLimit={BYTES};countHardLimit={NODES}");
        tool.create(&format!("{limits}/zookeeper_limits"), limit.as_bytes(), &create).await?;
        tool.create(&format!("{limits}/zookeeper_stats"), b"count=2,bytes=0", &create).await?;
        Ok(Self { node, tool })
    }

    /// Makes nodes of so many bytes until there is no room for one more.
    async fn fill_by(&self, bytes: usize) -> Result<(), Failure> {
        let create = CreateMode::PersistentSequential.with_acls(Acls::anyone_all());
        loop {
            match self.tool.create(&format!("{FILLER}/n-"), &vec![b'x'; bytes], &create).await {
                Ok(_) => {}
                Err(Error::QuotaExceeded) => return Ok(()),
                Err(e) => return Err(e.into()),
            }
        }
    }

    async fn clear(&self) -> Result<(), Failure> {
        for child in self.tool.list_children(FILLER).await? {
            self.tool.delete(&format!("{FILLER}/{child}"), None).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Full for Quota {
    async fn open(&self, prefix: &str) -> Result<Kv> {
        kv_zookeeper::open(&format!("zookeeper://{}{ROOT}/{prefix}", self.node.address)).await
    }

    async fn fill(&self) {
        for bytes in [64 << 10, 256, 1, 0] {
            self.fill_by(bytes).await.expect("the server takes writes until it is full");
        }
    }

    async fn relieve(&self) {
        self.clear().await.expect("a full server lets one delete");
    }
}
