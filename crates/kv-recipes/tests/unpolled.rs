//! Calls of recipes that nobody polls: others do not wait for them.

use futures::poll;
use kv_core::{ErrorKind, Kv, Result, WatchEvent};
use kv_memory::{Calls, Faults};
use kv_recipes::{Counter, Election, IdBlocks, Leadership, RwLock, Semaphore};
use std::{
    collections::BTreeSet,
    fmt::Debug,
    future::Future,
    pin::{Pin, pin},
    time::Duration,
};

/// Begins work that waits for the store, has the store answer, and lets everybody else run until all
/// of them wait: the work is polled no more.
async fn begin<T>(kv: &Kv, work: Pin<&mut impl Future<Output = Result<T>>>) {
    let faults = Faults::of(kv).expect("a store in memory");
    faults.pause();
    assert!(poll!(work).is_pending(), "it waits for the store");
    faults.resume();
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Begins the first, has the second done before the first is polled again, and returns what both
/// answered.
async fn both<T: Debug>(
    kv: &Kv,
    first: impl Future<Output = Result<T>>,
    second: impl Future<Output = Result<T>>,
) -> Result<(T, T)> {
    let mut first = pin!(first);
    begin(kv, first.as_mut()).await;
    let second = soon(second).await?;
    Ok((first.await?, second))
}

/// Waits for work that no other may hold up.
async fn soon<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("it waits for no other")
}

#[tokio::test]
async fn changes_of_a_counter() -> Result<()> {
    let kv = kv_memory::open("memory://").await?;
    let counter = Counter::new(&kv, "visits");
    assert_eq!(both(&kv, counter.add(1), counter.add(2)).await?, (1, 3));
    Ok(())
}

#[tokio::test]
async fn ids_of_blocks() -> Result<()> {
    let kv = kv_memory::open("memory://").await?;
    let ids = IdBlocks::new(&kv, "ids");
    assert_eq!(both(&kv, ids.next(), ids.next()).await?, (1, 2));
    Ok(())
}

#[tokio::test]
async fn what_a_leader_proclaims_and_whom_it_nominates() -> Result<()> {
    let kv = kv_memory::open("memory://").await?;
    let election = Election::new(&kv, "leader").priority(0);
    let term = election.campaign().await?;
    both(&kv, term.proclaim("one"), term.proclaim("two")).await?;
    assert_eq!(election.leader().await?.expect("a leader").value, "two");
    let candidate = election.clone().candidate("other");
    let waits = tokio::spawn(async move { candidate.campaign().await });
    let within = Duration::from_secs(20);
    while !term.nominate("other", within).await? {}
    assert_eq!(
        both(&kv, term.nominate("other", within), term.nominate("other", within)).await?,
        (true, true)
    );
    waits.abort();
    Ok(())
}

#[tokio::test]
async fn readers() -> Result<()> {
    let kv = kv_memory::open("memory://").await?;
    let lock = RwLock::new(&kv, "schema");
    let (first, second) = both(&kv, lock.read(), lock.read()).await?;
    assert!(first.is_held() && second.is_held());
    let mut tries = pin!(lock.try_read());
    begin(&kv, tries.as_mut()).await;
    let third = soon(lock.read()).await?;
    assert!(third.is_held() && tries.await?.is_some());
    Ok(())
}

