//! Futures of recipes that are dropped at any await: nothing is left behind but what belongs to the
//! name.

mod common;

use common::{MS, S, pair, polled};
use futures::future::join;
use kv_core::{Error, Kv};
use kv_recipes::{
    Barrier, Counter, DoubleBarrier, Effects, Election, Group, IdBlocks, Once, Registration, RwLock,
    Semaphore, Service, Shard, Shards, Term, Tick, Ticks, Typed, View, lock_all,
};
use std::{
    future::{Future, pending},
    time::Duration,
};

/// The greatest number of polls behind which work is dropped.
const POLLS: usize = 60;
/// The time for which work that waits is left alone, before it is dropped.
const LONG: Duration = Duration::from_secs(5);

/// Drops the work after one poll, after two, and so on, and checks each time that nothing is left
/// but keys of these names; with answers that are lost, and without.
async fn leaves_nothing<F: Future>(names: &[&str], work: impl Fn(Kv) -> F) {
    for (polls, lost) in (1..=POLLS).flat_map(|polls| [(polls, 0), (polls, 2)]) {
        let p = pair().await;
        p.faults.lose_answers(lost);
        // Work that waits is polled when something comes.
        let work = Box::pin(polled(Box::pin(work(p.kv.clone())), polls));
        drop(tokio::time::timeout(LONG, work).await);
        p.faults.clear();
        p.only_left(names).await;
    }
}

#[tokio::test(start_paused = true)]
async fn shards() {
    let run = |kv: Kv| async move {
        let member = |name: &'static str| {
            let (shards, kv) = (Shards::new(&kv, "index", 4).member(name).ttl(9 * S), kv.clone());
            async move {
                let work = move |shard: Shard| {
                    let put = kv.put("data", "1").fenced(&shard);
                    async move {
                        drop(put.await);
                        pending().await
                    }
                };
                shards.run(work).await
            }
        };
        join(member("a"), member("b")).await
    };
    leaves_nothing(&["index/plan", "data"], run).await;
}

#[tokio::test(start_paused = true)]
async fn ticks() {
    let run = |kv: Kv| async move {
        let member = || {
            let (ticks, kv) = (Ticks::every(&kv, "tick", 50 * MS).ttl(9 * S), kv.clone());
            async move {
                let work = |tick: Tick| {
                    let put = kv.put("data", "1").fenced(&tick);
                    async move { drop(put.await) }
                };
                ticks.run(work).await
            }
        };
        join(member(), member()).await
    };
    leaves_nothing(&["tick", "data"], run).await;
}

#[tokio::test(start_paused = true)]
async fn barriers() {
    let waits = |kv: Kv| async move {
        let barrier = Barrier::new(&kv, "barrier");
        barrier.raise().await?;
        barrier.wait().await
    };
    leaves_nothing(&["barrier"], waits).await;
    let lifts = |kv: Kv| async move {
        let barrier = Barrier::new(&kv, "barrier");
        barrier.raise().await?;
        barrier.lift().await?;
        barrier.wait().await
    };
    leaves_nothing(&["barrier"], lifts).await;
}

#[tokio::test(start_paused = true)]
async fn double_barriers() {
    let alone = |kv: Kv| async move { DoubleBarrier::new(&kv, "step", 2).ttl(9 * S).enter().await };
    leaves_nothing(&["step/opened"], alone).await;
    let together = |kv: Kv| async move {
        let step = DoubleBarrier::new(&kv, "step", 2).ttl(9 * S);
        let (a, b) = Box::pin(join(step.enter(), step.enter())).await;
        let (a, b) = (a?, b?);
        let (a, b) = Box::pin(join(a.leave(), b.leave())).await;
        a.and(b)
    };
    leaves_nothing(&["step/opened"], together).await;
}

