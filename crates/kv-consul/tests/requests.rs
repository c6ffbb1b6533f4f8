//! The cost of each call, by the server's own counters; and that nothing is left when a store is
//! closed.

mod common;

use common::{Asked, Node, http, names, sessions, single, with};
use futures::TryStreamExt;
use kv_core::{Kv, WatchEvent};
use kv_testsuite::{
    Failure, Proxy,
    failover::soon,
    leavings,
    requests::{Costs, LONG},
};
use serde_json::json;
use std::time::Duration;

/// Counts the requests to the server, without those of the counting itself. The server counts a
/// request when it is answered.
async fn requests(node: &Node) -> Result<u64, Failure> {
    let mut before = None;
    loop {
        let all = http(node.address, "GET /v1/agent/metrics?format=prometheus", b"").await?;
        let all = String::from_utf8(all.body)?;
        let of = |line: &&str| line.starts_with("consul_http_") && !line.contains("agent_metrics");
        let counts = all.lines().filter(of).filter(|line| line.contains("_count"));
        let now = Some(counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum());
        if now.is_some() && now == before {
            return now.ok_or_else(|| "a sum".into());
        }
        before = now;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_per_call() -> Result<(), Failure> {
    let server = single().await?;
    let node = &Asked::of(server.address).await?;
    let kv: &Kv = &kv_consul::open(&format!("consul://{}/requests/", node.address)).await?;

    // The session for its kind is there for the locks that are counted.
    let _first = kv.new_lock("with a session").ttl(LONG).acquire().await?;
    let others = [
        ("get_many", 1..=2),
        ("put with a TTL", 1..=2),
        // The names are read, and then deleted, 64 in a transaction: there are 200.
        ("delete_tree", 2..=5),
        ("list of children", 1..=2),
        // The look at who holds it comes first.
        ("break_lock", 2..=2),
    ];
    // Whatever is asked in the background meanwhile is not counted.
    let costs = Costs::new(async || Ok(node.calls()), &others);
    costs.of_each_call(kv, 200, None).await?;

    kv.put("d/k", "v").await?;
    costs.of("get of a name in the body", kv.get("ключ")).await?;
    costs.of("get_many of one", kv.get_many(["k", "k"])).await?;
    costs.of("list of children", kv.list("").children().try_collect::<Vec<_>>()).await?;
    costs.of("delete_tree", kv.delete_tree("")).await?;
    Ok(())
}

/// An event costs one poll. Waiting costs nothing meanwhile, and all watches of one directory cost
/// as much as one.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_costs_one_poll() -> Result<(), Failure> {
    const EVENTS: u64 = 20;
    let node = &single().await?;
    let url = format!("consul://{}/idle/", node.address);
    let (kv, other) = (kv_consul::open(&url).await?, kv_consul::open(&url).await?);
    let mut watches = Vec::new();
    for _ in 0..50 {
        let mut watch = kv.watch_tree("d").await?;
        watch.event().await?; // Synced
        watches.push(watch);
    }
    other.put("d/first", "").await?;
    for watch in &mut watches {
        watch.event().await?;
    }
    let before = requests(node).await?;
    for n in 0..EVENTS {
        other.put(format!("d/{n}"), "").await?;
        for watch in &mut watches {
            watch.event().await?;
        }
    }
    let found = requests(node).await? - before;
    assert!(found <= 2 * EVENTS + 2, "{found} requests: a put and a poll each");
    Ok(())
}

/// A large tree that changes all the time is not read all the time, and what never changes beside
/// it is hardly read at all.
#[tokio::test(flavor = "multi_thread")]
async fn polls_of_what_changes_constantly_are_limited() -> Result<(), Failure> {
    const FOR: Duration = Duration::from_secs(4);
    let node = &single().await?;
    let polled = &Asked::of(node.address).await?;
    let url = |address| format!("consul://{address}/busy/");
    let (kv, other) =
        (kv_consul::open(&url(polled.address)).await?, kv_consul::open(&url(node.address)).await?);
    // A listing of them has more than two mebibytes, behind which a watch rests for 17 ms.
    let keys = (0..80).map(|n| other.put(format!("d/{n}"), vec![0; 20 << 10]).into_future());
    futures::future::try_join_all(keys).await?;
    let mut watch = kv.watch_tree("d").await?;
    while watch.event().await? != WatchEvent::Synced {}
    let mut absent = kv.watch("nothing").await?;
    absent.event().await?;
    polled.all();
    let (began, mut puts) = (std::time::Instant::now(), 0);
    while began.elapsed() < FOR {
        other.put("d/k", puts.to_string()).await?;
        puts += 1;
    }
    let (polls, took) = (polled.all(), began.elapsed());
    let of = |name: &str| polls.iter().filter(|line| line.contains(name)).count() as u128;
    assert!(
        of("busy/d/") <= took.as_millis() / 17 + 3,
        "{} polls beside {puts} puts in {took:?}",
        of("busy/d/")
    );
    // They come 1, 2, 4, 8 and 16 ms apart at first, and then 25.
    assert!(of("nothing") <= took.as_millis() / 25 + 10, "{} polls of what never was", of("nothing"));
    // And yet the newest state is told.
    let newest = other.get("d/k").await?.ok_or("it is there")?;
    loop {
        if let WatchEvent::Put(entry) = watch.event().await?
            && entry == newest
        {
            return Ok(());
        }
    }
}

/// Changes of a small tree that follow each other are told within milliseconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_small_tree_is_told_at_once() -> Result<(), Failure> {
    let node = &single().await?;
    let url = format!("consul://{}/soon/", node.address);
    let (kv, other) = (kv_consul::open(&url).await?, kv_consul::open(&url).await?);
    for n in 0..20 {
        other.put(format!("d/{n}"), "").await?;
    }
    let mut watch = kv.watch_tree("d").await?;
    while watch.event().await? != WatchEvent::Synced {}
    // The times of the puts tell how fast the machine is at the moment.
    let (mut late, mut puts) = (Vec::new(), Vec::new());
    for n in 0..200 {
        let begun = std::time::Instant::now();
        let at = other.put("d/k", n.to_string()).await?.version;
        let written = std::time::Instant::now();
        puts.push(written - begun);
        while !matches!(watch.event().await?, WatchEvent::Put(entry) if entry.version == at) {}
        late.push(written.elapsed());
    }
    // The machine may be busy with other things for a part of the time.
    let usual = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 4]
    };
    let (late, put) = (usual(&mut late), usual(&mut puts));
    assert!(late < Duration::from_millis(10).max(8 * put), "{late:?} behind a write that took {put:?}");
    Ok(())
}

