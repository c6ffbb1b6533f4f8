//! Outages beyond those of the suite: a restart with data kept, and a pause of half a minute,
//! during watches, leases and locks.

mod common;

use common::{Node, single};
use kv_core::{Kv, Version, WatchEvent};
use kv_testsuite::{Failure, Mirror, Proxy};
use std::time::Duration;
use tokio::time::{Instant, timeout};

const SOON: Duration = Duration::from_secs(30);

async fn open(node: &Node) -> Result<Kv, Failure> {
    Ok(kv_zookeeper::open(&format!("zookeeper://{}/outages/", node.address)).await?)
}

/// Tries to write until it is done; only an outage may prevent it.
async fn written(kv: &Kv, key: &str, value: String) -> Result<Version, Failure> {
    let deadline = Instant::now() + SOON;
    loop {
        match kv.put(key, value.clone()).await {
            Ok(written) => return Ok(written.version),
            Err(e) if Instant::now() > deadline => return Err(e.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Reads events until this key is at this version.
async fn follow(mirror: &mut Mirror, until: (&str, Version)) -> Result<(), Failure> {
    let reading = async {
        while mirror.entries.get(until.0).map(|entry| entry.version) != Some(until.1) {
            let before = mirror.entries.clone();
            match mirror.event().await? {
                WatchEvent::Put(entry) => {
                    let before = before.get(entry.key.as_str());
                    assert!(before.is_none_or(|before| before.version < entry.version), "versions go up");
                }
                WatchEvent::Delete { key, .. } => {
                    assert!(before.contains_key(key.as_str()), "{key} was told before it went");
                }
                WatchEvent::Synced => {}
            }
        }
        Ok::<_, Failure>(())
    };
    timeout(SOON, reading).await?
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_lose_no_event_no_lease_and_no_lock() -> Result<(), Failure> {
    for kind in ["zookeeper", "zookeeper38"] {
        let node = single(kind).await?;
        let (kv, other) = (open(&node).await?, open(&node).await?);
        for n in 0..50 {
            other.put(format!("d/{n}"), "before").await?;
        }
        let lease = kv.lease(Duration::from_secs(20)).await?;
        let leased = kv.put("leased", "").lease(&lease).await?.version;
        let guard = kv.new_lock("l").ttl(Duration::from_secs(20)).acquire().await?;
        let mut mirror = Mirror::new(kv.watch_tree("").await?);
        follow(&mut mirror, ("leased", leased)).await?;
        for round in 0..3 {
            if round == 1 {
                node.daemon.stop()
            } else {
                node.daemon.kill()
            }
            node.start().await?;
            // While the watch may still be away.
            for n in 0..10 {
                written(&other, &format!("d/{n}"), format!("round {round}")).await?;
                timeout(SOON, async {
                    while other.delete(format!("d/{}", 10 + round * 10 + n)).await.is_err() {}
                })
                .await?;
            }
            let last = written(&other, "last", round.to_string()).await?;
            follow(&mut mirror, ("last", last)).await?;
            // After an outage deletions are told behind puts.
            let told = mirror.comes_to(other.list("").await?).await;
            told.map_err(|e| format!("round {round} on {kind}: {e}"))?;
            assert!(lease.is_held() && guard.is_held(), "round {round} on {kind}");
            assert!(other.exists("leased").await?);
            assert!(other.new_lock("l").try_acquire().await?.is_none(), "two hold the lock");
            kv.put("fenced", round.to_string()).fenced(&guard).await?;
        }
        assert!(guard.release().await? && lease.revoke().await?);
        assert!(!other.exists("leased").await?);
        kv.close().await?;
        other.close().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_half_a_minute() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let (kv, other) = (open(&node).await?, open(&node).await?);
    let (short, long) = (Duration::from_secs(8), Duration::from_secs(45));
    let lost = kv.new_lock("short").ttl(short).acquire().await?;
    let kept = kv.new_lock("long").ttl(long).acquire().await?;
    let lease = kv.lease(short).await?;
    let leased = kv.put("leased", "").lease(&lease).await?.version;
    let mut mirror = Mirror::new(kv.watch_tree("").await?);
    follow(&mut mirror, ("leased", leased)).await?;
    node.daemon.pause();
    let paused = Instant::now();
    // The owner knows by its own clock, although it hears nothing.
    timeout(SOON, lost.lost()).await?;
    assert!(!lost.is_held() && kept.is_held());
    let e = other.get("leased").await.err().ok_or("a frozen server answered")?;
    assert!(e.is_transient(), "{e}");
    tokio::time::sleep_until(paused + Duration::from_secs(30)).await;
    node.daemon.resume();
    let last = written(&other, "last", "after".into()).await?;
    follow(&mut mirror, ("last", last)).await?;
    assert!(!lease.is_held());
    // Its time was over while the server slept; the server ends it as soon as it looks for ended
    // sessions.
    let gone = async {
        while other.exists("leased").await? {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, Failure>(())
    };
    timeout(SOON, gone).await??;
    let next = timeout(SOON, other.new_lock("short").ttl(short).acquire()).await??;
    assert!(next.token() > lost.token());
    assert!(kv.put("fenced", "").fenced(&lost).await.is_err(), "the old holder writes no more");
    // The long lock is either still held, or known to be lost; in no case has it two holders.
    let second = other.new_lock("long").ttl(long).try_acquire().await?;
    assert!(!(kept.is_held() && second.is_some()), "two hold the lock");
    kv.close().await?;
    Ok(other.close().await?)
}

/// The host is like a leader that is cut off from its peers: it answers about itself, and grants
/// no session.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_grants_no_session_is_passed_over() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let proxy = Proxy::start(node.address).await;
    // The beginning of the request for a session.
    proxy.hold_answer_to([0, 0, 0, 45, 0, 0, 0, 0]);
    let url = format!("zookeeper://{},{}/outages/", proxy.address(), node.address);
    let (opened, ()) = tokio::join!(kv_zookeeper::open(&url).into_future(), proxy.trapped());
    let kv = opened?;
    kv.put("k", "v").await?;
    Ok(kv.close().await?)
}

/// The call repeats a request that took effect, and must not take what it then finds for what was
/// there before.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_and_a_revoke_whose_answer_was_lost_tell_the_truth() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let proxy = Proxy::start(node.address).await;
    let kv = kv_zookeeper::open(&format!("zookeeper://{}/lost/", proxy.address())).await?;
    let tool = zookeeper_client::Client::connect(&node.address.to_string()).await?;
    let gone = async |path: String| {
        let going = async {
            while tool.check_stat(&path).await?.is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok::<_, Failure>(())
        };
        timeout(SOON, going).await?
    };
    for round in 0..3 {
        let guard = kv.new_lock("l").ttl(Duration::from_secs(10)).acquire().await?;
        let line = tool.list_children("/lost/.kv/lock/l").await?;
        let path = format!("/lost/.kv/lock/l/{}", line.first().ok_or("it holds")?);
        // The kind of a request that deletes a node, and the node's path.
        proxy.hold_answer_to([&[0, 0, 0, 2, 0, 0, 0, u8::try_from(path.len())?], path.as_bytes()].concat());
        let cut = async {
            proxy.trapped().await;
            gone(path).await?;
            proxy.reset().await;
            proxy.heal().await;
            Ok::<_, Failure>(())
        };
        let (released, cut) = tokio::join!(guard.release(), cut);
        cut?;
        match released {
            Err(e) if e.kind() == kv_core::ErrorKind::OutcomeUnknown => {}
            released => assert!(released?, "it was held, round {round}"),
        }

        let lease = kv.lease(Duration::from_secs(10)).await?;
        kv.put("leased", "v").lease(&lease).await?;
        // The request that ends a session, and no other, is of the kind -11.
        proxy.hold_answer_to([0xff, 0xff, 0xff, 0xf5]);
        let cut = async {
            proxy.trapped().await;
            gone("/lost/leased".into()).await?;
            proxy.reset().await;
            proxy.heal().await;
            Ok::<_, Failure>(())
        };
        let (revoked, cut) = tokio::join!(lease.revoke(), cut);
        cut?;
        match revoked {
            Err(e) if e.kind() == kv_core::ErrorKind::OutcomeUnknown => {}
            revoked => assert!(revoked?, "it was alive, round {round}"),
        }
    }
    Ok(kv.close().await?)
}

/// No answer is lost: nothing was there.
#[tokio::test(flavor = "multi_thread")]
async fn what_had_gone_before_is_not_given_back() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let proxy = Proxy::start(node.address).await;
    let kv = kv_zookeeper::open(&format!("zookeeper://{}/gone/", proxy.address())).await?;
    let lease = kv.lease(Duration::from_secs(2)).await?;
    let guard = kv.new_lock("l").ttl(Duration::from_secs(2)).acquire().await?;
    proxy.cut().await;
    timeout(SOON, lease.lost()).await?;
    timeout(SOON, guard.lost()).await?;
    proxy.heal().await;
    assert!(!guard.release().await?);
    assert!(!lease.revoke().await?);
    Ok(kv.close().await?)
}

/// The first request to release the lock never came to the server: it was another who took the
/// lock away.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_does_not_claim_a_lock_that_was_broken() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let proxy = Proxy::start(node.address).await;
    let kv = kv_zookeeper::open(&format!("zookeeper://{}/outages/", proxy.address())).await?;
    let operator = open(&node).await?;
    for round in 0..3 {
        let guard = kv.new_lock("l").ttl(Duration::from_secs(20)).acquire().await?;
        let token = guard.token();
        proxy.freeze_requests();
        let breaks = async {
            assert!(operator.break_lock("l").token(token).await?);
            proxy.reset().await;
            proxy.heal().await;
            Ok::<_, Failure>(())
        };
        // The release is polled first, and so sent first.
        let (released, broken) = tokio::join!(guard.release(), breaks);
        broken?;
        match released {
            Err(e) if e.kind() == kv_core::ErrorKind::OutcomeUnknown => {}
            released => assert!(!released?, "it was broken, round {round}"),
        }
        assert!(operator.lock_holder("l").await?.is_none());
    }
    kv.close().await?;
    Ok(operator.close().await?)
}
