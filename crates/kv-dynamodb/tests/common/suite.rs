//! The conformance suite on an emulator that it starts, or on a live table.

use super::{damage::Damage, *};
use aws_sdk_dynamodb::{
    primitives::Blob,
    types::{AttributeValue, StreamSpecification, StreamViewType},
};
use kv_core::{Bytes, Result, StoreUrl, driver::async_trait};
use kv_testsuite::{Base, Foreign, Harness, Proxy, Server, Troubles};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The number of tables that the cases share on an emulator: each reader of a stream reads all
/// that is written to its table.
const TABLES: u32 = 12;

/// Returns the table of a case, whose number is the second segment of its prefix.
fn table(prefix: &str) -> String {
    let case = prefix.split('/').nth(1).and_then(|n| n.split('-').next()?.parse::<u32>().ok());
    format!("kv-suite-{}", case.unwrap_or(0) % TABLES)
}

/// Returns the suite on the live service, or on an emulator that it starts.
pub async fn suite() -> Result<Suite, Failure> {
    if let Ok(url) = std::env::var(LIVE) {
        return Suite::live(Base::new(url).map_err(|e| format!("{LIVE}: {e}"))?).await;
    }
    let node = single().await?;
    let tool = Tool { sdk: node.sdk(), live: None };
    let damage = Damage::new(node.sdk());
    Ok(Suite { on: On::Own(Arc::new(node), Arc::new(damage)), tool })
}

pub struct Suite {
    on: On,
    tool: Tool,
}

enum On {
    Own(Arc<Node>, Arc<Damage>),
    Live(Box<Base>),
}

impl Suite {
    async fn live(base: Base) -> Result<Self, Failure> {
        let kv = kv_dynamodb::open(&base.with_prefix(""))
            .await
            .map_err(|e| format!("{LIVE}, {}: {e}", base.shown()))?;
        kv.health().await?;
        kv.close().await?;
        let tool = Tool::live(&base).await?;
        Ok(Self { on: On::Live(Box::new(base)), tool })
    }
}

impl Suite {
    fn node(&self) -> Option<&Arc<Node>> {
        if let On::Own(node, _) = &self.on { Some(node) } else { None }
    }

    fn url_of(&self, prefix: &str) -> String {
        match &self.on {
            On::Own(node, _) => node.url(&table(prefix), prefix),
            On::Live(base) => base.with_prefix(prefix),
        }
    }
}

#[async_trait]
impl Harness for Suite {
    fn name(&self) -> String {
        match &self.on {
            On::Own(..) => "dynamodb".into(),
            On::Live(_) => "dynamodb-live".into(),
        }
    }

    async fn open(&self, prefix: &str) -> Result<Kv> {
        kv_dynamodb::open(&self.url_of(prefix)).await
    }

    async fn open_through(&self, proxy: &Proxy, prefix: &str) -> Option<Result<Kv>> {
        self.address()?;
        Some(config(proxy.address(), &table(prefix)).prefix(prefix).create(true).open().await)
    }

    fn address(&self) -> Option<SocketAddr> {
        // A live service is reached by TLS, under its own name.
        self.node().map(|node| node.address)
    }

    fn server(&self) -> Option<Arc<dyn Server>> {
        Some(self.node()?.clone())
    }

    fn troubles(&self) -> Option<Arc<dyn Troubles>> {
        if let On::Own(_, damage) = &self.on { Some(damage.clone()) } else { None }
    }

    fn foreign(&self) -> Option<Arc<dyn Foreign>> {
        Some(Arc::new(self.tool.clone()))
    }

    fn url(&self, prefix: &str) -> Option<String> {
        Some(self.url_of(prefix))
    }

    async fn open_url(&self, url: &str) -> Option<Result<Kv>> {
        Some(kv_dynamodb::open(url).await)
    }

    /// Opens two other tables of the same service.
    async fn beside(&self, prefix: &str) -> Vec<(&'static str, Result<Kv>)> {
        let Some(node) = self.node() else { return Vec::new() };
        let mut stores = Vec::new();
        for (what, table) in [("a second table", "kv-suite-second"), ("a third table", "kv-suite-third")] {
            stores.push((what, kv_dynamodb::open(&node.url(table, prefix)).await));
        }
        stores
    }

    async fn internals(&self, prefix: &str) -> Option<Vec<String>> {
        Some(self.tool.ours(prefix, false).await.unwrap_or_else(|e| vec![e.to_string()]))
    }

    fn speaks_http(&self) -> bool {
        self.node().is_some()
    }

