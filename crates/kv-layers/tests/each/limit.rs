//! `Limit` has calls wait for their turn, and nothing that keeps a lock.

use crate::below::{Below, SLOW};
use futures::{
    StreamExt,
    future::join_all,
    poll,
    stream::{self, FuturesUnordered},
};
use kv_core::{ErrorKind, Kv, Result, backend::Clock};
use kv_layers::Limit;
use std::{pin::pin, time::Duration};

async fn limited(limit: Limit) -> Result<(Kv, Below)> {
    let below = Below::new();
    let kv = kv_memory::Config::new().clock(Clock::tokio()).open().await?;
    Ok((kv.layer(below.clone()).layer(limit), below))
}

#[tokio::test]
async fn so_many_writes_are_under_way_and_no_more() -> Result<()> {
    let (kv, below) = limited(Limit::new().writes(3)).await?;
    let mut puts: FuturesUnordered<_> = (0..10).map(|_| kv.put(SLOW, "").into_future()).collect();
    assert!(poll!(puts.next()).is_pending());
    assert_eq!(below.waiting(), 3);
    kv.get("a").await?; // reads are another class, and not limited
    for _ in 0..10 {
        below.go();
    }
    while let Some(put) = puts.next().await {
        put?;
    }
    assert_eq!((below.most(), below.waiting()), (3, 0));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_write_that_had_no_turn_was_not_sent() -> Result<()> {
    let (kv, below) = limited(Limit::new().writes(1)).await?;
    let mut slow = pin!(kv.put(SLOW, "").deadline(Duration::from_secs(60)).into_future());
    assert!(poll!(slow.as_mut()).is_pending());
    let late = kv.put("a", "1").deadline(Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
    for part in ["1 writes", "`Limit`", "nothing was sent"] {
        assert!(late.to_string().contains(part), "{late} says {part:?}");
    }
    below.go();
    slow.await?;
    kv.put("a", "1").await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_lock_and_a_lease_outlive_a_flood_of_calls() -> Result<()> {
    let ttl = Duration::from_secs(3);
    let (kv, below) = limited(Limit::new().reads(1).writes(1).watches(1)).await?;
    let (guard, lease) = (kv.new_lock("l").ttl(ttl).acquire().await?, kv.lease(ttl).await?);
    let waiter = tokio::spawn(kv.new_lock("l").acquire());
    let flood = (0..50).map(|_| kv.put(SLOW, "").deadline(Duration::from_secs(3600)).into_future());
    let flood = tokio::spawn(join_all(flood.collect::<Vec<_>>()));
    tokio::time::sleep(20 * ttl).await;
    assert_eq!(below.waiting(), 1, "the flood holds the one permit");
    assert!(guard.is_held() && lease.is_held(), "renewals took no permit");
    assert!(lease.revoke().await? && guard.release().await?, "nor did these");
    assert!(waiter.await.expect("it does not panic")?.is_held(), "nor did a wait in line");
    flood.abort();
    Ok(())
}

#[tokio::test]
async fn calls_that_are_dropped_leave_their_places() -> Result<()> {
    let (kv, below) = limited(Limit::new().writes(1)).await?;
    for _ in 0..10 {
        let (mut first, mut second) =
            (Box::pin(kv.put(SLOW, "").into_future()), Box::pin(kv.put("a", "").into_future()));
        assert!(poll!(first.as_mut()).is_pending() && poll!(second.as_mut()).is_pending());
        drop(second);
        drop(first);
    }
    kv.put("a", "1").await?;
    assert_eq!(below.waiting(), 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn reads_that_nobody_polls_hold_up_no_other_one() -> Result<()> {
    for most in [1, 2, 16] {
        let (kv, _) = limited(Limit::new().reads(most)).await?;
        let mut begun: Vec<_> = (0..64).map(|_| Box::pin(kv.get(SLOW).into_future())).collect();
        for get in &mut begun {
            assert!(poll!(get.as_mut()).is_pending());
        }
        kv.get("a").await?;
        kv.get_many(["a", "b"]).await?;
        kv.get(SLOW).await?;
        for get in begun {
            get.await?;
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_reads_leaves_turns_to_the_body_of_its_loop() -> Result<()> {
    let (kv, _) = limited(Limit::new().reads(16)).await?;
    let gets = (0..200).map(|_| kv.get(SLOW).into_future());
    let mut gets = stream::iter(gets).buffer_unordered(64);
    while let Some(got) = gets.next().await {
        got?;
        kv.get(SLOW).await?;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn writes_that_nobody_polls_hold_up_no_other_one_and_the_limit_stays() -> Result<()> {
    for most in [1, 4] {
        let (kv, below) = limited(Limit::new().writes(most)).await?;
        let mut begun: Vec<_> = (0..10).map(|_| Box::pin(kv.put(SLOW, "").into_future())).collect();
        for put in &mut begun {
            assert!(poll!(put.as_mut()).is_pending());
        }
        assert_eq!(below.waiting(), most);
        for _ in 0..10 {
            below.go();
        }
        kv.put("a", "1").await?;
        kv.delete("a").await?;
        for put in begun {
            put.await?;
        }
        assert_eq!((below.most(), below.waiting()), (most, 0));
    }
    Ok(())
}

#[tokio::test]
async fn a_watch_holds_its_permit_as_long_as_it_lives() -> Result<()> {
    let (kv, _) = limited(Limit::new().watches(2)).await?;
    let (first, mut second) = (kv.watch("a").await?, kv.watch_tree("d").await?);
    second.event().await?;
    let third = kv.watch("b").deadline(Duration::from_millis(20)).await;
    assert_eq!(third.unwrap_err().kind(), ErrorKind::Timeout);
    drop(first);
    drop(kv.watch("b").await?);
    drop(second);
    let _both = (kv.watch("b").await?, kv.watch("c").await?);
    Ok(())
}
