//! The cost of each call, by the server's own counters; and nothing is left when a store is
//! closed.

mod common;

use common::{Node, single};
use kv_core::{Kv, Result};
use kv_testsuite::{Failure, Proxy, failover::soon, leavings};
use std::time::{Duration, Instant};

/// Returns the number of packets that the server has received, the one that asks included.
async fn packets(node: &Node) -> Result<u64, Failure> {
    node.count("zk_packets_received").await
}

/// Returns the number of packets that asking for their number takes.
async fn asking(node: &Node) -> Result<u64, Failure> {
    let mut least = u64::MAX;
    for _ in 0..5 {
        let before = packets(node).await?;
        least = least.min(packets(node).await? - before);
    }
    Ok(least)
}

/// Checks the least cost of some attempts, of more where one is like the other: pings come all the while, and
/// only add. On a machine that is busy one comes into most attempts.
macro_rules! costs {
    ($node:expr, $most:expr, _n => $call:expr) => { costs!(@ 16, $node, $most, _n => $call) };
    ($node:expr, $most:expr, $n:ident => $call:expr) => { costs!(@ 8, $node, $most, $n => $call) };
    (@ $times:expr, $node:expr, $most:expr, $n:ident => $call:expr) => {{
        let ask = asking($node).await?;
        let mut least = u64::MAX;
        for $n in 0..$times {
            let before = packets($node).await?;
            $call.await?;
            least = least.min((packets($node).await? - before).saturating_sub(ask));
            if $times > 8 && least <= $most {
                break;
            }
        }
        assert!(least <= $most, "{}: {least} requests, at most {}", stringify!($call), $most);
        least
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_per_call() -> Result<(), Failure> {
    for kind in ["zookeeper", "zookeeper38"] {
        let node = &single(kind).await?;
        let kv: &Kv = &kv_zookeeper::open(&format!("zookeeper://{}/requests/", node.address)).await?;
        kv.put("k", "v").await?; // and what the store keeps for itself

        costs!(node, 2, n => kv.put(format!("new{n}"), "v"));
        costs!(node, 1, _n => kv.put("k", "v"));
        costs!(node, 2, _n => kv.get("k"));
        costs!(node, 1, _n => kv.get("k").stale());
        // Reads that are under way at once share the barrier: there is one for the first, and one
        // for the others.
        costs!(node, 64 + 2, _n => futures::future::try_join_all((0..64).map(|_| kv.get("k").into_future())));
        costs!(node, 2, _n => kv.exists("k"));
        costs!(node, 2, _n => kv.get_many(["k", "l", "m"]));
        kv.put("empty", "").await?;
        costs!(node, 2, _n => kv.get("empty"));
        costs!(node, 3, _n => kv.exists("empty"));
        // A missing ancestor takes no request of its own.
        costs!(node, 2, n => kv.put(format!("deep{n}/a/b/c"), "v"));
        costs!(node, 2, n => kv.put(format!("deep0/a/b/{n}"), "v"));

        costs!(node, 1, n => kv.atomic_put(format!("made{n}"), "v", None));
        let mut seen = kv.put("k", "v").await?.version;
        let swaps = costs!(node, 1, _n => async {
            seen = kv.atomic_put("k", "w", seen).await?.version;
            Ok::<_, Failure>(())
        });
        assert_eq!(swaps, 1);
        let done = costs!(node, 1, n => async {
            let (made, new) = (format!("made{n}"), format!("txn{n}"));
            let done = kv.transact().when_exists("k").then(kv.put(&new, "v")).then(kv.delete(&made)).await?;
            assert!(done.is_committed());
            Ok::<_, Failure>(())
        });
        assert_eq!(done, 1);
        costs!(node, 1, n => kv.delete(format!("txn{n}")));
        // A store that has neither read nor written a node needs a read to tell a key from a
        // directory.
        let other = &kv_zookeeper::open(&format!("zookeeper://{}/requests/", node.address)).await?;
        for n in 0..8 {
            kv.put(format!("unknown{n}"), "v").await?;
        }
        costs!(node, 2, n => other.delete(format!("unknown{n}")));
        let mut seen_elsewhere = Vec::new();
        for n in 0..8 {
            seen_elsewhere.push(kv.put(format!("swapped{n}"), "v").await?.version);
        }
        costs!(node, 2, n => other.atomic_put(format!("swapped{n}"), "w", seen_elsewhere[n as usize]));
        // A handle that remembers an older version asks one member. A put that is refused, as the
        // other one wrote, looks without a barrier.
        costs!(node, 2 + 3, n => async {
            let told = other.put("k", n.to_string()).await?.version;
            kv.atomic_put("k", "w", told).await?;
            Ok::<_, Failure>(())
        });
        let versions =
            futures::future::join_all((0..8).map(|n| kv.get(format!("new{n}")).into_future())).await;
        let versions: Vec<_> =
            versions.into_iter().map(|found| found.map(|e| e.map(|e| e.version))).collect();
        costs!(node, 1, n => async {
            let version = versions[n as usize].as_ref().ok().copied().flatten().ok_or("it was put")?;
            kv.atomic_delete(format!("new{n}"), version).await?;
            Ok::<_, Failure>(())
        });
        // One request looks at the directory, and one more clears it when it is empty.
        costs!(node, 2, n => kv.delete(format!("deep0/a/b/{n}")));
        for n in 0..8 {
            kv.put(format!("one{n}/k"), "v").await?;
        }
        costs!(node, 3, n => kv.delete(format!("one{n}/k")));

        let ttl = |n: u64| Duration::from_millis(30_000 + n); // so that pings are rare beside calls
        costs!(node, 3, n => kv.put(format!("ttl{n}"), "v").ttl(ttl(n))); // with a session for each
        costs!(node, 2, n => kv.put(format!("ttl{n}"), "v")); // over a TTL
        costs!(node, 3, n => kv.put("k", "v").ttl(ttl(n)));

        // One request each, whatever the others do to the counts of creations.
        let at_once = || {
            futures::future::try_join_all(
                (0..64).map(|n| kv.put(format!("t/{n}"), "v").ttl(ttl(9)).into_future()),
            )
        };
        at_once().await?;
        costs!(node, 64 + 3, _n => at_once());

        for n in 0..200 {
            kv.put(format!("d/{n}"), "v").await?;
        }
        // The names, then the first values, then a hundred a request; and one barrier before all.
        costs!(node, 5, _n => kv.list("d"));
        costs!(node, 3, _n => kv.list("d").limit(10));
        let deleting = costs!(node, 12, _n => kv.delete_tree("d"));
        assert!(deleting <= 12);

        let first = kv.new_lock("first").acquire().await?; // with a session for its kind
        // This includes the watch of its own node, and its release.
        let fresh = if kind == "zookeeper" { 4 } else { 5 };
        costs!(node, fresh, n => async {
            let guard = kv.new_lock(format!("fresh{n}")).acquire().await?;
            assert!(guard.release().await?);
            Ok::<_, Failure>(())
        });
        costs!(node, 4, _n => async {
            let guard = kv.new_lock("again").acquire().await?;
            assert!(guard.release().await?);
            Ok::<_, Failure>(())
        });
        let guard = kv.new_lock("l").acquire().await?;
        // One of them looks whether the first node of the queue belongs to a session.
        costs!(node, 3, _n => async {
            assert!(kv.new_lock("l").try_acquire().await?.is_none());
            Ok::<_, Failure>(())
        });
        kv.put("fenced", "v").await?;
        costs!(node, 1, _n => kv.put("fenced", "v").fenced(&guard));
        // With the watch of its own node, which the change has ended.
        costs!(node, 2, n => guard.set_value(n.to_string()));
        costs!(node, 3, _n => kv.lock_holder("l"));
        // A look at each of the eleven queues that there were, and at the two holders.
        costs!(node, 2 + 11 + 2, _n => kv.locks(""));
        costs!(node, 3, _n => kv.break_lock("l").token(guard.token() + 1));
        assert!(kv.break_lock("l").token(guard.token()).await?);
        first.release().await?;
        kv.close().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_costs_one_request_and_an_idle_wait_none() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let url = format!("zookeeper://{}/idle/", node.address);
    let (kv, other) = (kv_zookeeper::open(&url).await?, kv_zookeeper::open(&url).await?);
    let mut watches = Vec::new();
    for _ in 0..10 {
        let mut watch = kv.watch_tree("d").await?;
        watch.event().await?; // Synced
        watches.push(watch);
    }
    other.put("d/k", "").await?;
    for watch in &mut watches {
        watch.event().await?;
    }
    let (before, begun) = (packets(&node).await?, Instant::now());
    for n in 0..50 {
        other.put("d/k", n.to_string()).await?;
        for watch in &mut watches {
            watch.event().await?;
        }
    }
    // The two connections are pinged once in 750 ms at most.
    let pings = 2 * (begun.elapsed().as_millis() as u64 / 750 + 1);
    let found = packets(&node).await? - before;
    assert!(found <= 50 + 50 + 2 + pings, "50 puts, a read each for ten watches: {found} requests");
    Ok(())
}

/// The server tells of all nodes below the one of a watched key.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_below_a_watched_key_costs_no_request() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let url = format!("zookeeper://{}/below/", node.address);
    let (kv, other) = (kv_zookeeper::open(&url).await?, kv_zookeeper::open(&url).await?);
    let mut watch = kv.watch("d").await?;
    watch.event().await?; // Synced
    other.put("d/k", "").await?;
    let (before, begun) = (packets(&node).await?, Instant::now());
    for n in 0..50 {
        other.put("d/k", n.to_string()).await?;
    }
    other.put("d", "last").await?;
    watch.event().await?;
    let pings = 2 * (begun.elapsed().as_millis() as u64 / 750 + 1);
    let found = packets(&node).await? - before;
    assert!(found <= 50 + 4 + 2 + pings, "51 puts, a read: {found} requests");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_store_leaves_nothing() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let kv = kv_zookeeper::open(&format!("zookeeper://{}/left/", node.address)).await?;
    let left = async || -> Result<Vec<String>, Failure> {
        let (sessions, watches) = (node.sessions().await?, node.count("zk_watch_count").await?);
        // The session of the put that was refused ends by itself.
        let is_left = sessions.len() > 1 || !sessions.values().all(Vec::is_empty);
        let mut left = if is_left { vec![format!("sessions {sessions:?}")] } else { Vec::new() };
        left.extend((watches != 0).then(|| format!("{watches} watches")));
        Ok(left)
    };
    leavings::none(kv, Duration::from_secs(50), left).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_wakes_the_next_alone() -> Result<(), Failure> {
    const WAITING: u64 = 200;
    const HANDOVERS: u64 = 100;
    let node = single("zookeeper").await?;
    let way = Proxy::start(node.address).await;
    let kv = kv_zookeeper::open(&format!("zookeeper://{}/woken/", way.address())).await?;
    let ttl = Duration::from_secs(50);
    let guard = kv.new_lock("l").ttl(ttl).acquire().await?;
    let mut line = tokio::task::JoinSet::new();
    for _ in 0..WAITING {
        line.spawn(kv.new_lock("l").ttl(ttl).acquire());
    }
    let all_wait = async {
        while kv.locks("").await?.first().and_then(|lock| lock.waiters) != Some(WAITING) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, Failure>(())
    };
    soon("all to wait", all_wait).await??;
    // The foremost alone watches the one before, and the holder itself.
    let watches = node.count("zk_watch_count").await?;
    assert!(watches <= 1, "{watches} watches");
    let (ask, before, begun) = (asking(&node).await?, packets(&node).await?, Instant::now());
    guard.release().await?;
    let next = line.join_next().await.ok_or("they wait")???;
    tokio::time::sleep(Duration::from_millis(300)).await; // for what should not come
    let pings = 2 * (begun.elapsed().as_millis() as u64 / 750 + 1);
    let found = packets(&node).await? - before - ask;
    assert!(
        found <= 3 + pings,
        "the release, a look at the line, the watch of its own node: {found} requests"
    );
    let (mut held, before) = (next, way.traffic());
    for _ in 0..HANDOVERS {
        let token = held.token();
        assert!(held.release().await?);
        held = line.join_next().await.ok_or("they wait")???;
        assert!(held.token() > token, "in the order of asking");
    }
    let after = way.traffic();
    let bytes = after.to_client + after.to_server - before.to_client - before.to_server;
    assert!(bytes <= 1024 * HANDOVERS, "{bytes} bytes for {HANDOVERS} handovers");
    drop((held, line));
    Ok(kv.close().await?)
}

/// Those before the one before have left without a word to whoever waits: one listing tells that of
/// all of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_handover_among_many_stores_costs_the_same() -> Result<(), Failure> {
    const STORES: u64 = 16;
    let node = single("zookeeper").await?;
    let (ttl, mut line) = (Duration::from_secs(50), Vec::new());
    for _ in 0..STORES {
        let kv = kv_zookeeper::open(&format!("zookeeper://{}/strangers/", node.address)).await?;
        let (waiting, ahead) = (tokio::spawn(kv.new_lock("l").ttl(ttl).acquire().into_future()), line.len());
        let all_wait = async {
            while kv.locks("").await?.first().and_then(|lock| lock.waiters) != Some(ahead as u64) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok::<_, Failure>(())
        };
        soon("all to wait", all_wait).await??;
        line.push((kv, waiting));
    }
    let (before, begun) = (packets(&node).await?, Instant::now());
    let mut open = Vec::new();
    for (kv, waiting) in line {
        assert!(waiting.await??.release().await?);
        open.push(kv);
    }
    let pings = STORES * 2 * (begun.elapsed().as_millis() as u64 / 750 + 1);
    let found = packets(&node).await? - before;
    // The release; a listing; its own node, and a watch of it.
    assert!(found <= 5 * STORES + pings, "{found} requests for {STORES} handovers, {pings} of them pings");
    drop(open);
    Ok(())
}