/// A server takes 200 connections of one machine by default.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_fits_into_the_default_limit_of_connections() -> Result<(), Failure> {
    let node = &with(&json!({})).await?;
    // A thousand puts at once are about connections, not about how fast the server's disk is.
    let kv = kv_consul::open(&format!("consul://{}/many/", node.address)).await?;
    let kv = kv.with_deadline(Duration::from_secs(60));
    let mut watches = Vec::new();
    for n in 0..150 {
        let mut watch = kv.watch(format!("w{}/{n}", n % 100)).await?;
        watch.event().await?;
        watches.push((n, watch));
    }
    let puts: Vec<_> = (0..1000).map(|n| tokio::spawn(kv.put(format!("p/{n}"), "v").into_future())).collect();
    for put in puts {
        put.await??;
    }
    for (n, watch) in &mut watches {
        kv.put(format!("w{}/{n}", *n % 100), "v").await?;
        assert!(matches!(watch.event().await?, kv_core::WatchEvent::Put(_)));
    }
    Ok(())
}

/// The handles of one process share what an agent takes from it, and what keeps a lock goes before
/// what watches.
#[tokio::test(flavor = "multi_thread")]
async fn many_stores_fit_into_the_default_limit_of_connections() -> Result<(), Failure> {
    const STORES: usize = 12;
    const WATCHES: usize = 60;
    let node = &with(&json!({})).await?;
    let url = |n: usize| format!("consul://{}/many/{n}/", node.address);
    let mut stores = Vec::new();
    for n in 0..STORES {
        // So many puts at once are about connections, not about how fast the server's disk is.
        stores.push(kv_consul::open(&url(n)).await?.with_deadline(Duration::from_secs(60)));
    }
    let guard = stores[0].new_lock("l").ttl(Duration::from_secs(12)).acquire().await?;
    let watching = stores.iter().flat_map(|kv| (0..WATCHES).map(move |n| kv.watch_tree(format!("d{n}"))));
    let mut watches = futures::future::try_join_all(watching.map(IntoFuture::into_future)).await?;
    for watch in &mut watches {
        assert_eq!(soon("its beginning", watch.event()).await??, WatchEvent::Synced);
    }
    let puts = stores.iter().flat_map(|kv| (0..WATCHES).map(move |n| kv.put(format!("d{n}/k"), "v")));
    futures::future::try_join_all(puts.map(IntoFuture::into_future)).await?;
    let held = std::time::Instant::now();
    for watch in &mut watches {
        assert!(matches!(soon("its event", watch.event()).await??, WatchEvent::Put(_)));
    }
    // One more store finds room, also when the lock was renewed several times beside all of them.
    while held.elapsed() < Duration::from_secs(15) {
        assert!(guard.is_held());
        let one_more = kv_consul::open(&url(STORES)).await?;
        one_more.put("k", "").await?;
        stores[STORES - 1].put("d0/k", "again").await?;
        assert!(matches!(
            soon("its event", watches[(STORES - 1) * WATCHES].event()).await??,
            WatchEvent::Put(_)
        ));
    }
    assert!(guard.release().await?);
    Ok(())
}

