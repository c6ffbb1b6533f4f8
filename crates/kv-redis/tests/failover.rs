//! The losses of a failover, between a master and a replica, and with sentinels.

mod common;

use common::{Node, Reply, in_step};
use kv_core::{Durability, ErrorKind, WatchEvent};
use kv_testsuite::{
    Failure, Mirror, Proxy,
    failover::{goes_on, soon, written},
};
use std::{collections::BTreeMap, time::Duration};

/// The deadline of calls: short, so that the loss of a master is often met.
const DEADLINE: Duration = Duration::from_secs(2);

/// Fences and watches find the losses of a failover: a replica that has heard nothing for a while
/// takes over.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_failover_loses_gives_nothing_twice() -> Result<(), Failure> {
    let master = common::single("redis").await?;
    let between = Proxy::start(master.address).await;
    let to_it = format!("127.0.0.1 {}", between.address().port());
    let replica = common::with("redis", &["--replicaof", &to_it]).await?;
    let kv = kv_redis::open(&format!("redis://{},{}/app/", master.address, replica.address)).await?;
    let kv = kv.with_deadline(DEADLINE);
    assert_eq!(kv.capabilities().durability, Durability::MayLose);
    let mut watch = Mirror::new(kv.watch_tree("d").await?);
    assert_eq!(watch.event().await?, WatchEvent::Synced);
    let old = kv.put("d/k", "old").await?.version;
    soon("the replica to have it", async {
        let mut resp = replica.resp().await?;
        while resp.say("GET app/d/k").await? == Reply::Nothing {}
        Ok::<_, Failure>(())
    })
    .await??;
    between.freeze();
    let lost = kv.put("d/k", "lost").await?.version;
    let only_there = kv.put("d/lost", "").await?.version;
    let ttl = Duration::from_secs(60);
    let guard = kv.new_lock("l").ttl(ttl).acquire().await?;
    for told in [old, lost, only_there] {
        let event = soon("what was written", watch.event()).await??;
        assert!(matches!(&event, WatchEvent::Put(entry) if entry.version == told), "{event:?}");
    }
    master.daemon.kill();
    between.reset().await;
    assert_eq!(replica.resp().await?.say("REPLICAOF NO ONE").await?, Reply::Text(b"OK".into()));

    written(&kv, "up").await?;
    let found = kv.get("d/k").await?.ok_or("the older one is there")?;
    assert_eq!((found.text(), found.version), (Some("old"), old));
    watch.comes_to([found]).await?;
    // A compare-and-swap from a lost version fails, and the version of a new write was never given
    // before.
    assert!(kv.put("d/k", "x").if_version(lost).await.unwrap_err().is_conflict());
    let next = kv.put("d/k", "next").await?.version;
    assert!(next > lost, "{next} after {lost}");
    let second = soon("the lock that nobody holds by now", kv.new_lock("l").ttl(ttl).acquire()).await??;
    assert!(second.token() > guard.token());
    // The fence of the first holder is refused, whatever it believes.
    let e = kv.put("d/k", "by the first").fenced(&guard).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::LockLost, "{e}");
    kv.put("d/k", "by the second").fenced(&second).await?;
    Ok(())
}

/// A place in a queue that a failover lost is found to be lost, whether it held the lock or
/// waited, though the session exists.
#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_a_failover_lost_is_missed() -> Result<(), Failure> {
    let master = common::single("redis").await?;
    let between = Proxy::start(master.address).await;
    let to_it = format!("127.0.0.1 {}", between.address().port());
    let replica = common::with("redis", &["--replicaof", &to_it]).await?;
    let url = format!("redis://{},{}/app/", master.address, replica.address);
    let kv = kv_redis::open(&url).await?.with_deadline(DEADLINE);
    let ttl = Duration::from_secs(30);
    // The session, and one lock of it, are in both.
    let kept = kv.new_lock("kept").ttl(ttl).acquire().await?;
    soon("the replica to have it", async {
        let mut resp = replica.resp().await?;
        while resp.say("EXISTS app/.kv/lock/kept").await? == Reply::Number(0) {}
        Ok::<_, Failure>(())
    })
    .await??;
    between.freeze();
    let lost = kv.new_lock("lost").ttl(ttl).acquire().await?;
    let mut holder = kv.lock_holder("lost").watch().await?;
    while holder.event().await? != WatchEvent::Synced {}
    let waiting = tokio::spawn(kv.new_lock("kept").ttl(ttl).acquire());
    soon("the wait to begin", async {
        let mut resp = master.resp().await?;
        while resp.say("ZCARD app/.kv/lock/kept").await? != Reply::Number(2) {}
        Ok::<_, Failure>(())
    })
    .await??;
    master.daemon.kill();
    between.reset().await;
    assert_eq!(replica.resp().await?.say("REPLICAOF NO ONE").await?, Reply::Text(b"OK".into()));
    written(&kv, "up").await?;
    let gone = soon("the holder to be gone", async {
        loop {
            match holder.event().await? {
                WatchEvent::Synced => {}
                event => return Ok::<_, kv_core::Error>(event),
            }
        }
    })
    .await??;
    assert!(matches!(gone, WatchEvent::Delete { .. }), "{gone:?}");
    soon("the loss to be known", lost.lost()).await?;
    assert!(kept.is_held());
    soon("the wait to be in line again", async {
        let mut resp = replica.resp().await?;
        while resp.say("ZCARD app/.kv/lock/kept").await? != Reply::Number(2) {}
        Ok::<_, Failure>(())
    })
    .await??;
    assert!(kept.release().await?);
    soon("the lock", waiting).await???.release().await?;
    Ok(())
}

