//! New watches of targets that change as fast as they can: a message that was published before a
//! listing is no news after it.

mod common;

use common::single;
use kv_core::{Kv, Version, WatchEvent};
use kv_testsuite::Failure;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;

/// Runs the work again and again, in three tasks, until this is dropped.
struct Churn(JoinSet<Result<(), kv_core::Error>>, Arc<AtomicBool>);

impl Churn {
    fn of<F>(kv: &Kv, work: fn(Kv) -> F) -> Self
    where
        F: Future<Output = Result<(), kv_core::Error>> + Send + 'static,
    {
        let end = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..3 {
            let (kv, end) = (kv.clone(), end.clone());
            tasks.spawn(async move {
                while !end.load(Ordering::Relaxed) {
                    work(kv.clone()).await?;
                }
                Ok(())
            });
        }
        Self(tasks, end)
    }

    async fn end(mut self) -> Result<(), Failure> {
        self.1.store(true, Ordering::Relaxed);
        while let Some(ended) = self.0.join_next().await {
            ended??;
        }
        Ok(())
    }
}

/// Reads some events of a new watch, and returns what is wrong with them.
async fn read(call: kv_core::WatchCall, events: usize) -> Result<Vec<String>, Failure> {
    let mut watch = call.await?;
    let (mut newest, mut all, mut wrong) = (HashMap::new(), Vec::new(), Vec::new());
    for _ in 0..events {
        let Ok(event) = tokio::time::timeout(Duration::from_millis(500), watch.event()).await else { break };
        let event = event?;
        all.push(format!("{event:?}"));
        let (key, version, is_put) = match &event {
            WatchEvent::Put(entry) => (entry.key.clone(), entry.version, true),
            WatchEvent::Delete { key, version } => (key.clone(), *version, false),
            WatchEvent::Synced => continue,
        };
        let before: Option<Version> = newest.insert(key, version);
        if before.is_some_and(|before| version < before || is_put && version == before) {
            wrong = all.clone();
        }
    }
    Ok(wrong)
}

#[tokio::test(flavor = "multi_thread")]
async fn holders_are_told_in_their_order() -> Result<(), Failure> {
    let node = single("redis").await?;
    let kv = kv_redis::open(&format!("redis://{}/churn/", node.address)).await?;
    let other = kv_redis::open(&format!("redis://{}/churn/", node.address)).await?;
    let churn =
        Churn::of(
            &other,
            |kv: Kv| async move { kv.new_lock("l").acquire().await?.release().await.map(drop) },
        );
    let mut wrong = Vec::new();
    for _ in 0..200 {
        wrong.push(read(kv.lock_holder("l").watch(), 8).await?);
    }
    churn.end().await?;
    wrong.retain(|events| !events.is_empty());
    assert!(wrong.is_empty(), "{} of 200 watches, the first: {:#?}", wrong.len(), wrong[0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_of_earlier_lives_end_no_later_one() -> Result<(), Failure> {
    let node = single("redis").await?;
    let kv = kv_redis::open(&format!("redis://{}/churn/", node.address)).await?;
    let other = kv_redis::open(&format!("redis://{}/churn/", node.address)).await?;
    let churn = Churn::of(&other, |kv: Kv| async move {
        kv.put("d/k", "v").ttl(Duration::from_millis(2)).await?;
        tokio::time::sleep(Duration::from_millis(3)).await;
        kv.list("d").await.map(drop)
    });
    let mut wrong = Vec::new();
    for _ in 0..400 {
        wrong.push(read(kv.watch_tree("d"), 8).await?);
    }
    churn.end().await?;
    wrong.retain(|events| !events.is_empty());
    assert!(wrong.is_empty(), "{} of 400 watches, the first: {:#?}", wrong.len(), wrong[0]);
    Ok(())
}
