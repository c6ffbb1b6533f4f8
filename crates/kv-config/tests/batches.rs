//! Settings on a store that tells changes late, several at once.

mod common;

use common::{MS, S, pair};
use kv_config::live;
use kv_core::{
    Bytes, Capabilities, Directory, Entry, Key, Kv, Result, Written,
    backend::stream,
    driver::{
        Cursor, Expect, ListOptions, Page, PutOptions, ReadOptions, Store, Target, WatchOptions, WatchStream,
        WriteOptions, async_trait,
    },
};
use kv_memory::Memory;
use std::{collections::BTreeMap, future::poll_fn, task::Poll, time::Duration};
use tokio::time::Instant;

/// A store whose watches tell what has happened at every end of this time.
#[derive(Debug)]
struct Batches(Memory, Duration);

#[async_trait]
impl Store for Batches {
    fn capabilities(&self) -> &Capabilities {
        self.0.capabilities()
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        self.0.get(key, options).await
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        self.0.put(key, value, expect, options).await
    }

    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        self.0.delete(key, expect, options).await
    }

    async fn list(&self, dir: &Directory, from: Option<&Cursor>, options: &ListOptions) -> Result<Page> {
        self.0.list(dir, from, options).await
    }

    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        let (mut told, every) = (self.0.watch(target, options).await?, self.1);
        Ok(stream(move |out| async move {
            let mut batches = tokio::time::interval(every);
            loop {
                batches.tick().await;
                while let Some(event) = poll_fn(|cx| match told.as_mut().poll_next(cx) {
                    Poll::Ready(event) => Poll::Ready(event),
                    Poll::Pending => Poll::Ready(None),
                })
                .await
                {
                    out.send(event?).await;
                }
            }
        }))
    }
}

/// The settings: as many keys as there are, with one value.
type All = BTreeMap<String, u32>;

fn are_equal(all: &All) -> std::result::Result<(), String> {
    let mut values: Vec<_> = all.values().collect();
    values.dedup();
    if values.len() <= 1 { Ok(()) } else { Err(format!("{values:?}")) }
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_written_one_by_one_are_one_change_though_they_are_told_late() {
    for every in [0, 90, 190, 290, 300, 310, 400, 700] {
        let p = pair().await;
        let keys: Vec<_> = ('a'..='j').map(|key| format!("app/all/{key}")).collect();
        for key in &keys {
            p.other.put(key, "0").await.unwrap();
        }
        let kv = Kv::new(Batches(p.memory.with_prefix(""), (every.max(1)) * MS));
        let open = live::<All>(&kv, "app/all").quiet(250 * MS..20 * S);
        let mut settings = open.validate(are_equal).await.unwrap();
        for n in 1..=12_u32 {
            for key in &keys {
                p.other.put(key, n.to_string()).await.unwrap();
                tokio::time::sleep(100 * MS).await;
            }
            let written = Instant::now();
            let now = settings.changed().await.unwrap();
            assert_eq!(now["a"], n);
            let half = tokio::time::timeout(Duration::ZERO, settings.next_rejected()).await;
            assert!(half.is_err(), "every {every} ms: {half:?}");
            assert!(written.elapsed() <= (every + 600) * MS, "it took {:?}", written.elapsed());
            tokio::time::sleep(S + n * 37 * MS).await;
            let change = tokio::time::timeout(Duration::ZERO, settings.changed()).await;
            assert!(change.is_err(), "it is told once");
        }
    }
}