/// An operator made the master a replica, and it hears nothing of the new master: a client that
/// only reads and watches does not stay with its old data.
#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_is_none_any_more_is_not_read() -> Result<(), Failure> {
    for kind in ["redis", "redis8", "valkey"] {
        let old = common::single(kind).await?;
        let to_it = format!("127.0.0.1 {}", old.address.port());
        let new = common::with(kind, &["--replicaof", &to_it]).await?;
        let url = format!("redis://{},{}/app/", old.address, new.address);
        let readers: [_; 6] = futures::future::try_join_all((0..6).map(|_| kv_redis::open(&url)))
            .await?
            .try_into()
            .map_err(|_| "six")?;
        let [got, listed, existing, holders, swapped, asked] = &readers;
        let before = got.put("d/a", "old").await?.version;
        let mut watch = got.watch_tree("d").await?;
        while watch.event().await? != WatchEvent::Synced {}
        let guard = holders.new_lock("l").acquire().await?;
        for kv in &readers {
            assert!(kv.get("d/a").await?.is_some());
        }
        in_step(&old).await?;
        assert_eq!(new.resp().await?.say("REPLICAOF NO ONE").await?, Reply::Text(b"OK".into()));
        let nowhere = kv_testsuite::process::Port::new()?;
        let cut_off = format!("REPLICAOF 127.0.0.1 {}", nowhere.address().port());
        assert_eq!(old.resp().await?.say(&cut_off).await?, Reply::Text(b"OK".into()));
        let writer = kv_redis::open(&format!("redis://{}/app/", new.address)).await?;
        let after = writer.put("d/a", "new").await?.version;
        writer.put("d/b", "new").await?;
        new.resp().await?.say("DEL app/.kv/lock/l").await?;

        assert_eq!(got.get("d/a").await?.ok_or("d/a")?.version, after, "{kind}");
        assert_eq!(listed.list("d").await?.len(), 2);
        assert!(existing.exists("d/b").await?);
        assert!(holders.lock_holder("l").await?.is_none());
        swapped.put("d/a", "newer").if_version(after).await?;
        let leader = asked.health().await?.leader;
        assert_eq!(leader, Some(new.address.to_string()));
        let mut told = BTreeMap::new();
        soon("the watch to be at what is there", async {
            while told.get("d/a").is_none_or(|text| text != "newer") || !told.contains_key("d/b") {
                if let WatchEvent::Put(entry) = watch.event().await? {
                    told.insert(entry.key.to_string(), entry.text().unwrap_or_default().to_owned());
                }
            }
            Ok::<_, Failure>(())
        })
        .await??;
        assert!(after > before && !guard.release().await?);
    }
    Ok(())
}

/// A master with a replica, three sentinels that know both, and the URL of a store there.
struct Watched {
    master: Node,
    replica: Node,
    sentinels: Vec<Node>,
    url: String,
}

