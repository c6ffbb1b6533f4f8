//! Requests that hang on their way, and arrive behind others that went by another connection.

mod common;

use common::{
    config,
    front::{Front, Trouble, behind_front_and_beside},
    single,
};
use kv_core::{ErrorKind, Guard, Kv, backend::Clock};
use kv_testsuite::{Failure, Proxy};
use std::{
    future::IntoFuture,
    time::{Duration, Instant},
};

const TABLE: &str = "late";
const MINUTE: Duration = Duration::from_secs(60);
const TTL: Duration = Duration::from_secs(6);
const SOON: Duration = Duration::from_millis(20);

/// Asks for 1.2 seconds, until the client knows the service's time as narrowly as it can: a new
/// second of the service's dates has begun by then.
async fn knows_the_time(kv: &Kv) -> Result<(), Failure> {
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1200) {
        kv.health().await?;
        tokio::time::sleep(SOON).await;
    }
    Ok(())
}

/// Checks for this time that nobody else gets the lock while it is held.
async fn assert_exclusive(guard: &Guard, other: &Kv, time: Duration) -> Result<(), Failure> {
    let began = Instant::now();
    while began.elapsed() < time {
        let got = other.new_lock("l").try_acquire().await?;
        assert!(got.is_none() || !guard.is_held(), "two hold it after {:?}", began.elapsed());
        tokio::time::sleep(SOON).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_renewal_ends_no_lock() -> Result<(), Failure> {
    let (_node, front, kv, other) = behind_front_and_beside(TABLE).await?;
    knows_the_time(&kv).await?;
    let guard = kv.new_lock("l").ttl(TTL).acquire().await?;
    front.trouble("UpdateItem", Trouble::Late(TTL + Duration::from_secs(2)), 1);
    assert_exclusive(&guard, &other, TTL * 2).await?;
    assert!(guard.is_held() && guard.release().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_renewal_ends_no_lease() -> Result<(), Failure> {
    let (_node, front, kv, other) = behind_front_and_beside(TABLE).await?;
    knows_the_time(&kv).await?;
    let lease = kv.lease(TTL).await?;
    kv.put("a", "").lease(&lease).await?;
    front.trouble("TransactWriteItems", Trouble::Late(TTL + Duration::from_secs(2)), 1);
    let began = Instant::now();
    while began.elapsed() < TTL * 2 {
        assert!(other.exists("a").await?, "it ended after {:?}", began.elapsed());
        // A key that is put under the lease at any time has the number with which later renewals
        // are compared.
        kv.put("b", "").lease(&lease).await?;
        assert!(other.exists("b").await?, "it ended after {:?}", began.elapsed());
        tokio::time::sleep(SOON).await;
    }
    assert!(lease.is_held() && lease.revoke().await?);
    assert!(!other.exists("a").await? && !other.exists("b").await?);
    Ok(())
}

/// A contender's first request, which was not answered in time, gives it the lock later: the TTL
/// counts from that request.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_a_late_request_got_is_counted_from_that_request() -> Result<(), Failure> {
    let (_node, front, kv, other) = behind_front_and_beside(TABLE).await?;
    knows_the_time(&kv).await?;
    let first = kv.new_lock("l").ttl(MINUTE).acquire().await?;
    front.counted();
    let late = |seconds| Trouble::Late(Duration::from_secs_f64(seconds));
    // These are for the contender's first request, its repeat, the release, and the contender's
    // next request.
    for trouble in [late(4.5), late(0.0), late(0.0), late(1.5)] {
        front.trouble("UpdateItem", trouble, 1);
    }
    let began = Instant::now();
    let wait = tokio::spawn(kv.new_lock("l").ttl(TTL).acquire());
    tokio::time::sleep_until((began + Duration::from_secs_f64(3.8)).into()).await;
    assert!(first.release().await?);
    let guard = wait.await??;
    front.trouble("UpdateItem", Trouble::Refused(400, "ThrottlingException"), 1000);
    assert_exclusive(&guard, &other, TTL * 2).await
}

/// A transaction is not `Refused` while its first request, whose repeat was refused, is still on
/// its way.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_not_refused_while_it_may_be_done() -> Result<(), Failure> {
    let (_node, front, kv, other) = behind_front_and_beside(TABLE).await?;
    kv.put("k", "").await?;
    front.trouble("TransactWriteItems", Trouble::Late(Duration::from_secs(4)), 1);
    let began = Instant::now();
    let answer = kv.transact().when_missing("k").then(kv.put("x", "")).await;
    other.delete("k").await?;
    let is_unknown = matches!(&answer, Err(e) if e.kind() == ErrorKind::OutcomeUnknown);
    while began.elapsed() < Duration::from_secs(6) && !is_unknown {
        assert!(!other.exists("x").await?, "it was told {answer:?}, and done");
        tokio::time::sleep(SOON).await;
    }
    Ok(())
}

/// The service knows a repeat by its token, but only for a while.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_not_repeated_when_its_token_may_be_forgotten() -> Result<(), Failure> {
    let (node, clock) = (single().await?, Clock::manual());
    let front = Front::new(node.address).await?;
    let kv = config(front.address, TABLE).create(true).clock(clock.clone()).open().await?;
    front.counted();
    front.trouble("TransactWriteItems", Trouble::Late(Duration::from_secs(4)), 1);
    let transact = tokio::spawn({
        let kv = kv.clone();
        async move { kv.transact().then(kv.put("a", "")).await }
    });
    while front.counted().is_empty() {
        tokio::time::sleep(SOON).await;
    }
    clock.advance(Duration::from_secs(6 * 60));
    let e = transact.await?.expect_err("its answer came too late");
    assert_eq!(e.kind(), ErrorKind::OutcomeUnknown, "{e}");
    assert_eq!(front.counted(), [], "it was sent once");
    Ok(())
}

/// Revoking a large lease does not hold up locks.
#[tokio::test(flavor = "multi_thread")]
async fn locks_are_kept_while_a_large_lease_is_revoked() -> Result<(), Failure> {
    let (_node, front, kv, other) = behind_front_and_beside(TABLE).await?;
    // The deletions take half of the usual deadline where nothing else runs.
    let lease = kv.lease(MINUTE).deadline(MINUTE).await?;
    let puts = (0..400).map(|n| kv.put(format!("d/{n}"), "").lease(&lease).deadline(MINUTE).into_future());
    futures::future::try_join_all(puts).await?;
    let guard = kv.new_lock("l").ttl(Duration::from_secs(8)).acquire().await?;
    front.trouble("DeleteItem", Trouble::Late(Duration::from_millis(600)), 100_000);
    let revoked = lease.revoke().await;
    assert!(guard.is_held(), "its renewals stood in line behind the deletions");
    assert!(revoked?);
    assert!(other.list("d").await?.is_empty());
    Ok(())
}

/// A renewal that an outage held up passes by a put that is under way; the next renewal comes
/// after the end that was put.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_a_renewal_passes_by_lives_with_its_lease() -> Result<(), Failure> {
    let (_node, front, kv, other) = behind_front_and_beside(TABLE).await?;
    knows_the_time(&kv).await?;
    let (began, ttl) = (Instant::now(), Duration::from_secs(20));
    let lease = kv.lease(ttl).await?;
    kv.put("a", "").lease(&lease).await?;
    front.trouble("TransactWriteItems", Trouble::Refused(400, "ThrottlingException"), 100_000);
    // A renewal is tried for a fifth of the TTL: two of them have failed, and the third begins soon.
    tokio::time::sleep_until((began + Duration::from_secs(15)).into()).await;
    front.no_more_trouble();
    front.trouble("PutItem", Trouble::Late(Duration::from_secs(3)), 1);
    kv.put("late", "").lease(&lease).deadline(MINUTE).await?;
    while began.elapsed() < ttl + Duration::from_secs(5) {
        assert!(lease.is_held() && other.exists("a").await?);
        assert!(other.exists("late").await?, "it ended after {:?}", began.elapsed());
        tokio::time::sleep(SOON).await;
    }
    Ok(())
}

