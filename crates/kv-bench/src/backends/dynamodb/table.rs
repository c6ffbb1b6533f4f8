//! Both other sides: the same requests, with or without what gives the promise.

use super::{LOGIN, REGION};
use crate::side::{Done, Nothing, Side, TTL, VALUE};
use aws_sdk_dynamodb::{
    Client, Config,
    config::{BehaviorVersion, Credentials, Region},
    error::{DisplayErrorContext, SdkError},
    operation::put_item::PutItemError,
    primitives::Blob,
    types::{
        AttributeDefinition, AttributeValue, BillingMode, DeleteRequest, KeySchemaElement, KeyType,
        ScalarAttributeType, StreamSpecification, StreamViewType, WriteRequest,
    },
};
use kv_testsuite::Failure;
use std::{
    collections::HashMap,
    error::Error,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::sleep;

/// The rest of one who waits for a lock.
const LOOK: Duration = Duration::from_millis(250);
/// The items of one batch of writes.
const BATCH: usize = 25;

type Item = HashMap<String, AttributeValue>;

/// A table whose items are all in one partition.
#[derive(Clone)]
pub(super) struct Table {
    client: Client,
    name: &'static str,
    /// Tells whether reads are consistent, and writes have a version by a condition.
    keeps: bool,
    versions: Arc<AtomicU64>,
}

impl Table {
    /// Opens a table of this name, with or without what gives the promise; makes it if told to.
    pub(super) async fn open(at: SocketAddr, name: &'static str, keeps: bool, makes: bool) -> Done<Self> {
        let [id, secret] = LOGIN;
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(format!("http://{at}"))
            .region(Region::new(REGION))
            .credentials_provider(Credentials::new(id, secret, None, None, "bench"))
            .build();
        let client = Client::from_conf(config);
        if makes {
            make(&client, name).await?;
        }
        Ok(Self { client, name, keeps, versions: Arc::default() })
    }

    fn key(&self, name: &str) -> Item {
        [("p", "all"), ("k", name)].map(|(field, value)| (field.to_owned(), text(value))).into()
    }

    /// Returns a version that is greater than all before: the time in microseconds, or one more than
    /// the last.
    fn version(&self) -> Done<u64> {
        let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?;
        let newer = |last: u64| now.max(last + 1);
        let last = self.versions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(newer(last)));
        Ok(last.map_or(now, newer))
    }

    /// Puts an item with these further fields, which has this version, if one is given; returns its
    /// new version.
    async fn write(&self, name: &str, last: Option<u64>, more: Option<(&str, u64)>) -> Done<u64> {
        loop {
            let version = self.version()?;
            let mut item = self.key(name);
            item.insert("v".into(), AttributeValue::B(Blob::new(VALUE.to_vec())));
            item.insert("ver".into(), number(version));
            if let Some((field, value)) = more {
                item.insert(field.into(), number(value));
            }
            let put = self.client.put_item().table_name(self.name).set_item(Some(item));
            let put = match last {
                Some(last) => {
                    put.condition_expression("ver = :last").expression_attribute_values(":last", number(last))
                }
                None if self.keeps => put
                    .condition_expression("attribute_not_exists(ver) OR ver < :new")
                    .expression_attribute_values(":new", number(version)),
                None => put,
            };
            match put.send().await {
                Ok(_) => return Ok(version),
                // Another caller wrote a later version meanwhile: this one comes behind it.
                Err(e) if last.is_none() && is_refused(&e) => {}
                Err(e) => return Err(failed(e)),
            }
        }
    }

    /// Returns all items below a directory, or their keys alone.
    async fn below(&self, directory: &str, keys_alone: bool) -> Done<Vec<Item>> {
        let (mut found, mut from) = (Vec::new(), None);
        loop {
            let query = self.client.query().table_name(self.name).consistent_read(self.keeps);
            let query = query
                .key_condition_expression("p = :p AND begins_with(k, :k)")
                .expression_attribute_values(":p", text("all"))
                .expression_attribute_values(":k", text(directory))
                .set_projection_expression(keys_alone.then(|| "p, k".to_owned()))
                .set_exclusive_start_key(from);
            let page = query.send().await.map_err(failed)?;
            found.extend(page.items.unwrap_or_default());
            from = page.last_evaluated_key;
            if from.is_none() {
                return Ok(found);
            }
        }
    }
}

