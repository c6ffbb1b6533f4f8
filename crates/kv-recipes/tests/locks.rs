//! Read-write locks, and several locks at once.

mod common;

use common::{S, pair, polled, until};
use kv_core::{Error, ErrorKind, Kv, Result};
use kv_memory::Calls;
use kv_recipes::{Locks, RwLock, lock_all};
use std::sync::{
    Arc,
    atomic::{AtomicI32, Ordering::SeqCst},
};

fn schema(kv: &Kv) -> RwLock {
    RwLock::new(kv, "schema").ttl(9 * S)
}

#[tokio::test(start_paused = true)]
async fn many_read_or_one_writes() -> Result<()> {
    let (p, state) = (pair().await, Arc::new(AtomicI32::new(0)));
    let users: Vec<_> = (0..60)
        .map(|n| {
            let lock = schema(if n % 2 == 0 { &p.kv } else { &p.other });
            let state = state.clone();
            tokio::spawn(async move {
                if n % 5 == 0 {
                    let writer = lock.write().await?;
                    assert_eq!(state.swap(-1, SeqCst), 0, "a writer is alone");
                    tokio::time::sleep(S).await;
                    assert_eq!(state.swap(0, SeqCst), -1, "nobody came in meanwhile");
                    assert!(writer.release().await?);
                } else {
                    let reader = lock.read().await?;
                    assert!(state.fetch_add(1, SeqCst) >= 0, "nobody writes while one reads");
                    tokio::time::sleep(S).await;
                    assert!(state.fetch_sub(1, SeqCst) > 0);
                    assert!(reader.release().await?);
                }
                Ok::<_, Error>(())
            })
        })
        .collect();
    for user in users {
        user.await.unwrap()?;
    }
    p.only_left(&[]).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_waits_is_not_overtaken_by_readers() -> Result<()> {
    let p = pair().await;
    let reader = schema(&p.kv).read().await?;
    let spawned = |writes: bool| {
        let lock = schema(&p.other);
        tokio::spawn(async move {
            match writes {
                true => lock.write().await.map(|guard| guard.token()),
                false => lock.read().await.map(|permit| permit.token()),
            }
        })
    };
    let writer = spawned(true);
    tokio::time::sleep(S).await;
    let late = spawned(false);
    tokio::time::sleep(60 * S).await;
    assert!(!writer.is_finished() && !late.is_finished());
    assert!(schema(&p.kv).try_read().await?.is_none() && schema(&p.kv).try_write().await?.is_none());
    reader.release().await?;
    assert!(writer.await.unwrap()? < late.await.unwrap()?);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn who_is_cut_off_loses_the_share_and_late_writes_are_refused() -> Result<()> {
    let p = pair().await;
    let reader = schema(&p.kv).read().await?;
    let late = p.kv.transact().when(reader.condition()).then(p.kv.put("data", "late"));
    p.faults.pause();
    let writer = schema(&p.other).write().await?;
    assert!(!reader.is_held(), "it knew before the writer was in");
    p.faults.resume();
    assert!(!late.await?.is_committed());
    writer.release().await?;

    let writer = schema(&p.kv).write().await?;
    p.faults.pause();
    let reader = schema(&p.other).read().await?;
    assert!(!writer.is_held());
    p.faults.resume();
    assert_eq!(p.kv.put("data", "late").fenced(&writer).await.unwrap_err().kind(), ErrorKind::LockLost);
    assert!(reader.is_held());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_lost_let_nobody_in_beside_a_writer() -> Result<()> {
    for (lost, done) in (0..6).flat_map(|lost| [(lost, true), (lost, false)]) {
        let p = pair().await;
        let plan = || match done {
            true => p.faults.lose_answers(lost),
            false => p.faults.fail(Calls::Writes, ErrorKind::OutcomeUnknown, lost),
        };
        plan();
        let reader = schema(&p.kv).read().await?;
        let readers = p.other.list("schema/readers").await?;
        assert!(readers.iter().any(|entry| entry.key == *reader.key()), "{lost} {done}");
        assert!(schema(&p.other).try_write().await?.is_none());
        reader.release().await?;
        p.faults.clear();
        plan();
        let writer = schema(&p.kv).write().await?;
        assert!(p.other.list("schema/readers").await?.is_empty());
        assert!(schema(&p.other).try_read().await?.is_none());
        writer.release().await?;
        p.only_left(&[]).await;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_acquisition_that_is_dropped_at_any_poll_leaves_nothing() -> Result<()> {
    for writes in [false, true] {
        for polls in 1.. {
            assert!(polls < 1000);
            let p = pair().await;
            let held = schema(&p.other).write().await?;
            tokio::spawn(async move {
                tokio::time::sleep(S).await;
                held.release().await
            });
            p.faults.lose_answers(2);
            let lock = schema(&p.kv);
            let is_done = match writes {
                true => polled(lock.write(), polls).await.transpose()?.is_some(),
                false => polled(Box::pin(lock.read()), polls).await.transpose()?.is_some(),
            };
            tokio::time::sleep(2 * S).await;
            p.only_left(&[]).await;
            if is_done {
                break;
            }
        }
    }
    Ok(())
}

fn both(kv: &Kv, names: [&str; 2]) -> kv_recipes::LockAll {
    lock_all(kv, names).ttl(9 * S).value("mine")
}

#[tokio::test(start_paused = true)]
async fn opposite_orders_do_not_wait_for_each_other() -> Result<()> {
    let (p, inside) = (pair().await, Arc::new(AtomicI32::new(0)));
    let users: Vec<_> = (0..40)
        .map(|n| {
            let names = if n % 2 == 0 { ["a", "b"] } else { ["b", "a"] };
            let all = both(if n % 3 == 0 { &p.kv } else { &p.other }, names);
            let inside = inside.clone();
            tokio::spawn(async move {
                let locks = all.acquire().await?;
                assert_eq!(inside.fetch_add(1, SeqCst), 0, "one has both");
                tokio::time::sleep(S).await;
                inside.fetch_sub(1, SeqCst);
                assert!(locks.release().await?);
                Ok::<_, Error>(())
            })
        })
        .collect();
    for user in users {
        user.await.unwrap()?;
    }
    p.only_left(&[]).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn all_are_lost_when_one_is() -> Result<()> {
    let p = pair().await;
    let locks: Locks = both(&p.kv, ["b", "a"]).acquire().await?;
    assert_eq!(locks.guards().iter().map(|guard| guard.name().as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let late = locks.transact().then(p.kv.put("data", "late"));
    p.faults.evict_lock("b")?;
    assert!(!locks.is_held() && locks.remaining().is_zero());
    assert_eq!(locks.lost().await.kind(), ErrorKind::LockLost);
    let work = locks.while_held(std::future::pending::<Result<()>>());
    assert_eq!(work.await.unwrap_err().kind(), ErrorKind::LockLost);
    assert!(!late.await?.is_committed());
    assert!(!locks.release().await?, "not all were held");
    p.only_left(&[]).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn one_that_is_lost_while_the_others_are_waited_for_is_acquired_anew() -> Result<()> {
    let p = pair().await;
    let b = p.other.new_lock("b").acquire().await?;
    let waits = tokio::spawn({
        let all = both(&p.kv, ["a", "b"]);
        async move { all.acquire().await }
    });
    until("it has the first", async || p.other.lock_holder("a").await.unwrap().is_some()).await;
    p.faults.evict_lock("a")?;
    until("it has the first again", async || p.other.lock_holder("a").await.unwrap().is_some()).await;
    assert!(!waits.is_finished());
    b.release().await?;
    assert!(waits.await.unwrap()?.is_held());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn giving_back_takes_the_time_of_one_also_when_the_server_is_away() -> Result<()> {
    let p = pair().await;
    let many = lock_all(&p.kv, (0..9).map(|n| format!("l{n}"))).ttl(60 * S);
    let locks = many.acquire().await?;
    p.faults.pause();
    let began = tokio::time::Instant::now();
    assert!(locks.release().await.is_err());
    assert!(began.elapsed() < 6 * S, "{:?}", began.elapsed());
    p.faults.resume();
    assert!(many.acquire().await?.release().await?);
    p.only_left(&[]).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn none_is_left_behind() -> Result<()> {
    let p = pair().await;
    let b = p.other.new_lock("b").acquire().await?;
    assert!(both(&p.kv, ["a", "b"]).try_acquire().await?.is_none());
    assert!(p.other.lock_holder("a").await?.is_none());
    assert!(tokio::time::timeout(S, both(&p.kv, ["a", "b"]).acquire()).await.is_err());
    until("it is given back", async || p.other.lock_holder("a").await.unwrap().is_none()).await;
    b.release().await?;
    for polls in 1..50 {
        p.faults.lose_answers(2);
        drop(polled(both(&p.kv, ["a", "b"]).acquire(), polls).await);
        p.faults.clear();
        p.only_left(&[]).await;
    }
    let twice = both(&p.kv, ["a", "/a/"]).acquire().await.unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::InvalidArgument);
    let none = lock_all::<&str>(&p.kv, []).acquire().await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::InvalidArgument);
    assert_eq!(both(&p.kv, ["a", ".."]).acquire().await.unwrap_err().kind(), ErrorKind::InvalidKey);
    Ok(())
}