/// The owner's own knowledge of the service's time is less than a second wide, and others may know
/// it better.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_saw_end_is_not_said_to_have_been_alive_at_its_revocation() -> Result<(), Failure> {
    let node = single().await?;
    let proxy = Proxy::start(node.address).await;
    let kv = config(proxy.address(), TABLE).create(true).open().await?;
    let other = node.config(TABLE).open().await?;
    for _ in 0..4 {
        let lease = kv.lease(Duration::from_secs(2)).await?;
        kv.put("member", "").lease(&lease).await?;
        proxy.cut().await;
        while other.exists("member").await? {
            tokio::time::sleep(SOON).await;
        }
        proxy.heal().await;
        let revoked = lease.revoke().await;
        assert!(!matches!(revoked, Ok(true)), "others saw its end; it said {revoked:?}");
    }
    Ok(())
}

/// Waits until this moment after `began`, and returns who holds the lock then.
async fn holder_after(kv: &Kv, began: Instant, seconds: u64) -> Result<Option<kv_core::Holder>, Failure> {
    tokio::time::sleep_until((began + Duration::from_secs(seconds)).into()).await;
    Ok(kv.lock_holder("l").await?)
}

/// The first request of a contender that heard from the repeat that another holds the lock
/// arrives when the lock is free: nobody would have it.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_request_takes_no_lock_for_who_was_told_that_another_has_it() -> Result<(), Failure> {
    let (_node, front, kv, other) = behind_front_and_beside(TABLE).await?;
    let held = other.new_lock("l").ttl(MINUTE).acquire().await?;
    front.trouble("UpdateItem", Trouble::Late(Duration::from_secs(4)), 1);
    let began = Instant::now();
    assert!(kv.new_lock("l").ttl(MINUTE).try_acquire().await?.is_none());
    tokio::time::sleep_until((began + Duration::from_secs(3)).into()).await;
    assert!(held.release().await?);
    assert_eq!(holder_after(&other, began, 6).await?, None, "nobody has it");
    assert!(other.new_lock("l").try_acquire().await?.is_some());
    Ok(())
}

