//! The requests that keep what ours keeps.

use super::client::{Consul, encoded, modified, operation, path, values};
use crate::side::{Done, Nothing, Side, TTL, VALUE};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// The time for which puts share a session.
const SHARED: Duration = Duration::from_millis(500);

/// A client, and the session that puts share.
#[derive(Clone)]
pub(super) struct Eq {
    consul: Consul,
    session: Arc<Mutex<Option<(Instant, String)>>>,
}

impl Eq {
    pub(super) fn open(consul: Consul) -> Self {
        Self { consul, session: Arc::default() }
    }

    /// Returns a session that lasts for the TTL from now on.
    async fn session(&self) -> Done<String> {
        let mut shared = self.session.lock().await;
        if let Some((made, session)) = &*shared
            && made.elapsed() < SHARED
        {
            return Ok(session.clone());
        }
        let now = Instant::now();
        let session = self.consul.new_session(TTL + 1).await?;
        *shared = Some((now, session.clone()));
        Ok(session)
    }

    /// Makes a key anew behind this operation, so that its index is new and it has no session.
    async fn anew(&self, before: Value, name: &str) -> Done<u64> {
        let set = operation("set", name, json!({ "Value": encoded(&VALUE) }));
        modified(&self.consul.txn(json!([before, set])).await?)
    }
}

impl Side for Eq {
    type Version = u64;
    type Guard = ();
    type Changes = Nothing;

    fn name(&self, key: &str) -> String {
        format!("{}/{key}", self.consul.prefix)
    }

    fn directory(&self, directory: &str) -> String {
        format!("{}/{directory}/", self.consul.prefix)
    }

    async fn get(&self, name: &str) -> Done<usize> {
        let (_, pairs) = self.consul.pairs(&path(name, "?consistent")).await?;
        Ok(values(&pairs)?.first().ok_or("the key is not there")?.len())
    }

    async fn put(&self, name: &str) -> Done<()> {
        self.written(name).await.map(drop)
    }

    async fn put_ttl(&self, name: &str) -> Done<()> {
        let session = self.session().await?;
        let delete = operation("delete", name, json!({}));
        let lock = operation("lock", name, json!({ "Value": encoded(&VALUE), "Session": session }));
        modified(&self.consul.txn(json!([delete, lock])).await?).map(drop)
    }

    async fn written(&self, name: &str) -> Done<u64> {
        self.anew(operation("delete", name, json!({})), name).await
    }

    async fn atomic_put(&self, name: &str, last: u64) -> Done<u64> {
        self.anew(operation("delete-cas", name, json!({ "Index": last })), name).await
    }

    async fn list(&self, directory: &str) -> Done<usize> {
        let (_, pairs) = self.consul.pairs(&path(directory, "?recurse&consistent")).await?;
        Ok(values(&pairs)?.len())
    }

    async fn delete_tree(&self, directory: &str) -> Done<()> {
        self.consul.pairs(&path(directory, "?keys&consistent")).await?;
        self.consul.txn(json!([operation("delete-tree", directory, json!({}))])).await.map(drop)
    }
}
