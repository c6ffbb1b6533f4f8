//! Reports under a key that others write all the while.

mod common;

use common::{Limits, MS, limits, pair, put_limits, until};
use kv_config::{live, status};
use kv_core::{
    Bytes, Capabilities, Directory, Entry, Error, ErrorKind, Key, Kv, Result, Written,
    driver::{
        Cursor, Expect, LeaseOptions, Leased, ListOptions, Page, PutOptions, ReadOptions, Store, Target,
        WatchOptions, WatchStream, WriteOptions, async_trait,
    },
};
use kv_memory::Memory;
use std::{
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    time::Duration,
};
use tokio::time::Instant;

/// A store in which others are first with so many writes of reports.
#[derive(Debug)]
struct Contended(Memory, AtomicU32);

#[async_trait]
impl Store for Contended {
    fn capabilities(&self) -> &Capabilities {
        self.0.capabilities()
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        self.0.get(key, options).await
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        let is_report = key.as_str().starts_with("app/status/");
        if is_report && self.1.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(Error::new(ErrorKind::KeyModified, "another was first"));
        }
        self.0.put(key, value, expect, options).await
    }

    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        self.0.delete(key, expect, options).await
    }

    async fn list(&self, dir: &Directory, from: Option<&Cursor>, options: &ListOptions) -> Result<Page> {
        self.0.list(dir, from, options).await
    }

    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        self.0.watch(target, options).await
    }

    async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        self.0.lease(ttl, options).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_report_is_not_tried_again_without_a_pause() {
    let p = pair().await;
    put_limits(&p.other, limits(1)).await;
    let kv = Kv::new(Contended(p.memory.with_prefix(""), AtomicU32::new(10)));
    let settings = live::<Limits>(&kv, "app/limits").report("app/status/a").await.unwrap();
    let (began, now) = (Instant::now(), settings.generation());
    until("the report", async || status(&p.other, "app/status").await.unwrap().running(&now) == 1).await;
    assert!(began.elapsed() > 50 * MS, "ten tries within {:?}", began.elapsed());
}
