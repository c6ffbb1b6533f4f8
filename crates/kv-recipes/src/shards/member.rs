//! One member, and the work of its shards.

use super::{
    Shard,
    plan::{Is, Plan},
};
use crate::{
    names::below,
    patience::{backoff, ends, until_lost},
};
use kv_core::{Directory, Key, Kv, Result, WatchEvent};
use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    future::Future,
    panic::resume_unwind,
    sync::Arc,
    time::Duration,
};
use tokio::task::{AbortHandle, JoinSet};

#[derive(Clone)]
pub(super) struct Member {
    pub(super) kv: Kv,
    pub(super) name: Key,
    id: String,
    is: Is,
    pub(super) shards: usize,
    pub(super) ttl: Duration,
}

impl Member {
    pub(super) fn new(kv: &Kv, name: Key, id: String, is: Is, (shards, ttl): (usize, Duration)) -> Self {
        Self { kv: kv.clone(), name, id, is, shards, ttl }
    }

    /// Returns the directory of the members.
    pub(super) fn members(&self) -> Result<Directory> {
        Ok(below(&self.name, "members")?.as_directory())
    }

    /// Returns the key of the plan.
    pub(super) fn plan(&self) -> Result<Key> {
        below(&self.name, "plan")
    }

    /// Follows the plan: runs the work of the shards that it gives to this member.
    pub(super) async fn follow<W, F>(&self, work: Arc<W>) -> Result<Infallible>
    where
        W: Fn(Shard) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let mut watch = self.kv.watch(self.plan()?).await?;
        // Dropping these drops the work of all shards, and hands them over.
        let mut tasks: JoinSet<Result<()>> = JoinSet::new();
        let mut running: BTreeMap<usize, AbortHandle> = BTreeMap::new();
        loop {
            let event = tokio::select! {
                biased;
                ended = tasks.join_next(), if !tasks.is_empty() => match ended {
                    Some(Ok(Err(e))) => return Err(e),
                    Some(Err(e)) if e.is_panic() => resume_unwind(e.into_panic()),
                    _ => continue, // a shard that was handed over
                },
                event = watch.event() => event?,
            };
            // A plan that somebody deleted is made anew by whoever plans; until then all stays.
            let WatchEvent::Put(entry) = event else { continue };
            let plan = Plan::read(&entry, self.shards)?;
            let mine: BTreeSet<usize> = plan.of(&self.id).collect();
            running.retain(|shard, task| {
                let stays = mine.contains(shard);
                if !stays {
                    task.abort();
                }
                stays
            });
            for shard in mine {
                running.entry(shard).or_insert_with(|| {
                    let (member, work) = (self.clone(), work.clone());
                    tasks.spawn(async move { member.own(shard, &*work).await })
                });
            }
        }
    }

    /// Owns a shard, again and again, until the task is ended: waits until whoever had the shard
    /// has let it go, and runs its work as long as it is held. It returns what ends all.
    async fn own<W, F>(&self, shard: usize, work: &W) -> Result<()>
    where
        W: Fn(Shard) -> F,
        F: Future<Output = ()>,
    {
        let (name, mut backoff) = (below(&self.name, &format!("shards/{shard}"))?, backoff());
        loop {
            let lock = self.kv.new_lock(&name).ttl(self.ttl).value(&self.is.name);
            let guard = match lock.acquire().await {
                Ok(guard) => guard,
                Err(e) if ends(&e) => return Err(e),
                Err(_) => {
                    backoff.pause().await;
                    continue;
                }
            };
            let runs = async {
                work(Shard { id: shard, fence: guard.fence().clone() }).await;
                std::future::pending::<()>().await; // it stays this member's, without work
            };
            drop(until_lost(|| guard.is_held(), guard.lost(), runs).await);
            drop(guard);
            backoff.pause().await;
        }
    }
}