/// The same, where the contender waits, and gives up before its request arrives.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_request_takes_no_lock_for_who_has_given_up() -> Result<(), Failure> {
    let (_node, front, kv, other) = behind_front_and_beside(TABLE).await?;
    let held = other.new_lock("l").ttl(MINUTE).acquire().await?;
    front.trouble("UpdateItem", Trouble::Late(Duration::from_secs(4)), 1);
    let began = Instant::now();
    let waits = kv.new_lock("l").ttl(MINUTE).acquire();
    assert!(tokio::time::timeout(Duration::from_secs(3), waits).await.is_err());
    assert!(held.release().await?);
    assert_eq!(holder_after(&other, began, 6).await?, None, "nobody has it");
    Ok(())
}

/// The same, where no answer came in time.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_request_takes_no_lock_for_who_heard_no_answer() -> Result<(), Failure> {
    let (_node, front, kv, other) = behind_front_and_beside(TABLE).await?;
    front.trouble("UpdateItem", Trouble::Late(Duration::from_secs(3)), 6);
    let began = Instant::now();
    let asks = kv.new_lock("l").ttl(MINUTE).deadline(Duration::from_secs(1)).try_acquire();
    assert_eq!(asks.await.expect_err("no answer came").kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(holder_after(&other, began, 7).await?, None, "nobody has it");
    // What was made sure of is not asked for again and again.
    front.counted();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(front.counted(), []);
    Ok(())
}

/// Of two requests the first gets the lock, and the second arrives when it is given back.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_request_takes_no_lock_that_was_given_back() -> Result<(), Failure> {
    let (_node, front, kv, other) = behind_front_and_beside(TABLE).await?;
    front.trouble("UpdateItem", Trouble::Lost, 1);
    front.trouble("UpdateItem", Trouble::Late(Duration::from_secs(8)), 1);
    let began = Instant::now();
    let guard = kv.new_lock("l").ttl(MINUTE).try_acquire().await?.ok_or("it is free")?;
    assert!(guard.release().await?);
    assert!(began.elapsed() < Duration::from_secs(8), "the second request has arrived");
    assert_eq!(holder_after(&other, began, 10).await?, None, "nobody has it");
    Ok(())
}

/// The first request of a release is still on its way while an operator breaks the lock: the repeat
/// finds nothing, as it would behind the first.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_does_not_claim_a_lock_that_was_broken() -> Result<(), Failure> {
    let (_node, front, kv, other) = behind_front_and_beside(TABLE).await?;
    let guard = kv.new_lock("l").ttl(MINUTE).acquire().await?;
    let token = guard.token();
    front.trouble("UpdateItem", Trouble::Late(Duration::from_secs(4)), 1);
    let (released, broken) = tokio::join!(guard.release(), other.break_lock("l").token(token).into_future());
    assert!(broken?);
    match released {
        Err(e) if e.kind() == ErrorKind::OutcomeUnknown => {}
        released => assert!(!released?, "it was broken"),
    }
    Ok(())
}

/// An answer that comes late tells what was there when it was asked for, and not that it has ended
/// since: it may have been renewed.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_answer_ends_nothing() -> Result<(), Failure> {
    let (_node, front, kv, other) = behind_front_and_beside(TABLE).await?;
    let ttl = Duration::from_secs(8);
    let lease = other.lease(ttl).await?;
    other.put("a", "").lease(&lease).await?;
    let guard = other.new_lock("l").ttl(ttl).acquire().await?;
    let held = Trouble::Held(ttl + Duration::from_secs(5));
    for operation in ["GetItem", "GetItem", "GetItem", "BatchGetItem", "Query"] {
        front.trouble(operation, held.clone(), 1);
    }
    let (get, exists, holder, many, list) = tokio::try_join!(
        kv.get("a").deadline(MINUTE).into_future(),
        kv.exists("a").deadline(MINUTE).into_future(),
        kv.lock_holder("l").deadline(MINUTE).into_future(),
        kv.get_many(["a"]).deadline(MINUTE).into_future(),
        kv.list("").deadline(MINUTE).into_future(),
    )?;
    assert!(get.is_some() && exists && many[0].is_some() && list.len() == 1, "the lease lives");
    assert_eq!(holder.map(|holder| holder.token), Some(guard.token()));
    assert!(lease.is_held() && guard.is_held());
    // What was given back before its end is not said to have ended before.
    let guard = kv.new_lock("m").ttl(ttl).deadline(MINUTE).acquire().await?;
    front.trouble("UpdateItem", held, 1);
    let released = guard.release().await;
    assert!(!matches!(released, Ok(false)), "it was held, and {released:?} was told");
    Ok(())
}
