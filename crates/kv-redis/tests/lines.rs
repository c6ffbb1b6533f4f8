//! Contenders in the queues of locks, and their session.

mod common;

use common::{Node, Reply, Resp, single};
use futures::{TryStreamExt, future::try_join_all, stream::FuturesUnordered};
use kv_core::{Guard, Kv};
use kv_testsuite::{Failure, Proxy, failover::soon};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

/// The deadline of calls: so long that no request is repeated while its answer is held.
const DEADLINE: Duration = Duration::from_secs(40);

async fn opened(at: SocketAddr) -> Result<Kv, Failure> {
    Ok(kv_redis::open(&format!("redis://{at}/lines/")).await?)
}

async fn through(proxy: &Proxy) -> Result<Kv, Failure> {
    let kv = opened(proxy.address()).await?;
    kv.get("a").await?;
    Ok(kv)
}

/// Returns the names that match this pattern, once there are any.
async fn names(resp: &mut Resp, pattern: &str) -> Result<Vec<String>, Failure> {
    soon(pattern, async {
        loop {
            let names = resp.say(&format!("KEYS lines/.kv/{pattern}")).await?.list();
            if !names.is_empty() {
                return Ok(names.iter().map(Reply::text).collect());
            }
        }
    })
    .await?
}

async fn server() -> Result<(Node, Resp), Failure> {
    let node = single("redis").await?;
    let resp = node.resp().await?;
    Ok((node, resp))
}

/// A session that an unanswered request made does not end on the server before a later holder on
/// it believes that it does.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_made_by_an_unanswered_request_lives_as_long_as_its_lock() -> Result<(), Failure> {
    let (node, mut resp) = server().await?;
    let proxy = Proxy::start(node.address).await;
    let kv = through(&proxy).await?.with_deadline(DEADLINE);
    let ttl = Duration::from_secs(6);
    proxy.freeze_answers();
    let unanswered = tokio::spawn(kv.new_lock("first").ttl(ttl).acquire());
    let session = names(&mut resp, "session/*").await?.remove(0);
    unanswered.abort();
    soon("the session to grow old", async {
        while !matches!(resp.say(&format!("PTTL {session}")).await?, Reply::Number(..4000)) {}
        Ok::<_, Failure>(())
    })
    .await??;
    let second = tokio::spawn(kv.new_lock("second").ttl(ttl).acquire());
    names(&mut resp, "lock/second").await?;
    proxy.thaw();
    let guard = soon("the second lock", second).await???;
    let (asked, believed) = (Instant::now(), guard.remaining());
    let Reply::Number(left) = resp.say(&format!("PTTL {session}")).await? else { panic!("no session") };
    let left = Duration::from_millis(left.try_into()?) + asked.elapsed();
    assert!(believed <= left, "held for {believed:?}, and the session ends in {left:?}");
    assert!(guard.release().await?);
    Ok(())
}

/// A contender that waits again goes by the life of the contender in front, not by its own.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_again_hears_in_time_that_the_holder_has_died() -> Result<(), Failure> {
    let (node, mut resp) = server().await?;
    let kv = opened(node.address).await?;
    let long = || kv.new_lock("l").ttl(Duration::from_secs(120));
    let guard = long().acquire().await?;
    let waiting = tokio::spawn(long().acquire());
    soon("the wait to begin", async {
        while resp.say("ZCARD lines/.kv/lock/l").await? != Reply::Number(2) {}
        Ok::<_, Failure>(())
    })
    .await??;
    assert!(guard.release().await?);
    let guard = soon("the lock", waiting).await???;
    assert!(guard.release().await?);

    resp.say("HSET lines/.kv/session/dead open 1").await?;
    resp.say("ZADD lines/.kv/lock/l 1 dead:0").await?;
    resp.ask(&[b"HSET", b"lines/.kv/held/l", b"dead:0", b"0\n"]).await?;
    resp.say("PEXPIRE lines/.kv/session/dead 2000").await?;
    let guard = long().acquire_within(Duration::from_secs(15)).await?;
    assert!(guard.ok_or("the dead one holds it still")?.release().await?);
    Ok(())
}