/// Tells whether the condition of a put was not true.
fn is_refused(error: &SdkError<PutItemError>) -> bool {
    error.as_service_error().is_some_and(PutItemError::is_conditional_check_failed_exception)
}

/// Returns an error with all that the service said.
fn failed(error: impl Error) -> Failure {
    DisplayErrorContext(error).to_string().into()
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn number(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// Makes a table of the shape that ours has.
async fn make(client: &Client, name: &str) -> Done<()> {
    let mut make = client.create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
    for (field, kind) in [("p", KeyType::Hash), ("k", KeyType::Range)] {
        let schema = KeySchemaElement::builder().attribute_name(field).key_type(kind).build()?;
        let kind = ScalarAttributeType::S;
        let field = AttributeDefinition::builder().attribute_name(field).attribute_type(kind).build()?;
        make = make.key_schema(schema).attribute_definitions(field);
    }
    let stream = StreamSpecification::builder().stream_enabled(true);
    let stream = stream.stream_view_type(StreamViewType::NewAndOldImages).build()?;
    make.stream_specification(stream).send().await.map_err(failed)?;
    Ok(())
}

impl Side for Table {
    type Version = u64;
    type Guard = String;
    type Changes = Nothing;

    fn directory(&self, directory: &str) -> String {
        format!("{directory}/")
    }

    async fn get(&self, name: &str) -> Done<usize> {
        let get = self.client.get_item().table_name(self.name).consistent_read(self.keeps);
        let answer = get.set_key(Some(self.key(name))).send().await.map_err(failed)?;
        match answer.item.as_ref().and_then(|item| item.get("v")) {
            Some(AttributeValue::B(value)) => Ok(value.as_ref().len()),
            _ => Err("the key is not there".into()),
        }
    }

    async fn put(&self, name: &str) -> Done<()> {
        self.write(name, None, None).await.map(drop)
    }

    async fn put_ttl(&self, name: &str) -> Done<()> {
        let ends = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + TTL;
        self.write(name, None, Some(("ttl", ends))).await.map(drop)
    }

    async fn written(&self, name: &str) -> Done<u64> {
        self.write(name, None, None).await
    }

    async fn atomic_put(&self, name: &str, last: u64) -> Done<u64> {
        self.write(name, Some(last), None).await
    }

    async fn list(&self, directory: &str) -> Done<usize> {
        Ok(self.below(directory, false).await?.len())
    }

    async fn delete_tree(&self, directory: &str) -> Done<()> {
        for some in self.below(directory, true).await?.chunks(BATCH) {
            let requests = some.iter().map(|item| {
                let delete = DeleteRequest::builder().set_key(Some(item.clone())).build()?;
                Done::Ok(WriteRequest::builder().delete_request(delete).build())
            });
            let requests = requests.collect::<Done<Vec<_>>>()?;
            let batch = self.client.batch_write_item().request_items(self.name, requests);
            batch.send().await.map_err(failed)?;
        }
        Ok(())
    }

    async fn lock(&self, name: &str) -> Done<String> {
        loop {
            let put = self.client.put_item().table_name(self.name).set_item(Some(self.key(name)));
            match put.condition_expression("attribute_not_exists(k)").send().await {
                Ok(_) => return Ok(name.to_owned()),
                Err(e) if e.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => {
                }
                Err(e) => return Err(failed(e)),
            }
            sleep(LOOK).await;
        }
    }

    async fn unlock(&self, name: String) -> Done<()> {
        let delete = self.client.delete_item().table_name(self.name).set_key(Some(self.key(&name)));
        delete.send().await.map_err(failed)?;
        Ok(())
    }
}