#[tokio::test(start_paused = true)]
async fn groups_and_registrations() {
    let group = |kv: Kv| async move {
        let workers = Group::new(&kv, "workers").ttl(9 * S);
        let me = workers.join("a", &1).await?;
        me.set(&2).await?;
        me.synced_now().await?;
        me.leave().await
    };
    leaves_nothing(&[], group).await;
    let seen = |kv: Kv| async move {
        let me = Registration::new(&kv, "workers/a").json(&1).ttl(9 * S).register().await?;
        let workers: Service<u32> = Group::new(&kv, "workers").observe().await?;
        workers.synced_now().await?;
        me.set_json(&2).await?;
        me.deregister().await
    };
    leaves_nothing(&[], seen).await;
}

#[tokio::test(start_paused = true)]
async fn ids_and_counters() {
    let ids = |kv: Kv| async move {
        let ids = IdBlocks::new(&kv, "ids").size(2);
        for _ in 0..5 {
            ids.next().await?;
        }
        ids.block(10).await
    };
    leaves_nothing(&["ids"], ids).await;
    let counter = |kv: Kv| async move {
        let hits = Counter::new(&kv, "hits").ttl(9 * S);
        join(hits.add(1), hits.add(2)).await
    };
    leaves_nothing(&["hits"], counter).await;
}

#[tokio::test(start_paused = true)]
async fn what_happens_once() {
    let once = |kv: Kv| async move {
        let put = |effects: Effects| {
            let put = kv.put("made", "1");
            async move { Ok::<_, Error>(effects.then(put)) }
        };
        let once = Once::new(&kv, "once").ttl(9 * S);
        let (a, b) = Box::pin(join(once.run(put), once.run(put))).await;
        a.and(b)
    };
    leaves_nothing(&["once", "made"], once).await;
}

#[tokio::test(start_paused = true)]
async fn elections() {
    let leads = |kv: Kv| async move {
        let election = Election::new(&kv, "leader").ttl(9 * S).priority(1);
        let work = |term: Term| async move {
            term.proclaim("there").await?;
            term.nominate("b", S).await?;
            term.outranked().await
        };
        let mut leaders = election.observe().await?;
        let (a, b) = (election.clone().candidate("a"), election.candidate("b"));
        let observes = async { while leaders.next().await.is_ok() {} };
        let lead = Box::pin(join(a.lead(work), b.lead(work)));
        drop(join(lead, observes).await);
        Ok::<_, Error>(())
    };
    leaves_nothing(&["leader/leader", "leader/nominee"], leads).await;
}

#[tokio::test(start_paused = true)]
async fn permits_and_locks() {
    let permits = |kv: Kv| async move {
        let one = Semaphore::new(&kv, "render", 1).ttl(9 * S);
        let first = one.try_acquire().await?;
        drop(one.acquire_within(S).await?);
        if let Some(first) = first {
            first.release().await?;
        }
        one.acquire().await?.release().await
    };
    leaves_nothing(&["render/limit"], permits).await;
    let shares = |kv: Kv| async move {
        let schema = RwLock::new(&kv, "schema").ttl(9 * S);
        let reader = schema.try_read().await?;
        drop(schema.try_write().await?);
        drop(reader);
        join(schema.write(), schema.read()).await.0
    };
    leaves_nothing(&[], shares).await;
    let several = |kv: Kv| async move {
        let all = lock_all(&kv, ["a", "b"]).ttl(9 * S);
        let held = all.try_acquire().await?;
        drop(lock_all(&kv, ["b", "c"]).try_acquire().await?);
        drop(held);
        all.acquire().await?.release().await
    };
    leaves_nothing(&[], several).await;
}

#[tokio::test(start_paused = true)]
async fn views_and_typed_directories() {
    let view = |kv: Kv| async move {
        let limits: Typed<u32> = Typed::new(&kv, "limits");
        let view: View<u32> = limits.view().check_every(S).await?;
        let written = limits.put("a", &1).await?;
        view.wait_for("a", written.version).await?;
        limits.update("a", |found| Ok(found.unwrap_or(0) + 1)).await?;
        view.synced_now().await?;
        let mut watch = limits.watch().await?;
        watch.event().await?;
        view.changes().next().await.map(drop)
    };
    leaves_nothing(&["limits/a"], view).await;
    let opens = |kv: Kv| async move { View::<u32>::open(&kv, "limits").await };
    leaves_nothing(&[], opens).await;
}
