//! The cost of each call, by the server's own counters; nothing is sent twice; and nothing is left
//! when a store is closed.

mod common;

use common::{Node, Reply, resp::requests, single, suite::left};
use kv_core::{ErrorKind, Kv, WatchEvent};
use kv_testsuite::{
    Failure, Proxy,
    failover::soon,
    leavings,
    requests::{Costs, LONG},
};
use std::{
    cell::Cell,
    time::{Duration, Instant},
};

#[tokio::test(flavor = "multi_thread")]
async fn requests_per_call() -> Result<(), Failure> {
    for kind in ["redis", "redis8", "valkey"] {
        let node = &single(kind).await?;
        let kv: &Kv = &kv_redis::open(&format!("redis://{}/requests/", node.address)).await?;
        let last = Cell::new(requests(&mut node.resp().await?).await?);
        let asked = async || -> Result<Vec<String>, Failure> {
            let all = requests(&mut node.resp().await?).await?;
            Ok(vec!["a request".to_owned(); (all - last.replace(all)) as usize])
        };
        let others = [
            ("list", 2..=2),
            ("delete_tree", 3..=3),
            // All names are looked through, a thousand at a time.
            ("locks", 2..=6),
            ("put of a forgotten script", 2..=2),
        ];
        let costs = Costs::new(asked, &others);
        costs.of_each_call(kv, 1200, Some(1200)).await?;
        node.resp().await?.say("SET requests/foreign v").await?;
        assert_eq!(costs.of("get", kv.get("foreign")).await?.ok_or("it is there")?.text(), Some("v"));
        assert!(costs.of("get", kv.get("missing")).await?.is_none());
        let lease = costs.of("lease", kv.lease(LONG)).await?;
        costs.of("put with a lease", kv.put("t", "v").lease(&lease)).await?;
        assert!(costs.of("revoke", lease.revoke()).await?);
        // After a restart the scripts are loaded once, with the connection.
        node.daemon.kill();
        node.start().await?;
        last.set(0);
        kv.get("k").await?;
        costs.of("put", kv.put("k", "v")).await?;
        // Where the server has forgotten them, a call sends its text.
        node.resp().await?.say("SCRIPT FLUSH").await?;
        costs.of("put of a forgotten script", kv.put("k", "w")).await?;
        costs.of("put", kv.put("k", "x")).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn events_and_idle_waits_cost_no_request() -> Result<(), Failure> {
    let node = &single("redis").await?;
    let resp = &mut node.resp().await?;
    let url = format!("redis://{}/idle/", node.address);
    let (kv, other) = (kv_redis::open(&url).await?, kv_redis::open(&url).await?);
    let mut watch = kv.watch_tree("d").await?;
    watch.event().await?; // Synced
    let long = Duration::from_secs(600);
    let guard = other.new_lock("l").ttl(long).acquire().await?;
    let waiting = tokio::spawn(kv.new_lock("l").ttl(long).acquire());
    soon("the wait to begin", async {
        while resp.ask(&[b"ZCARD", b"idle/.kv/lock/l"]).await? != Reply::Number(2) {}
        other.put("d/first", "").await?;
        watch.event().await?;
        // A first wait makes further requests.
        let mut before = 0;
        while before != requests(resp).await? {
            before = requests(resp).await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok::<_, Failure>(())
    })
    .await??;
    let before = requests(resp).await?;
    for n in 0..20 {
        other.put(format!("d/{n}"), "").await?;
        watch.event().await?;
    }
    // Longer than the time between two checks of a connection.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(requests(resp).await? - before, 20, "the puts alone");
    guard.release().await?;
    let next = soon("the lock", waiting).await???;
    assert_eq!(requests(resp).await? - before, 21, "a release wakes the next without a question");
    drop(next);
    Ok(())
}

/// The end of a key is asked for by one of the watches of a store that wait for it, and published
/// once, however many they are.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_key_costs_the_same_for_many_watches() -> Result<(), Failure> {
    const WATCHES: usize = 40;
    let node = &single("redis").await?;
    let resp = &mut node.resp().await?;
    let kv = kv_redis::open(&format!("redis://{}/ends/", node.address)).await?;
    let mut watches = Vec::new();
    for _ in 0..WATCHES {
        let mut watch = kv.watch_tree("d").await?;
        assert_eq!(watch.event().await?, WatchEvent::Synced);
        watches.push(watch);
    }
    let (asked, published) = (resp.calls("evalsha").await?, resp.calls("spublish").await?);
    let (ttl, begun) = (Duration::from_millis(500), Instant::now());
    kv.put("d/k", "v").ttl(ttl).await?;
    let ends = watches.iter_mut().map(|watch| async move {
        while !matches!(watch.event().await?, WatchEvent::Delete { .. }) {}
        Ok::<_, kv_core::Error>(())
    });
    soon("the end", futures::future::try_join_all(ends)).await??;
    let late = begun.elapsed().saturating_sub(ttl);
    // Looks that were under way when the end was told are over.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (asked, published) =
        (resp.calls("evalsha").await? - asked, resp.calls("spublish").await? - published);
    assert_eq!(published, 2, "the put and the end, each once");
    // A look comes a second time where its answer was too slow, and then five times a second.
    let most = 4 + late.as_millis() as usize / 200;
    assert!((2..=most).contains(&asked), "{asked} requests for the put and the end, told {late:?} late");
    Ok(())
}

/// A session that is refused to be renewed is not renewed ten times a second for those who wait.
#[tokio::test(flavor = "multi_thread")]
async fn waits_whose_looks_fail_look_less_often() -> Result<(), Failure> {
    let node = &single("redis").await?;
    let resp = &mut node.resp().await?;
    resp.say("ACL SETUSER me on >my-word ~looks/* &looks/* +@all -@dangerous").await?;
    let other = kv_redis::open(&format!("redis://{}/looks/", node.address)).await?;
    let kv = kv_redis::open(&format!("redis://me:my-word@{}/looks/", node.address)).await?;
    // A look comes when the life of the holder would end, unless it was renewed.
    let _holder = other.new_lock("l").ttl(Duration::from_secs(2)).acquire().await?;
    let waiting = tokio::spawn(kv.new_lock("l").ttl(Duration::from_secs(600)).acquire().into_future());
    soon("the wait to begin", async {
        while resp.ask(&[b"ZCARD", b"looks/.kv/lock/l"]).await? != Reply::Number(2) {}
        Ok::<_, Failure>(())
    })
    .await??;
    resp.say("ACL SETUSER me -pexpire").await?;
    let mut refused = async || -> Result<usize, Failure> {
        let stats = resp.say("INFO commandstats").await?.text();
        let line = stats.lines().find(|line| line.starts_with("cmdstat_evalsha:"));
        let failed = line.and_then(|line| line.split("failed_calls=").nth(1));
        Ok(failed.map(str::parse).transpose()?.unwrap_or(0))
    };
    soon("a look that fails", async {
        while refused().await? == 0 {}
        Ok::<_, Failure>(())
    })
    .await??;
    let (begun, before) = (Instant::now(), refused().await?);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (looks, took) = (refused().await? - before, begun.elapsed());
    let most = 8 * took.as_millis() as usize / 5000;
    assert!((1..=most).contains(&looks), "{looks} looks in {took:?}");
    waiting.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_costs_nothing_per_unrelated_key() -> Result<(), Failure> {
    let node = &single("redis").await?;
    let proxy = Proxy::start(node.address).await;
    let kv = kv_redis::open(&format!("redis://{}/quiet/", proxy.address())).await?;
    let other = kv_redis::open(&format!("redis://{}/quiet/", node.address)).await?;
    let mut watch = kv.watch_tree("d").await?;
    watch.event().await?;
    let before = proxy.traffic().to_client;
    for n in 0..1000 {
        other.put(format!("elsewhere/{}", n % 100), vec![b'x'; 1000]).await?;
    }
    other.put("d/a", "1").await?;
    while !matches!(watch.event().await?, WatchEvent::Put(_)) {}
    let told = proxy.traffic().to_client - before;
    // The bytes of the event, and of a check of the connection every five seconds, some hundred
    // each. Messages that name the unrelated keys would be 50 kB at least.
    assert!(told < 20_000, "{told} bytes for one change and 1,000 unrelated ones");
    Ok(())
}

/// The server does a request, its answer is lost, and the connection breaks after the request
/// left: nothing is sent again, by this crate or by the client that it uses.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_twice() -> Result<(), Failure> {
    let node = &single("redis").await?;
    let resp = &mut node.resp().await?;
    let proxy = Proxy::start(node.address).await;
    let kv = kv_redis::open(&format!("redis://{}/once/", proxy.address())).await?;
    let direct = kv_redis::open(&format!("redis://{}/once/", node.address)).await?;
    for round in 0..5 {
        let (key, ours) = (format!("k{round}"), format!("ours, of round {round}"));
        kv.get("up").await?;
        proxy.hold_answer_to(&ours);
        let put = tokio::spawn(kv.put(&key, ours.clone()).into_future());
        soon("the request", proxy.trapped()).await?;
        soon("its effect", async {
            while direct.get(&key).await?.is_none() {}
            Ok::<_, kv_core::Error>(())
        })
        .await??;
        let theirs = direct.put(&key, "theirs").await?.version;
        let stats = |text: String| {
            let writes =
                text.lines().find_map(|line| line.strip_prefix("cmdstat_set:calls=").map(str::to_owned));
            writes.and_then(|rest| rest.split(',').next()?.parse::<u64>().ok()).unwrap_or_default()
        };
        let before = stats(resp.say("INFO commandstats").await?.text());
        proxy.reset().await;
        let e = put.await?.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::OutcomeUnknown, "{e}");
        proxy.heal().await;
        let found = kv.get(&key).await?.ok_or("it is there")?;
        assert_eq!((found.text(), found.version), (Some("theirs"), theirs));
        assert_eq!(stats(resp.say("INFO commandstats").await?.text()), before, "no other write came");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_store_leaves_nothing() -> Result<(), Failure> {
    let node = single("redis").await?;
    let kv = kv_redis::open(&format!("redis://{}/left/", node.address)).await?;
    let there = async || -> Result<Vec<String>, Failure> {
        let mut there = left(node.address, "").await?;
        // The connection that asks is left.
        let connections = node.resp().await?.say("CLIENT LIST").await?.text();
        there.extend(connections.lines().skip(1).map(str::to_owned));
        Ok(there)
    };
    leavings::none(kv, Duration::from_secs(600), there).await
}

/// A session that nobody uses ends by itself, also one in which a contender waited.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_locks() -> Result<(), Failure> {
    let node = single("redis").await?;
    let kv = kv_redis::open(&format!("redis://{}/over/", node.address)).await?;
    let ttl = Duration::from_secs(2);
    let guard = kv.new_lock("l").ttl(ttl).acquire().await?;
    let waiting = tokio::spawn(kv.new_lock("l").ttl(ttl).acquire());
    let mut resp = node.resp().await?;
    soon("the wait to begin", async {
        while resp.ask(&[b"ZCARD", b"over/.kv/lock/l"]).await? != Reply::Number(2) {}
        Ok::<_, Failure>(())
    })
    .await??;
    drop(guard);
    soon("the lock", waiting).await???.release().await?;
    soon("nothing to be left of an open store", async {
        while !left(node.address, "").await?.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, Failure>(())
    })
    .await??;
    // Long past the session's renewals.
    tokio::time::sleep(ttl).await;
    assert_eq!(left(node.address, "").await?, [""; 0]);
    Ok(())
}

/// Writes sweep the notes of keys that ended by themselves, so that they do not pile up.
#[tokio::test(flavor = "multi_thread")]
async fn what_ended_is_swept() -> Result<(), Failure> {
    let node: Node = single("redis").await?;
    let kv = kv_redis::open(&format!("redis://{}/swept/", node.address)).await?;
    for n in 0..200 {
        kv.put(format!("short/{n}"), "").ttl(Duration::from_millis(1)).await?;
    }
    for n in 0..60 {
        kv.put(format!("long/{n}"), "").await?;
    }
    let mut resp = node.resp().await?;
    for name in ["swept/.kv/index", "swept/.kv/ends"] {
        let Reply::Number(count) = resp.ask(&[b"ZCARD", name.as_bytes()]).await? else {
            return Err("a sorted set".into());
        };
        assert!(count <= 62, "{name} has {count}");
    }
    Ok(())
}
