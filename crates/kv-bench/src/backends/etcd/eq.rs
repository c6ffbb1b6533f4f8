//! The requests that keep what ours keeps.

use super::raw::Raw;
use crate::side::{Done, Side, TTL, VALUE};
use etcd_client::{
    Compare, CompareOp, EventType, GetOptions, PutOptions, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse,
    WatchOptions, WatchStream,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// The time for which puts share a lease.
const SHARED: Duration = Duration::from_millis(500);
/// The keys of a page.
const PAGE: i64 = 1_000;

/// A client, and the lease that puts share.
#[derive(Clone)]
pub(super) struct Eq {
    raw: Raw,
    lease: Arc<Mutex<Option<(Instant, i64)>>>,
}

impl Eq {
    pub(super) fn open(raw: Raw) -> Self {
        Self { raw, lease: Arc::default() }
    }

    /// Returns a lease that lasts for the TTL from now on.
    async fn lease(&self) -> Done<i64> {
        let mut shared = self.lease.lock().await;
        if let Some((granted, lease)) = *shared
            && granted.elapsed() < SHARED
        {
            return Ok(lease);
        }
        let now = Instant::now();
        let lease = self.raw.client.lease_client().grant(TTL.cast_signed() + 1, None).await?.id();
        *shared = Some((now, lease));
        Ok(lease)
    }

    /// Waits until a key is gone, from this revision on.
    async fn gone(&self, key: &[u8], from: i64) -> Done<()> {
        let options = WatchOptions::new().with_start_revision(from);
        let mut watch = self.raw.client.watch_client().watch(key, Some(options)).await?;
        while let Some(message) = watch.message().await? {
            if message.events().iter().any(|event| event.event_type() == EventType::Delete) {
                return Ok(());
            }
        }
        Err("the watch ended".into())
    }
}

impl Side for Eq {
    type Version = i64;
    type Guard = String;
    type Changes = WatchStream;

    fn name(&self, key: &str) -> String {
        self.raw.name(key)
    }

    fn directory(&self, directory: &str) -> String {
        self.raw.directory(directory)
    }

    async fn another(&self) -> Done<Self> {
        Ok(Self::open(self.raw.another().await?))
    }

    async fn get(&self, name: &str) -> Done<usize> {
        self.raw.get(name).await
    }

    async fn put(&self, name: &str) -> Done<()> {
        self.raw.put(name).await
    }

    async fn put_ttl(&self, name: &str) -> Done<()> {
        let options = PutOptions::new().with_lease(self.lease().await?);
        self.raw.write(name, Some(options)).await.map(drop)
    }

    async fn written(&self, name: &str) -> Done<i64> {
        self.raw.write(name, None).await
    }

    async fn atomic_put(&self, name: &str, last: i64) -> Done<i64> {
        // A refusal tells which version there is.
        let is_last = Compare::mod_revision(name, CompareOp::Equal, last);
        let swap = Txn::new()
            .when([is_last])
            .and_then([TxnOp::put(name, VALUE, None)])
            .or_else([TxnOp::get(name, Some(GetOptions::new().with_keys_only()))]);
        let answer = self.raw.client.kv_client().txn(swap).await?;
        match answer.succeeded() {
            true => Ok(answer.header().ok_or("an answer has a header")?.revision()),
            false => Err("the version is another one".into()),
        }
    }

    async fn list(&self, directory: &str) -> Done<usize> {
        let end = format!("{}0", directory.trim_end_matches('/'));
        let (mut found, mut start, mut revision) = (Vec::new(), directory.as_bytes().to_vec(), 0);
        loop {
            let options = GetOptions::new().with_range(&*end).with_limit(PAGE).with_revision(revision);
            let mut page = self.raw.client.kv_client().get(start, Some(options)).await?;
            revision = page.header().ok_or("an answer has a header")?.revision();
            let is_last = !page.more();
            found.extend(page.take_kvs());
            match found.last().filter(|_| !is_last) {
                Some(last) => start = [last.key(), &[0]].concat(),
                None => return Ok(found.len()),
            }
        }
    }

    async fn delete_tree(&self, directory: &str) -> Done<()> {
        self.raw.delete_tree(directory).await
    }

    async fn lock(&self, name: &str) -> Done<String> {
        static CONTENDERS: AtomicU64 = AtomicU64::new(0);
        let own = format!("{name}/{}", CONTENDERS.fetch_add(1, Ordering::Relaxed));
        let first =
            GetOptions::new().with_prefix().with_sort(SortTarget::Create, SortOrder::Ascend).with_limit(1);
        let enter = Txn::new().and_then([
            TxnOp::put(&*own, VALUE, Some(PutOptions::new().with_lease(self.raw.lease))),
            TxnOp::get(format!("{name}/"), Some(first)),
        ]);
        let entered = self.raw.client.kv_client().txn(enter).await?;
        let revision = entered.header().ok_or("an answer has a header")?.revision();
        if let Some(TxnOpResponse::Get(first)) = entered.op_responses().get(1)
            && first.kvs().first().is_some_and(|first| first.key() == own.as_bytes())
        {
            return Ok(own);
        }
        let last = GetOptions::new()
            .with_prefix()
            .with_sort(SortTarget::Create, SortOrder::Descend)
            .with_max_create_revision(revision - 1)
            .with_limit(1);
        loop {
            let before = self.raw.client.kv_client().get(format!("{name}/"), Some(last.clone())).await?;
            let Some(before_us) = before.kvs().first() else { return Ok(own) };
            let from = before.header().ok_or("an answer has a header")?.revision() + 1;
            self.gone(before_us.key(), from).await?;
        }
    }

    async fn unlock(&self, own: String) -> Done<()> {
        self.raw.client.kv_client().delete(own, None).await?;
        Ok(())
    }

    async fn watch(&self, name: &str) -> Done<WatchStream> {
        let watch = self.raw.watch(name).await?;
        self.raw.get(name).await?;
        Ok(watch)
    }
}