/// A handover takes the same few requests and bytes however many wait, once the queue was listed.
#[tokio::test(flavor = "multi_thread")]
async fn a_handover_costs_the_same_however_many_wait() -> Result<(), Failure> {
    const WAITING: u64 = 300;
    const HANDOVERS: u64 = 100;
    let node = single().await?;
    let asked = Asked::of(node.address).await?;
    let way = Proxy::start(asked.address).await;
    let kv = kv_consul::open(&format!("consul://{}/line/", way.address())).await?;
    let lock = || kv.new_lock("l").ttl(LONG);
    let mut held = lock().acquire().await?;
    let mut line = tokio::task::JoinSet::new();
    (0..WAITING).for_each(|_| _ = line.spawn(lock().acquire()));
    let all_wait = async {
        while kv.locks("").await?.first().and_then(|lock| lock.waiters) != Some(WAITING) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, Failure>(())
    };
    soon("all to wait", all_wait).await??;
    // The first of them lists the queue, for all.
    assert!(held.release().await?);
    held = line.join_next().await.ok_or("they wait")???;
    asked.all();
    let (before, mut late) = (way.traffic(), 0);
    for _ in 0..HANDOVERS {
        let (token, begun) = (held.token(), std::time::Instant::now());
        assert!(held.release().await?);
        late += begun.elapsed().as_millis() as u64 / 100;
        held = line.join_next().await.ok_or("they wait")???;
        assert!(held.token() > token, "in the order of asking");
    }
    let (requests, after) = (asked.all().len() as u64, way.traffic());
    let bytes = after.to_client + after.to_server - before.to_client - before.to_server;
    // The release, a look at the own place, a first look and a poll at the own life. Where a release
    // takes longer than 100 ms, the next one looks at the one before, and polls it.
    assert!(
        requests <= 5 * HANDOVERS + 2 * late,
        "{requests} requests for {HANDOVERS} handovers, {late} times 100 ms late"
    );
    // Each that listed the queue would take 70 KB more; on a busy machine a few do.
    assert!(bytes <= 8192 * HANDOVERS, "{bytes} bytes for {HANDOVERS} handovers");
    line.shutdown().await;
    assert!(held.release().await?);
    Ok(kv.close().await?)
}