#[tokio::test]
async fn a_try_to_write_while_another_reads() -> Result<()> {
    let kv = kv_memory::open("memory://").await?;
    let lock = RwLock::new(&kv, "schema");
    let _reader = lock.read().await?;
    let mut tries = pin!(lock.try_write());
    begin(&kv, tries.as_mut()).await;
    assert!(soon(lock.read()).await?.is_held());
    assert!(tries.await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_writer_that_is_refused() -> Result<()> {
    let kv = kv_memory::open("memory://").await?;
    let (lock, faults) = (RwLock::new(&kv, "schema"), Faults::of(&kv).expect("a store in memory"));
    faults.fail(Calls::Reads, ErrorKind::PermissionDenied, 1);
    let mut writes = pin!(lock.write());
    begin(&kv, writes.as_mut()).await;
    assert!(soon(kv.new_lock("schema").acquire()).await?.is_held());
    assert_eq!(writes.await.map(drop).unwrap_err().kind(), ErrorKind::PermissionDenied);
    Ok(())
}

#[tokio::test]
async fn permits() -> Result<()> {
    let kv = kv_memory::open("memory://").await?;
    let semaphore = Semaphore::new(&kv, "render", 2);
    let (first, second) = both(&kv, semaphore.acquire(), semaphore.acquire()).await?;
    let mut tries = pin!(semaphore.try_acquire());
    begin(&kv, tries.as_mut()).await;
    soon(kv.new_lock("render").acquire()).await?.release().await?;
    assert!(tries.await?.is_none() && first.is_held() && second.is_held());
    Ok(())
}

#[tokio::test]
async fn a_try_for_several_locks_of_which_one_is_held() -> Result<()> {
    let kv = kv_memory::open("memory://").await?;
    let held = kv.new_lock("b").acquire().await?;
    let both = kv_recipes::lock_all(&kv, ["a", "b"]);
    let mut tries = pin!(both.try_acquire());
    begin(&kv, tries.as_mut()).await;
    soon(kv.new_lock("a").acquire()).await?.release().await?;
    assert!(tries.await?.is_none() && held.is_held());
    Ok(())
}

#[tokio::test]
async fn a_wait_for_a_permit_that_is_over() -> Result<()> {
    let kv = kv_memory::open("memory://").await?;
    let semaphore = Semaphore::new(&kv, "render", 1);
    let _held = semaphore.acquire().await?;
    let mut waits = pin!(semaphore.acquire_within(Duration::from_millis(50)));
    assert!(poll!(waits.as_mut()).is_pending(), "another has the permit");
    soon(kv.new_lock("render").acquire()).await?.release().await?;
    assert!(waits.await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_candidate_with_the_greatest_priority() -> Result<()> {
    let kv = kv_memory::open("memory://").await?;
    let election = Election::new(&kv, "leader").priority(1);
    let term = election.clone().candidate("first").campaign().await?;
    let (spare, best) = (election.clone().candidate("spare"), election.clone().candidate("best").priority(9));
    let mut spare = tokio::spawn(async move { spare.campaign().await });
    {
        let mut waits = Box::pin(best.campaign());
        assert!(poll!(waits.as_mut()).is_pending(), "another leads");
        assert_eq!(soon(term.outranked()).await?, "best");
        // It answers the leader, and leads when its turn comes.
        assert!(term.nominate("best", Duration::from_secs(20)).await?);
        let mut leaders = election.observe().await?;
        term.resign().await?;
        let leads = async {
            while !matches!(leaders.next().await?, Leadership::Leader(leader) if leader.candidate == "best") {
            }
            Ok(())
        };
        soon(leads).await?;
    } // dropped, it leaves nothing behind
    let term = soon(async { Ok((&mut spare).await.expect("it ends")) }).await??;
    assert_eq!(term.candidate(), "spare");
    let (mut watch, mut waiting, mut is_known) =
        (kv.watch_tree("leader/candidates").await?, BTreeSet::new(), false);
    while !is_known || !waiting.is_empty() {
        match soon(watch.event()).await? {
            WatchEvent::Put(entry) => drop(waiting.insert(entry.key)),
            WatchEvent::Delete { key, .. } => drop(waiting.remove(&key)),
            WatchEvent::Synced => is_known = true,
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_candidate_without_a_priority() -> Result<()> {
    let kv = kv_memory::open("memory://").await?;
    let election = Election::new(&kv, "leader");
    let mut leaders = election.observe().await?;
    let mut campaigns = pin!(election.campaign());
    begin(&kv, campaigns.as_mut()).await;
    let leads = async {
        while leaders.next().await? == Leadership::Vacant {}
        Ok(())
    };
    soon(leads).await?;
    assert!(campaigns.await?.is_held());
    Ok(())
}