async fn watched_by_sentinels() -> Result<Watched, Failure> {
    let master = common::single("redis").await?;
    let to_it = format!("127.0.0.1 {}", master.address.port());
    let replica = common::with("redis", &["--replicaof", &to_it, "--replica-priority", "1"]).await?;
    soon("the replica to be in step", async {
        while !replica.resp().await?.say("INFO replication").await?.text().contains("master_link_status:up") {
        }
        Ok::<_, Failure>(())
    })
    .await??;
    let mut sentinels = Vec::new();
    for _ in 0..3 {
        let sentinel = Node::sentinel("redis", master.address)?;
        sentinel.start().await?;
        sentinels.push(sentinel);
    }
    let hosts: Vec<_> = sentinels.iter().map(|node| node.address.to_string()).collect();
    soon("the sentinels to know each other and the replica", async {
        for node in &sentinels {
            loop {
                let known = node.resp().await?.say("SENTINEL MASTER mymaster").await?.list();
                let known: Vec<_> = known.iter().map(Reply::text).collect();
                let of = |name: &str| {
                    known.iter().position(|n| n == name).and_then(|at| known.get(at + 1)).cloned()
                };
                if of("num-other-sentinels").as_deref() == Some("2")
                    && of("num-slaves").as_deref() == Some("1")
                {
                    break;
                }
            }
        }
        Ok::<_, Failure>(())
    })
    .await??;
    let url = format!("redis-sentinel://{}/app/?master=mymaster", hosts.join(","));
    Ok(Watched { master, replica, sentinels, url })
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_name_the_master() -> Result<(), Failure> {
    let Watched { master, url, replica: _replica, sentinels: _sentinels } = watched_by_sentinels().await?;
    let open = async || Ok(kv_redis::open(&url).await?.with_deadline(DEADLINE));
    let away = async || {
        in_step(&master).await?;
        master.daemon.kill();
        Ok(())
    };
    goes_on(open, away, async || Ok(())).await?;
    let e = kv_redis::open(&url.replace("mymaster", "other")).await.unwrap_err();
    assert!(e.kind() == ErrorKind::InvalidArgument && e.to_string().contains("\"other\""), "{e}");
    Ok(())
}

/// The master crashes, and is started again when the sentinels have made the replica the master:
/// for some seconds it takes itself for a master. A store that was idle meanwhile asks the
/// sentinels, and does not go back to where the master was.
#[tokio::test(flavor = "multi_thread")]
async fn a_deposed_master_that_comes_back_is_not_written_to() -> Result<(), Failure> {
    let Watched { master, replica, sentinels, url } = watched_by_sentinels().await?;
    let kv = kv_redis::open(&url).await?;
    kv.put("before", "").await?;
    in_step(&master).await?;
    master.daemon.kill();
    let named = replica.address.port().to_string();
    soon("the sentinels to name the replica", async {
        for node in &sentinels {
            let mut resp = node.resp().await?;
            loop {
                let master = resp.say("SENTINEL GET-MASTER-ADDR-BY-NAME mymaster").await?.list();
                if master.get(1).map(Reply::text).as_ref() == Some(&named) {
                    break;
                }
            }
        }
        Ok::<_, Failure>(())
    })
    .await??;
    master.start().await?;
    written(&kv, "after").await?;
    assert_eq!(replica.resp().await?.say("EXISTS app/after").await?, Reply::Number(1));
    Ok(())
}

/// An operator resets the sentinel while the master is out of reach: for a while the sentinel knows
/// no master, which says nothing of the settings of a store that is open.
#[tokio::test(flavor = "multi_thread")]
async fn a_sentinel_that_knows_no_master_for_a_while_is_asked_again() -> Result<(), Failure> {
    let master = common::single("redis").await?;
    let sentinel = Node::sentinel("redis", master.address)?;
    sentinel.start().await?;
    let proxy = Proxy::start(master.address).await;
    let config = kv_redis::Config::sentinel([sentinel.address.to_string()], "mymaster").prefix("app");
    let config = config.reached(master.address.to_string(), proxy.address().to_string());
    let kv = config.open().await?.with_deadline(DEADLINE);
    let mut watch = kv.watch_tree("d").await?;
    assert_eq!(soon("what is there", watch.event()).await??, WatchEvent::Synced);
    proxy.cut().await;
    let done = Reply::Text(b"OK".into());
    assert_eq!(sentinel.resp().await?.say("SENTINEL REMOVE mymaster").await?, done);
    let e = kv.get("d/k").await.unwrap_err();
    assert!(e.is_transient() && e.to_string().contains("knows no master"), "{e}");
    let mut wait = tokio::spawn(kv.new_lock("l").ttl(Duration::from_secs(60)).acquire());
    let early = tokio::time::timeout(DEADLINE, &mut wait).await;
    assert!(early.is_err(), "the wait ended: {early:?}");
    let (ip, port) = (master.address.ip(), master.address.port());
    let again = format!("SENTINEL MONITOR mymaster {ip} {port} 2");
    assert_eq!(sentinel.resp().await?.say(&again).await?, done);
    proxy.heal().await;
    let guard = soon("the lock", wait).await???;
    let version = kv.put("d/k", "v").fenced(&guard).await?.version;
    soon("the watch to go on", async {
        loop {
            match watch.event().await? {
                WatchEvent::Put(entry) if entry.version == version => return Ok::<_, kv_core::Error>(()),
                _ => {}
            }
        }
    })
    .await??;
    assert!(guard.release().await?);
    Ok(())
}
