//! Clusters, and a master with sentinels: the master of our slot is killed, paused, and gives its place away.

mod common;

use common::{Node, Reply, cluster::Cluster};
use kv_core::{Durability, ErrorKind, Kv, Linearizable, WatchEvent};
use kv_testsuite::{
    Failure, Proxy,
    failover::{goes_on, soon, written},
};
use std::time::Duration;

/// Short, so that what a lost master costs is paid often.
const DEADLINE: Duration = Duration::from_secs(2);

async fn open(cluster: &Cluster) -> Result<Kv, Failure> {
    Ok(kv_redis::open(&format!("{}app/", cluster.url())).await?.with_deadline(DEADLINE))
}

/// The master's replica has all that was written so far.
async fn in_step(master: &Node) -> Result<(), Failure> {
    let mut resp = master.resp().await?;
    let mut offset = async |of: &str| {
        let said = resp.say("INFO replication").await?.text();
        let at = said.split_once(of).map(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next());
        Ok::<_, Failure>(at.flatten().and_then(|at| at.parse::<u64>().ok()))
    };
    let written = offset("master_repl_offset:").await?.ok_or("a master tells its offset")?;
    // It says where it is once a second.
    soon("the replica in step", async {
        while offset(",offset=").await?.is_none_or(|at| at < written) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, Failure>(())
    })
    .await?
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_is_killed() -> Result<(), Failure> {
    let cluster = Cluster::start("redis", 1000).await?;
    let kv = open(&cluster).await?;
    let master = cluster.owner("{app/}").await?;
    let away = async || {
        in_step(master).await?;
        master.daemon.kill();
        Ok(())
    };
    goes_on(&kv, away, async || master.start().await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_is_paused() -> Result<(), Failure> {
    let cluster = Cluster::start("redis", 1000).await?;
    let kv = open(&cluster).await?;
    let master = cluster.owner("{app/}").await?;
    let away = async || {
        in_step(master).await?;
        master.daemon.pause();
        Ok(())
    };
    let back = async || {
        master.daemon.resume();
        Ok(())
    };
    goes_on(&kv, away, back).await
}

/// No connection breaks: the node that gave its place away ends its subscriptions, and refuses writes.
#[tokio::test(flavor = "multi_thread")]
async fn the_master_gives_its_place_away() -> Result<(), Failure> {
    let cluster = Cluster::start("redis8", 1000).await?;
    let kv = open(&cluster).await?;
    let master = cluster.owner("{app/}").await?;
    let port = master.address.port();
    let away = async || {
        for node in &cluster.0 {
            let role = node.resp().await?.say("ROLE").await?.list();
            if role.get(2) == Some(&Reply::Number(port.into())) {
                let mut resp = node.resp().await?;
                assert_eq!(resp.say("CLUSTER FAILOVER").await?, Reply::Text(b"OK".into()));
                return soon("another master", async {
                    while resp.say("ROLE").await?.list()[0].text() != "master" {}
                    Ok::<_, Failure>(())
                })
                .await?;
            }
        }
        Err("the master has a replica".into())
    };
    goes_on(&kv, away, async || Ok(())).await
}

/// The slot is moved to another node that lives on beside the old one: its subscriptions end without a word.
#[tokio::test(flavor = "multi_thread")]
async fn the_slot_is_moved() -> Result<(), Failure> {
    let cluster = Cluster::start("redis", 1000).await?;
    let kv = open(&cluster).await?;
    let from = cluster.owner("{app/}").await?;
    // Slots of other nodes.
    let mut others = Vec::new();
    for name in ["a", "b", "c", "d", "e", "f"] {
        let owner = cluster.owner(name).await?;
        others.extend((owner.address != from.address).then_some(owner));
    }
    let to = others.first().ok_or("there are other masters")?;
    let away = async || {
        let (mut old, mut new) = (from.resp().await?, to.resp().await?);
        let Reply::Number(slot) = old.say("CLUSTER KEYSLOT {app/}").await? else {
            return Err("a slot".into());
        };
        let (old_id, new_id) = (old.say("CLUSTER MYID").await?.text(), new.say("CLUSTER MYID").await?.text());
        new.say(&format!("CLUSTER SETSLOT {slot} IMPORTING {old_id}")).await?;
        old.say(&format!("CLUSTER SETSLOT {slot} MIGRATING {new_id}")).await?;
        soon("all keys to be moved", async {
            loop {
                let names = old.say(&format!("CLUSTER GETKEYSINSLOT {slot} 100")).await?.list();
                let names: Vec<_> = names.iter().map(Reply::text).collect();
                if names.is_empty() {
                    return Ok::<_, Failure>(());
                }
                let port = to.address.port().to_string();
                let head = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
                let parts = head.into_iter().chain(names.iter().map(String::as_str)).map(str::as_bytes);
                let parts: Vec<_> = parts.collect();
                let moved = old.ask(&parts).await?;
                assert_ne!(moved.text(), "NOKEY");
            }
        })
        .await??;
        for resp in [&mut new, &mut old] {
            resp.say(&format!("CLUSTER SETSLOT {slot} NODE {new_id}")).await?;
        }
        Ok(())
    };
    goes_on(&kv, away, async || Ok(())).await?;
    assert_eq!(cluster.owner("{app/}").await?.address, to.address);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_says_what_it_may_lose() -> Result<(), Failure> {
    let cluster = Cluster::start("valkey", 1000).await?;
    let kv = open(&cluster).await?;
    assert_eq!(kv.capabilities().durability, Durability::MayLose);
    assert_eq!(kv.capabilities().linearizable, Linearizable::ExceptDuringLeaderChange);
    let master = cluster.owner("{app/}").await?;
    let health = kv.health().await?;
    assert_eq!(health.leader, Some(master.address.to_string()));
    assert_eq!(health.members.len(), 2, "{health:?}");
    // The names have the tag, and the server's tool finds them.
    kv.put("color", "red").await?;
    let mut resp = master.resp().await?;
    assert_eq!(resp.say("GET {app/}color").await?, Reply::Text(b"red".into()));
    // A prefix with a tag of its own is used byte for byte.
    let tagged = kv_redis::open(&format!("{}x%7Bt%7D/", cluster.url())).await?;
    tagged.put("a", "1").await?;
    let owner = cluster.owner("x{t}/a").await?;
    assert_eq!(owner.resp().await?.say("GET x{t}/a").await?, Reply::Text(b"1".into()));
    // One who opens it as what it is not is told.
    let e = kv_redis::open(&format!("redis://{}/", master.address)).await.unwrap_err();
    assert!(e.kind() == ErrorKind::InvalidArgument && e.to_string().contains("redis-cluster://"), "{e}");
    Ok(())
}

/// What a failover loses is found out by fences and watches: a replica that has heard nothing for a while takes over.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_failover_loses_gives_nothing_twice() -> Result<(), Failure> {
    let master = common::single("redis").await?;
    let between = Proxy::start(master.address).await;
    let to_it = format!("127.0.0.1 {}", between.address().port());
    let replica = common::with("redis", &["--replicaof", &to_it]).await?;
    let kv = kv_redis::open(&format!("redis://{},{}/app/", master.address, replica.address)).await?;
    let kv = kv.with_deadline(DEADLINE);
    assert_eq!(kv.capabilities().durability, Durability::MayLose);
    let mut watch = kv.watch_tree("d").await?;
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
    let mut map =
        std::collections::BTreeMap::from([("d/k".to_owned(), lost), ("d/lost".to_owned(), only_there)]);
    soon("the watch to be at what is there", async {
        while map != std::collections::BTreeMap::from([("d/k".to_owned(), old)]) {
            match watch.event().await? {
                WatchEvent::Put(entry) => drop(map.insert(entry.key.to_string(), entry.version)),
                WatchEvent::Delete { key, .. } => drop(map.remove(key.as_str())),
                WatchEvent::Synced => {}
            }
        }
        Ok::<_, Failure>(())
    })
    .await??;
    // A compare-and-swap from what was lost fails, and what is written now was never given before.
    assert!(kv.put("d/k", "x").if_version(lost).await.unwrap_err().is_conflict());
    let next = kv.put("d/k", "next").await?.version;
    assert!(next > lost, "{next} after {lost}");
    let second = soon("the lock that nobody holds by now", kv.new_lock("l").ttl(ttl).acquire()).await??;
    assert!(second.token() > guard.token());
    // The first one's fence is refused, whatever it believes.
    let e = kv.put("d/k", "by the first").fenced(&guard).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::LockLost, "{e}");
    kv.put("d/k", "by the second").fenced(&second).await?;
    Ok(())
}

/// A cluster that is down says so before it does anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_down_did_nothing() -> Result<(), Failure> {
    let cluster = Cluster::start("redis", 1000).await?;
    let kv = open(&cluster).await?;
    kv.put("a", "1").await?;
    let mut watch = kv.watch_tree("").await?;
    while watch.event().await? != WatchEvent::Synced {}
    // Another master, and its replica: its slots are nobody's.
    let ours = cluster.owner("{app/}").await?.address;
    let mut lost = None;
    for name in ["a", "b", "c", "d", "e", "f"] {
        let owner = cluster.owner(name).await?;
        lost = (owner.address != ours).then_some(owner.address).or(lost);
    }
    let lost = lost.ok_or("there are other masters")?;
    let mut gone = Vec::new();
    for node in &cluster.0 {
        let role = node.resp().await?.say("ROLE").await?.list();
        if node.address == lost || role.get(2) == Some(&Reply::Number(lost.port().into())) {
            gone.push(node);
        }
    }
    gone.iter().for_each(|node| node.daemon.kill());
    let (mut seen, mut written) = (0, Vec::new());
    soon("the cluster to be down", async {
        for n in 0.. {
            let puts = (0..4).map(|i| kv.put(format!("n/{n}/{i}"), "").into_future());
            let puts = futures::future::join_all(puts).await;
            for (i, put) in puts.into_iter().enumerate() {
                match put {
                    Ok(_) => written.push(format!("n/{n}/{i}")),
                    // Behind one that was refused, others of the same connection are not known of.
                    Err(e) if e.kind() == ErrorKind::OutcomeUnknown && i > 0 => {}
                    Err(e) => {
                        assert_eq!(e.kind(), ErrorKind::Unavailable, "{n}/{i}: {e}");
                        assert!(e.to_string().contains("cluster is down"), "{e}");
                        seen += 1;
                    }
                }
            }
            if seen > 3 {
                break;
            }
        }
    })
    .await?;
    for _ in 0..3 {
        let e = kv.put("alone", "").await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
    }
    for node in gone {
        node.start().await?;
    }
    cluster.serves().await?;
    kv.put("back", "").await?;
    soon("the watch to go on", async {
        while !matches!(watch.event().await?, WatchEvent::Put(entry) if entry.key.as_str() == "back") {}
        Ok::<_, kv_core::Error>(())
    })
    .await??;
    assert!(!kv.exists("alone").await?);
    Ok(())
}

/// A place in line that a failover lost is found to be lost, held or waited for, though the session is there.
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

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_name_the_master() -> Result<(), Failure> {
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
    let kv = kv_redis::open(&url).await?.with_deadline(DEADLINE);
    let away = async || {
        in_step(&master).await?;
        master.daemon.kill();
        Ok(())
    };
    goes_on(&kv, away, async || Ok(())).await?;
    let e = kv_redis::open(&url.replace("mymaster", "other")).await.unwrap_err();
    assert!(e.kind() == ErrorKind::InvalidArgument && e.to_string().contains("\"other\""), "{e}");
    Ok(())
}