/// Those before the one before have left without a word to whoever waits: one listing tells that of
/// all of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_handover_among_many_stores_costs_the_same() -> Result<(), Failure> {
    const STORES: usize = 16;
    let node = single().await?;
    let asked = Asked::of(node.address).await?;
    let mut line = Vec::new();
    for ahead in 0..STORES {
        let kv = kv_consul::open(&format!("consul://{}/strangers/", asked.address)).await?;
        let waiting = tokio::spawn(kv.new_lock("l").ttl(LONG).acquire().into_future());
        let all_wait = async {
            while kv.locks("").await?.first().and_then(|lock| lock.waiters) != Some(ahead as u64) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok::<_, Failure>(())
        };
        soon("all to wait", all_wait).await??;
        line.push((kv, waiting));
    }
    asked.all();
    let mut open = Vec::new();
    for (kv, waiting) in line {
        assert!(waiting.await??.release().await?);
        open.push(kv);
    }
    let requests = asked.all();
    // The release, a look at the one before, a listing, a first look and a poll at the own life.
    assert!(
        requests.len() <= 6 * STORES,
        "{} requests for {STORES} handovers: {requests:#?}",
        requests.len()
    );
    drop(open);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_store_leaves_nothing() -> Result<(), Failure> {
    let node = single().await?;
    let kv = kv_consul::open(&format!("consul://{}/left/", node.address)).await?;
    let long = Duration::from_secs(600);
    // These keys with a TTL are replaced, or deleted one by one or as a tree.
    for key in ["t/a", "t/b", "t/c/d"] {
        kv.put(key, "").ttl(long).await?;
    }
    kv.put("t/a", "").await?;
    kv.delete("t/a").await?;
    kv.delete("t/b").await?;
    kv.delete_tree("t").await?;
    let left = async || -> Result<Vec<String>, Failure> {
        let mut left = names(node.address, "").await?;
        left.extend(sessions(node.address).await?);
        Ok(left)
    };
    leavings::none(kv, long, left).await
}

/// The session of a TTL ends with its last key, and the keys of a store that is dropped live on.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_ttls_end_with_their_keys() -> Result<(), Failure> {
    let node = &single().await?;
    let url = format!("consul://{}/ttl/", node.address);
    let kv = kv_consul::open(&url).await?;
    let long = Duration::from_secs(600);
    kv.put("kept", "").ttl(long).await?;
    kv.put("gone", "").ttl(long / 2).await?;
    kv.put("gone", "for ever").await?;
    kv.close().await?;
    assert_eq!(sessions(node.address).await?.len(), 1, "that of the key which is there");
    let other = kv_consul::open(&url).await?;
    assert!(other.exists("kept").await?);
    other.put("dropped", "").ttl(long).await?;
    drop(other);
    let third = kv_consul::open(&url).await?;
    assert!(third.exists("dropped").await? && third.exists("kept").await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_own_limits_are_learnt() -> Result<(), Failure> {
    let limits = json!({ "txn_max_req_len": 2 << 20, "kv_max_value_size": 1 << 20 });
    let node = &with(&json!({ "limits": limits, "session_ttl_min": "2s" })).await?;
    let kv = kv_consul::open(&format!("consul://{}/limits/", node.address)).await?;
    let c = kv.capabilities();
    assert_eq!(c.max_value, 1 << 20);
    assert_eq!(c.ttl.as_ref().map(|ttl| ttl.least), Some(Duration::from_secs(2)));
    let value = vec![0xff; c.max_value];
    kv.put("k", value.clone()).await?;
    assert_eq!(kv.get("k").await?.ok_or("it is there")?.value, value);
    let granted = kv.put("t", "").ttl(Duration::from_millis(1)).await?.ttl;
    assert_eq!(granted, Some(Duration::from_secs(2)));
    Ok(())
}

/// Writes of one key at the same time come back in any order: the server's order counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_session_is_not_ended_under_a_key_by_a_write_before_it() -> Result<(), Failure> {
    let node = &single().await?;
    let kv = kv_consul::open(&format!("consul://{}/race/", node.address)).await?;
    let kv = kv.with_deadline(Duration::from_secs(60));
    let mut rounds = tokio::task::JoinSet::new();
    for n in 0..200_u64 {
        let kv = kv.clone();
        rounds.spawn(async move {
            let key = format!("k{n}");
            // Each round has a session of its own.
            let ttl = Duration::from_millis(60_000 + n);
            kv.put(format!("warm{n}"), "").ttl(ttl).await?;
            let (with, without) = (kv.put(&key, "").ttl(ttl), kv.put(&key, ""));
            let (with, without) = futures::try_join!(with.into_future(), without.into_future())?;
            kv.delete(format!("warm{n}")).await?;
            Ok::<_, kv_core::Error>((key, with.version, without.version))
        });
    }
    let mut last = Vec::new();
    while let Some(round) = rounds.join_next().await {
        let (key, with, without) = round??;
        last.push((key, with.max(without)));
    }
    // The pause is longer than a session is given to further puts, and much shorter than the TTL.
    tokio::time::sleep(Duration::from_secs(8)).await;
    for (key, version) in last {
        assert_eq!(kv.get(&key).await?.map(|entry| entry.version), Some(version), "{key}");
    }
    Ok(())
}