/// A request that was given up and arrives when the lock is free makes no holder.
#[tokio::test(flavor = "multi_thread")]
async fn a_try_that_arrives_after_its_repeat_was_refused_gets_nothing() -> Result<(), Failure> {
    let (node, mut resp) = server().await?;
    let proxy = Proxy::start(node.address).await;
    let (kv, observer) = (through(&proxy).await?, opened(node.address).await?);
    let ttl = Duration::from_secs(120);
    // This lock keeps the session of the late contender.
    let other = kv.new_lock("other").ttl(ttl).acquire().await?;
    let holder = observer.new_lock("l").ttl(ttl).acquire().await?;
    proxy.strand();
    let tried = kv.new_lock("l").ttl(ttl).deadline(Duration::from_secs(20)).try_acquire().await?;
    assert!(tried.is_none(), "it is held");
    names(&mut resp, "gone/*").await?;
    assert!(holder.release().await?);
    let before = proxy.traffic().to_server;
    proxy.thaw();
    soon("the late one to arrive", async {
        while proxy.traffic().to_server == before {
            tokio::task::yield_now().await;
        }
    })
    .await?;
    // All requests before this read are done.
    kv.get("a").await?;
    let guard = observer.new_lock("l").ttl(ttl).try_acquire().await?;
    assert!(guard.ok_or("somebody holds it whom nobody knows")?.release().await?);
    assert!(other.release().await?);
    Ok(())
}

/// A contender that could not be taken out of a queue is taken out when the server is back, also
/// when its entry was never confirmed.
#[tokio::test(flavor = "multi_thread")]
async fn who_gave_up_in_an_outage_stands_in_nobodys_way_after_it() -> Result<(), Failure> {
    let (node, mut resp) = server().await?;
    let proxy = Proxy::start(node.address).await;
    let within = Duration::from_secs(2);
    let kv = through(&proxy).await?.with_deadline(within);
    let lock = || kv.new_lock("l").ttl(Duration::from_secs(120));
    proxy.freeze_answers();
    let unanswered = tokio::spawn(lock().acquire());
    names(&mut resp, "lock/l").await?;
    proxy.cut().await;
    unanswered.abort();
    assert!(unanswered.await.is_err());
    // When this has failed, the requests before it have failed too.
    assert!(kv.get("a").deadline(within * 2).await.is_err());
    proxy.heal().await;
    let guard = lock().acquire_within(Duration::from_secs(20)).await?;
    assert!(guard.ok_or("it is held by one that was given up")?.release().await?);
    Ok(())
}

/// A renewal of many places takes several requests: who leaves between two of them is none that
/// came late.
#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_during_a_renewal_is_not_taken_out_again() -> Result<(), Failure> {
    let (node, mut resp) = server().await?;
    let kv = opened(node.address).await?;
    let lock = |name: String| kv.new_lock(name).ttl(Duration::from_secs(12)).acquire();
    let mut held = FuturesUnordered::new();
    held.extend((0..1500).map(|n| lock(format!("held/{n}")).into_future()));
    let held: Vec<_> = held.try_collect().await?;
    let renewed = Instant::now() + Duration::from_secs(9);
    let churn = (0..16).map(async |n| {
        while Instant::now() < renewed {
            lock(format!("churn/{n}")).await?.release().await?;
        }
        Ok::<_, Failure>(())
    });
    try_join_all(churn).await?;
    assert!(held.iter().all(Guard::is_held));
    let marks = resp.say("KEYS lines/.kv/gone/*").await?.list();
    assert!(marks.is_empty(), "{} marks of contenders that had left before", marks.len());
    Ok(kv.close().await?)
}