    async fn leftovers(&self, prefix: &str) -> Vec<String> {
        self.tool.ours(prefix, true).await.unwrap_or_else(|e| vec![e.to_string()])
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
    async fn save(&self) -> bool {
        self.copy("data", "saved").await.expect("a copy of the data");
        true
    }
    async fn restore_saved(&self) {
        self.copy("saved", "data").await.expect("the copy in place");
        // AWS restores into a new table, which has a stream of its own; the emulator's would be
        // the same.
        let tables = self.sdk().list_tables().send().await.expect("the service serves");
        for table in tables.table_names() {
            for on in [false, true] {
                let mut stream = StreamSpecification::builder().stream_enabled(on);
                if on {
                    stream = stream.stream_view_type(StreamViewType::NewAndOldImages);
                }
                let update = self.sdk().update_table().table_name(table);
                let update = update.stream_specification(stream.build().expect("a whole specification"));
                update.send().await.expect("the service serves");
            }
        }
    }
}

/// The foreign tool: the bare SDK.
#[derive(Clone)]
struct Tool {
    sdk: Client,
    /// The live table, and the URL's own prefix.
    live: Option<(String, String)>,
}

impl Tool {
    /// Makes the tool with the settings of the URL.
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
        Ok(Self { sdk, live: Some((url.hosts().join(","), url.prefix().to_owned())) })
    }

    /// Returns the table, and what stands behind the area in its partition keys.
    fn place(&self, prefix: &str) -> (String, String) {
        match &self.live {
            Some((table, base)) => (table.clone(), format!("{base}{prefix}")),
            None => (table(prefix), prefix.to_owned()),
        }
    }

    /// Returns the table and the key of a whole name. The suite's prefixes have two segments.
    fn key(&self, name: &str) -> (String, HashMap<String, AttributeValue>) {
        let end = name.match_indices('/').nth(1).map_or(name.len(), |(at, _)| at + 1);
        self.key_of(name.split_at(end))
    }

    fn key_of(&self, (prefix, key): (&str, &str)) -> (String, HashMap<String, AttributeValue>) {
        let (table, prefix) = self.place(prefix);
        let key = [("p", format!("kv:{prefix}")), ("k", key.into())];
        (table, HashMap::from(key.map(|(name, value)| (name.into(), AttributeValue::S(value)))))
    }

    /// Lists this library's items below the prefix. Three kinds are not listed, and are deleted
    /// here if `clears` is set: items of other tools under names that are no keys, records of free
    /// locks, which stay for a day because they hold the tokens, and items that ended by their
    /// TTL.
    async fn ours(&self, prefix: &str, clears: bool) -> Result<Vec<String>, Failure> {
        let (mut left, (table, prefix)) = (Vec::new(), self.place(prefix));
        for area in ["kv", "kv-lease", "kv-lock"] {
            let partition = format!("{area}:{prefix}");
            let query = self.sdk.query().table_name(&table).key_condition_expression("p = :p");
            let query = query.expression_attribute_values(":p", AttributeValue::S(partition));
            let found = query.consistent_read(true).send().await?;
            for item in found.items() {
                let ends = item.get("ends").and_then(|ends| ends.as_n().ok()?.parse::<u64>().ok());
                let is_over =
                    ends.is_some_and(|ends| UNIX_EPOCH + Duration::from_millis(ends) < SystemTime::now());
                let expected = is_over
                    || match area {
                        "kv" => !item.contains_key("ver"),
                        "kv-lock" => !item.contains_key("owner"),
                        _ => false,
                    };
                if !expected {
                    left.push(format!("{area}: {:?}", item["k"]));
                    continue;
                }
                if !clears {
                    continue;
                }
                let delete = self.sdk.delete_item().table_name(&table).key("p", item["p"].clone());
                delete.key("k", item["k"].clone()).send().await?;
            }
        }
        Ok(left)
    }
}

#[async_trait]
impl Foreign for Tool {
    async fn put(&self, name: &str, value: Bytes) {
        let (table, key) = self.key(name);
        let value = AttributeValue::B(Blob::new(value));
        let put = self.sdk.put_item().table_name(table).set_item(Some(key));
        // A name that is longer than the service takes is left out.
        let _ = put.item("v", value).send().await;
    }
    async fn get(&self, name: &str) -> Option<Bytes> {
        // The prefix may be longer than the suite's own.
        let ends = name.match_indices('/').map(|(at, _)| at + 1).skip(1);
        for end in ends.chain((name.matches('/').count() < 2).then_some(name.len())) {
            let (table, key) = self.key_of(name.split_at(end));
            let get = self.sdk.get_item().table_name(table).set_key(Some(key));
            let found = get.consistent_read(true).send().await;
            let value = found.ok().and_then(|found| found.item?.remove("v"));
            if let Some(value) = value {
                return Some(value.as_b().ok()?.clone().into_inner().into());
            }
        }
        None
    }
    async fn delete(&self, name: &str) {
        let (table, key) = self.key(name);
        let delete = self.sdk.delete_item().table_name(table).set_key(Some(key));
        delete.send().await.expect("the service serves");
    }
    async fn put_other_type(&self, name: &str) -> bool {
        let (table, key) = self.key(name);
        let put = self.sdk.put_item().table_name(table).set_item(Some(key));
        put.item("v", AttributeValue::S("words".into())).send().await.expect("the service serves");
        true
    }
}
