//! Stores that offer less: what a recipe needs of them is asked before anything is sent.

mod common;

use common::{S, layer::Layer};
use kv_core::{Capabilities, Error, ErrorKind, Kv, Locking, Result, TtlRange, Watching};
use kv_memory::Memory;
use kv_recipes::{
    Barrier, Counter, DoubleBarrier, Effects, Election, Group, IdBlocks, Once, Registration, RwLock,
    Semaphore, Service, Shards, Ticks, Typed, View, lock_all,
};
use std::{future::ready, sync::atomic::Ordering::SeqCst};

/// Returns the answers of recipes that write under a lock.
async fn fenced(kv: &Kv) -> Vec<(&'static str, Result<()>)> {
    let election = || Election::new(kv, "election");
    let once = |effects: Effects| ready(Ok::<_, Error>(effects));
    vec![
        ("campaign", election().campaign().await.map(drop)),
        ("campaign with a priority", election().priority(1).campaign().await.map(drop)),
        ("lead", election().lead(|_| ready(Ok::<_, Error>(()))).await),
        ("observe", election().observe().await.map(drop)),
        ("leader", election().leader().await.map(drop)),
        ("once", Once::new(kv, "once").run(once).await.map(drop)),
        ("ticks", Err(Ticks::every(kv, "ticks", S).run(|_| ready(())).await)),
        ("semaphore", Semaphore::new(kv, "semaphore", 1).acquire().await.map(drop)),
        ("semaphore, at once", Semaphore::new(kv, "semaphore", 1).try_acquire().await.map(drop)),
        ("read", RwLock::new(kv, "rwlock").read().await.map(drop)),
        ("write", RwLock::new(kv, "rwlock").try_write().await.map(drop)),
        ("shards", Err(Shards::new(kv, "shards", 1).run(|_| ready(())).await)),
    ]
}

/// Returns the answers of the others, which need leases, watches, locks or transactions.
async fn others(kv: &Kv) -> Vec<(&'static str, Result<()>)> {
    vec![
        ("registration", Registration::new(kv, "registration").register().await.map(drop)),
        ("service", Service::<u8>::open(kv, "service").await.map(drop)),
        ("group", Group::new(kv, "group").join("a", &1).await.map(drop)),
        ("view", View::raw(kv, "view").await.map(drop)),
        ("typed view", Typed::<u8>::new(kv, "typed").view().await.map(drop)),
        ("counter", Counter::new(kv, "counter").add(1).await.map(drop)),
        ("double barrier", DoubleBarrier::new(kv, "double", 1).enter().await.map(drop)),
        ("barrier", Barrier::new(kv, "barrier").wait().await),
        ("lock_all", lock_all(kv, ["a", "b"]).acquire().await.map(drop)),
    ]
}

fn assert_refused(answers: Vec<(&'static str, Result<()>)>) {
    for (what, answer) in answers {
        let e = answer.expect_err(what);
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{what}: {e}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_store_lacks_is_refused_before_anything_is_sent() -> Result<()> {
    let memory = Memory::new();
    let mut can = Capabilities::new("poor");
    can.watch = Watching::Unsupported;
    let (poor, calls) = Layer::poor(&memory, can);
    assert_refused(Box::pin(fenced(&poor)).await);
    assert_refused(Box::pin(others(&poor)).await);
    assert_eq!(calls.load(SeqCst), 0);

    // What needs nothing works.
    let barrier = Barrier::new(&poor, "barrier");
    barrier.raise().await?;
    assert!(barrier.is_raised().await?);
    assert_eq!(IdBlocks::new(&poor, "ids").next().await?, 1);
    let typed: Typed<u8> = Typed::new(&poor, "typed");
    typed.put("a", &7).await?;
    assert_eq!(typed.list().await?.len(), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn writes_that_cannot_depend_on_a_lock_are_refused_before_anything_is_sent() {
    let memory = Memory::new();
    let range = TtlRange::new(S, 60 * S);
    for (fenced_writes, max_txn_ops) in [(false, 100), (true, 0), (true, 2)] {
        let mut can = Capabilities::new("poor");
        let mut locking = Locking::new(range.clone());
        locking.fenced_writes = fenced_writes;
        (can.lock, can.lease, can.max_txn_ops) = (Some(locking), Some(range.clone()), max_txn_ops);
        (can.ttl, can.max_txn_bytes) = (Some(range.clone()), 1 << 20);
        let (poor, calls) = Layer::poor(&memory, can);
        assert_refused(Box::pin(fenced(&poor)).await);
        assert_eq!(calls.load(SeqCst), 0);
    }
}
