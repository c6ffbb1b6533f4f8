//! Semaphores.

mod common;

use common::{Pair, S, pair, polled, until};
use kv_core::{Error, ErrorKind, Kv, Result};
use kv_memory::{Calls, Memory};
use kv_recipes::Semaphore;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

const LIMIT: [&str; 1] = ["render/limit"];

fn semaphore(kv: &Kv, permits: usize) -> Semaphore {
    Semaphore::new(kv, "render", permits).ttl(9 * S)
}

/// Counts the permits that the store shows.
async fn shown(p: &Pair) -> usize {
    p.other.list("render/slots").await.unwrap().len()
}

/// Waits until the gate, which is given back in the background, is free.
async fn gate_is_free(p: &Pair) {
    until("the gate is free", async || p.other.lock_holder("render").await.unwrap().is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn so_many_are_held_at_once_and_no_more() -> Result<()> {
    let (p, inside) = (pair().await, Arc::new(AtomicUsize::new(0)));
    let mut tokens = Vec::new();
    let users = (0..40).map(|n| {
        let (kv, inside) = (if n % 2 == 0 { &p.kv } else { &p.other }, inside.clone());
        let semaphore = semaphore(kv, 3);
        tokio::spawn(async move {
            let permit = semaphore.acquire().await?;
            assert!(inside.fetch_add(1, SeqCst) < 3, "there are too many");
            tokio::time::sleep(S).await;
            assert!(permit.is_held());
            inside.fetch_sub(1, SeqCst);
            let token = permit.token();
            assert!(permit.release().await?);
            Ok::<_, Error>(token)
        })
    });
    for user in users.collect::<Vec<_>>() {
        tokens.push(user.await.unwrap()?);
    }
    assert!(tokens.is_sorted(), "in the order of asking, with tokens that grow");
    p.only_left(&LIMIT).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_is_paused_loses_its_permit_before_another_has_it() -> Result<()> {
    let p = pair().await;
    let permit = semaphore(&p.kv, 1).acquire().await?;
    let write = p.kv.transact().when(permit.condition()).then(p.kv.put("frame", "late"));
    let next = tokio::spawn({
        let semaphore = semaphore(&p.other, 1);
        async move { semaphore.acquire().await }
    });
    p.faults.pause();
    let work = permit.while_held(std::future::pending::<Result<()>>());
    assert_eq!(work.await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert!(!next.is_finished() && !permit.is_held());
    let next = next.await.unwrap()?;
    assert!(next.token() > permit.token());
    p.faults.resume();
    assert!(!write.await?.is_committed(), "the store refuses what comes late");
    assert!(!permit.release().await?);
    assert!(next.is_held() && shown(&p).await == 1);
    Ok(())
}

#[test]
fn the_permit_of_a_killed_process_is_free_within_its_ttl() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (memory, killed, stays) = (Memory::new(), runtime(), runtime());
    let ttl = Duration::from_secs(5);
    let dead = Semaphore::new(&Kv::new(memory.clone()), "s", 1).ttl(ttl);
    let permit = killed.block_on(dead.acquire()).unwrap();
    drop(killed);
    assert!(!permit.is_held());
    let next = Semaphore::new(&Kv::new(memory.with_prefix("")), "s", 1).ttl(ttl);
    let next = stays.block_on(async { tokio::time::timeout(30 * S, next.acquire()).await });
    assert!(next.unwrap().unwrap().is_held());
}

#[tokio::test(start_paused = true)]
async fn another_number_of_permits_is_refused() -> Result<()> {
    let p = pair().await;
    let one = semaphore(&p.kv, 2).acquire().await?;
    for wrong in [1, 3] {
        let e = semaphore(&p.other, wrong).acquire().await.unwrap_err();
        assert!(e.kind() == ErrorKind::InvalidArgument && e.to_string().contains("render/limit"), "{e}");
        gate_is_free(&p).await;
        let e = semaphore(&p.other, wrong).try_acquire().await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    }
    assert_eq!(semaphore(&p.kv, 0).acquire().await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    one.release().await?;
    p.only_left(&LIMIT).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_is_no_slot_takes_no_permit() -> Result<()> {
    let p = pair().await;
    for junk in ["render/slots/00", "render/slots/+0", "render/slots/x", "render/slots/0/1"] {
        p.other.put(junk, "junk").await?;
    }
    let permit = semaphore(&p.kv, 1).try_acquire().await?.expect("it is free");
    assert_eq!(permit.key().as_str(), "render/slots/0");
    gate_is_free(&p).await;
    p.other.delete("render/slots/00").await?;
    assert!(semaphore(&p.kv, 1).acquire_within(S).await?.is_none(), "it is held");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_lost_cost_no_permit() -> Result<()> {
    for (lost, done) in (0..6).flat_map(|lost| [(lost, true), (lost, false)]) {
        let p = pair().await;
        match done {
            true => p.faults.lose_answers(lost),
            false => p.faults.fail(Calls::Writes, ErrorKind::OutcomeUnknown, lost),
        }
        let first = semaphore(&p.kv, 2).acquire().await?;
        assert_eq!(shown(&p).await, 1, "{lost} {done}");
        p.faults.clear();
        let second = semaphore(&p.kv, 2).acquire().await?;
        until("the gate is given back", async || p.other.lock_holder("render").await.unwrap().is_none())
            .await;
        assert!(semaphore(&p.kv, 2).try_acquire().await?.is_none());
        assert!(semaphore(&p.kv, 2).acquire_within(S).await?.is_none());
        assert!(first.release().await?);
        until("the gate is given back", async || p.other.lock_holder("render").await.unwrap().is_none())
            .await;
        let third = semaphore(&p.kv, 2).try_acquire().await?.expect("one is free");
        assert!(third.is_held() && second.is_held());
        drop((second, third));
        p.only_left(&LIMIT).await;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_waiter_at_the_head_that_is_cut_off_holds_up_the_others_for_one_ttl() -> Result<()> {
    let p = pair().await;
    let held = semaphore(&p.other, 1).acquire().await?;
    let head = tokio::spawn({
        let semaphore = semaphore(&p.kv, 1);
        async move { semaphore.acquire().await }
    });
    tokio::time::sleep(S).await;
    p.faults.pause();
    let began = tokio::time::Instant::now();
    held.release().await?;
    let next = semaphore(&p.other, 1).acquire().await?;
    assert!(began.elapsed() < 10 * S, "{:?}", began.elapsed());
    p.faults.resume();
    tokio::time::sleep(60 * S).await;
    assert!(next.is_held() && !head.is_finished() && shown(&p).await == 1);
    next.release().await?;
    assert!(head.await.unwrap()?.is_held());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_acquisition_that_is_dropped_at_any_poll_leaves_nothing() -> Result<()> {
    for waits in [false, true] {
        for polls in 1.. {
            assert!(polls < 1000);
            let p = pair().await;
            let held = semaphore(&p.other, 1).acquire().await?;
            if !waits {
                held.release().await?;
            } else {
                tokio::spawn(async move {
                    tokio::time::sleep(5 * S).await;
                    held.release().await
                });
            }
            p.faults.lose_answers(2);
            let done = polled(semaphore(&p.kv, 1).acquire(), polls).await.transpose()?;
            let is_done = done.is_some();
            drop(done);
            tokio::time::sleep(6 * S).await;
            p.only_left(&LIMIT).await;
            if is_done {
                break;
            }
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_holder_whose_key_is_deleted_or_replaced_is_told() -> Result<()> {
    for replaces in [false, true] {
        let p = pair().await;
        let permit = semaphore(&p.kv, 1).acquire().await?;
        let lost = permit.lost();
        let work = permit.while_held(std::future::pending::<Result<()>>());
        let taken = async {
            tokio::time::sleep(S).await;
            match replaces {
                true => drop(p.other.put(permit.key(), "another's").await),
                false => drop(p.other.delete(permit.key()).await),
            }
        };
        let ended = tokio::time::timeout(5 * S, async { tokio::join!(work, taken).0 }).await;
        assert_eq!(ended.expect("it ends with the key").unwrap_err().kind(), ErrorKind::LeaseLost);
        assert!(!permit.is_held() && permit.remaining().is_zero());
        let why = tokio::time::timeout(S, lost).await.expect("it is told");
        assert!(why.kind() == ErrorKind::LeaseLost && why.to_string().contains("render/slots/0"), "{why}");
        assert!(!permit.release().await?);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn outages_that_pass_end_no_permit() -> Result<()> {
    let p = pair().await;
    let permit = semaphore(&p.kv, 1).acquire().await?;
    let lost = tokio::spawn(permit.lost());
    for _ in 0..5 {
        p.faults.pause();
        p.faults.cut_watches();
        tokio::time::sleep(2 * S).await;
        p.faults.resume();
        p.faults.fail(Calls::Reads, ErrorKind::Unavailable, 3);
        tokio::time::sleep(10 * S).await;
    }
    assert!(permit.is_held() && !lost.is_finished());
    p.other.delete_tree("render/slots").await?;
    let lost = tokio::time::timeout(10 * S, lost).await.expect("it is told");
    assert_eq!(lost.unwrap().kind(), ErrorKind::LeaseLost);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_wait_whose_time_ends_in_an_outage_gives_the_error() -> Result<()> {
    let p = pair().await;
    let held = semaphore(&p.other, 1).acquire().await?;
    assert!(semaphore(&p.kv, 1).acquire_within(S).await?.is_none(), "it is held");
    use ErrorKind::{Timeout, Unavailable};
    // A watch that has told nothing yet rides its failures out.
    for (calls, kind) in [(Calls::Any, Unavailable), (Calls::Reads, Timeout), (Calls::Writes, Unavailable)] {
        gate_is_free(&p).await;
        p.faults.fail(calls, ErrorKind::Unavailable, 1_000_000);
        let e = semaphore(&p.kv, 1).acquire_within(3 * S).await.expect_err("nobody knows who holds it");
        assert_eq!(e.kind(), kind, "{calls:?}: {e}");
        p.faults.clear();
    }
    // An outage that was over before is none.
    gate_is_free(&p).await;
    p.faults.fail(Calls::Any, ErrorKind::Unavailable, 5);
    assert!(semaphore(&p.kv, 1).acquire_within(20 * S).await?.is_none(), "it is held");
    held.release().await?;
    Ok(())
}
