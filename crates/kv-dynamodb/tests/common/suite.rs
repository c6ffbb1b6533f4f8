//! The conformance suite on an emulator of our own, or on a live table.

use super::*;
use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use kv_core::{Bytes, Result, StoreUrl, async_trait};
use kv_testsuite::{Base, Foreign, Harness, Proxy, Server};
use std::{collections::HashMap, sync::Arc};

const TABLE: &str = "kv-suite";

pub fn main() -> ! {
    kv_testsuite::main(|| async {
        match std::env::var(LIVE) {
            Ok(url) => Suite::live(Base::new(url).map_err(|e| format!("{LIVE}: {e}"))?).await,
            Err(_) => {
                let node = single().await?;
                // Made here, so that no two cases make it.
                node.open(TABLE).await?.close().await?;
                let base = Base::new(node.url(TABLE, ""))?;
                let tool = Some(Tool { sdk: node.sdk(), table: TABLE.into(), base: String::new() });
                Ok(Suite { base, node: Some(Arc::new(node)), tool })
            }
        }
    })
}

pub struct Suite {
    base: Base,
    node: Option<Arc<Node>>,
    tool: Option<Tool>,
}

impl Suite {
    async fn live(base: Base) -> Result<Self, Failure> {
        let kv = kv_dynamodb::open(&base.with_prefix(""))
            .await
            .map_err(|e| format!("{LIVE}, {}: {e}", base.shown()))?;
        kv.health().await?;
        kv.close().await?;
        let tool = Tool::live(&base).await?;
        Ok(Self { base, node: None, tool: Some(tool) })
    }
}

#[async_trait]
impl Harness for Suite {
    fn name(&self) -> String {
        if self.node.is_some() { "dynamodb".into() } else { "dynamodb-live".into() }
    }

    async fn open(&self, prefix: &str) -> Result<Kv> {
        kv_dynamodb::open(&self.base.with_prefix(prefix)).await
    }

    async fn open_through(&self, proxy: &Proxy, prefix: &str) -> Option<Result<Kv>> {
        self.address()?;
        Some(config(proxy.address(), TABLE).prefix(prefix).open().await.map(Kv::new))
    }

    fn address(&self) -> Option<SocketAddr> {
        // A live service is spoken to by TLS, under its own name.
        self.node.as_ref().map(|node| node.address)
    }

    fn server(&self) -> Option<Arc<dyn Server>> {
        Some(self.node.clone()?)
    }

    fn foreign(&self) -> Option<Arc<dyn Foreign>> {
        Some(Arc::new(self.tool.clone()?))
    }

    fn url(&self, prefix: &str) -> Option<String> {
        Some(self.base.with_prefix(prefix))
    }

    async fn open_url(&self, url: &str) -> Option<Result<Kv>> {
        Some(kv_dynamodb::open(url).await)
    }

    async fn leftovers(&self, prefix: &str) -> Vec<String> {
        let Some(tool) = &self.tool else { return Vec::new() };
        tool.leftovers(prefix).await.unwrap_or_else(|e| vec![e.to_string()])
    }
}

#[async_trait]
impl Server for Node {
    async fn stop(&self) {
        self.daemon.stop();
    }
    async fn kill(&self) {
        self.daemon.kill();
    }
    async fn start(&self) {
        Node::start(self).await.expect("it started before");
    }
    async fn pause(&self) {
        self.daemon.pause();
    }
    async fn resume(&self) {
        self.daemon.resume();
    }
}

/// The bare SDK.
#[derive(Clone)]
struct Tool {
    sdk: Client,
    table: String,
    /// The URL's own prefix.
    base: String,
}

impl Tool {
    /// With the settings of the URL.
    async fn live(base: &Base) -> Result<Self, Failure> {
        let mut url = StoreUrl::parse(&base.with_prefix(""))?;
        let mut loader = aws_config::defaults(aws_config::BehaviorVersion::latest());
        if let Some(region) = url.take::<String>("region")? {
            loader = loader.region(Region::new(region));
        }
        if let Some(endpoint) = url.take::<String>("endpoint")? {
            loader = loader.endpoint_url(endpoint);
        }
        if let Some(profile) = url.take::<String>("profile")? {
            loader = loader.profile_name(profile);
        }
        let token = url.take::<String>("session_token")?;
        if let (Some(id), Some(secret)) = (url.user(), url.password()) {
            loader = loader.credentials_provider(Credentials::new(id, secret.reveal(), token, None, "tests"));
        }
        let sdk = Client::new(&loader.load().await);
        Ok(Self { sdk, table: url.hosts().join(","), base: url.prefix().to_owned() })
    }

    /// The suite's prefixes are two segments.
    fn key(&self, name: &str) -> HashMap<String, AttributeValue> {
        let end = name.match_indices('/').nth(1).map_or(name.len(), |(at, _)| at + 1);
        let (prefix, key) = name.split_at(end);
        HashMap::from([
            ("p".into(), AttributeValue::S(format!("kv:{}{prefix}", self.base))),
            ("k".into(), AttributeValue::S(key.into())),
        ])
    }

    /// Items that are there, but for the records of locks, which stay because they hold the tokens.
    async fn leftovers(&self, prefix: &str) -> Result<Vec<String>, Failure> {
        let mut left = Vec::new();
        for area in ["kv", "kv-lease", "kv-lock"] {
            let partition = format!("{area}:{}{prefix}", self.base);
            let query = self.sdk.query().table_name(&self.table).key_condition_expression("p = :p");
            let query = query.expression_attribute_values(":p", AttributeValue::S(partition));
            let found = query.consistent_read(true).send().await?;
            let stays = |item: &HashMap<String, AttributeValue>| area == "kv-lock" && !item.contains_key("owner");
            left.extend(found.items().iter().filter(|item| !stays(item)).map(|item| format!("{area}: {:?}", item["k"])));
        }
        Ok(left)
    }
}

#[async_trait]
impl Foreign for Tool {
    async fn put(&self, name: &str, value: Bytes) {
        let value = AttributeValue::B(Blob::new(value));
        let put = self.sdk.put_item().table_name(&self.table).set_item(Some(self.key(name)));
        // A name that is longer than the service takes is left out.
        let _ = put.item("v", value).send().await;
    }
    async fn get(&self, name: &str) -> Option<Bytes> {
        let get = self.sdk.get_item().table_name(&self.table).set_key(Some(self.key(name)));
        let found = get.consistent_read(true).send().await.expect("the service serves");
        let value = found.item?.remove("v")?;
        Some(value.as_b().ok()?.clone().into_inner().into())
    }
    async fn delete(&self, name: &str) {
        let delete = self.sdk.delete_item().table_name(&self.table).set_key(Some(self.key(name)));
        delete.send().await.expect("the service serves");
    }
    async fn put_other_type(&self, name: &str) -> bool {
        let put = self.sdk.put_item().table_name(&self.table).set_item(Some(self.key(name)));
        put.item("v", AttributeValue::S("words".into())).send().await.expect("the service serves");
        true
    }
}
