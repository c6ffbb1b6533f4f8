//! Three members: the leader is killed, and paused; reads, writes, watches and locks go on.

mod common;

use common::{Node, Setup, nodes};
use kv_core::{ErrorKind, Kv, Version, WatchEvent};
use kv_testsuite::{Failure, Proxy};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{Instant, timeout};

const SOON: Duration = Duration::from_secs(60);

struct Ensemble(Vec<Node>);

impl Ensemble {
    async fn start(kind: &str) -> Result<Self, Failure> {
        let nodes = nodes(&Setup::new(kind), 3)?;
        for node in &nodes {
            node.daemon.spawn()?;
        }
        for node in &nodes {
            node.ready().await?;
        }
        Ok(Self(nodes))
    }

    async fn open(&self) -> Result<Kv, Failure> {
        let hosts: Vec<_> = self.0.iter().map(|node| node.address.to_string()).collect();
        Ok(kv_zookeeper::open(&format!("zookeeper://{}/ensemble/", hosts.join(","))).await?)
    }

    async fn leader(&self) -> Result<&Node, Failure> {
        let deadline = Instant::now() + SOON;
        while Instant::now() < deadline {
            for node in &self.0 {
                if node.mode().await.is_ok_and(|mode| mode == "leader") {
                    return Ok(node);
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err("no member leads".into())
    }
}

async fn written(kv: &Kv, key: &str, n: u64) -> Result<Version, Failure> {
    let deadline = Instant::now() + SOON;
    loop {
        match kv.put(key, n.to_string()).deadline(Duration::from_secs(3)).await {
            Ok(written) => return Ok(written.version),
            Err(e) if Instant::now() > deadline => return Err(e.into()),
            Err(e) => {
                let fine = matches!(
                    e.kind(),
                    ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::OutcomeUnknown
                );
                assert!(fine, "{e}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

async fn follow(
    watch: &mut kv_core::Watch,
    mirror: &mut BTreeMap<String, Version>,
    until: (&str, Version),
) -> Result<(), Failure> {
    let reading = async {
        while mirror.get(until.0) != Some(&until.1) {
            match watch.event().await? {
                WatchEvent::Put(entry) => drop(mirror.insert(entry.key.to_string(), entry.version)),
                WatchEvent::Delete { key, .. } => drop(mirror.remove(key.as_str())),
                WatchEvent::Synced => {}
            }
        }
        Ok::<_, Failure>(())
    };
    timeout(SOON, reading).await?
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Killed,
    Paused,
}

async fn without_its_leader(kind: &str, fate: Fate) -> Result<(), Failure> {
    let ensemble = Ensemble::start(kind).await?;
    let (kv, other) = (ensemble.open().await?, ensemble.open().await?);
    let health = kv.health().await?;
    assert_eq!(health.members.len(), 3, "{health:?}");
    let leader = ensemble.leader().await?;
    assert_eq!(health.leader, Some(leader.address.to_string()));
    let ttl = Duration::from_secs(20);
    let (guard, lease) = (kv.new_lock("l").ttl(ttl).acquire().await?, kv.lease(ttl).await?);
    kv.put("leased", "").lease(&lease).await?;
    let first = written(&other, "d/k", 0).await?;
    let (mut watch, mut mirror) = (kv.watch_tree("").await?, BTreeMap::new());
    follow(&mut watch, &mut mirror, ("d/k", first)).await?;
    match fate {
        Fate::Killed => leader.daemon.kill(),
        Fate::Paused => leader.daemon.pause(),
    }
    let mut last = first;
    for n in 1..=20 {
        let version = written(&other, "d/k", n).await?;
        assert!(version > last, "versions go up over a change of the leader");
        last = version;
        let found = timeout(SOON, async {
            loop {
                match kv.get("d/k").await {
                    Ok(found) => return found,
                    Err(e) => assert!(e.is_transient(), "{e}"),
                }
            }
        });
        assert_eq!(found.await?.map(|entry| entry.version), Some(last), "an acknowledged write is read");
    }
    follow(&mut watch, &mut mirror, ("d/k", last)).await?;
    assert!(guard.is_held() && lease.is_held(), "{fate:?}");
    let second = timeout(SOON, async {
        loop {
            match other.new_lock("l").ttl(ttl).try_acquire().await {
                Ok(second) => return second,
                Err(e) => assert!(e.is_transient(), "{e}"),
            }
        }
    });
    assert!(second.await?.is_none(), "two hold the lock");
    timeout(SOON, async { while kv.put("fenced", "").fenced(&guard).await.is_err() {} }).await?;
    match fate {
        Fate::Killed => leader.start().await?,
        Fate::Paused => leader.daemon.resume(),
    }
    let last = written(&kv, "last", 0).await?;
    follow(&mut watch, &mut mirror, ("last", last)).await?;
    let listed: BTreeMap<_, _> =
        kv.list("").await?.into_iter().map(|e| (e.key.to_string(), e.version)).collect();
    assert_eq!(mirror, listed);
    kv.close().await?;
    Ok(other.close().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_killed() -> Result<(), Failure> {
    without_its_leader("zookeeper", Fate::Killed).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_paused() -> Result<(), Failure> {
    without_its_leader("zookeeper", Fate::Paused).await
}

/// A follower may have done, and acknowledged, a write that the leader itself has still to do.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_member_acknowledged_is_read_at_another() -> Result<(), Failure> {
    let ensemble = Ensemble::start("zookeeper").await?;
    let leader = ensemble.leader().await?.address;
    let (mut leads, mut follow) = (None, Vec::new());
    for node in &ensemble.0 {
        let kv = kv_zookeeper::open(&format!("zookeeper://{}/ensemble/", node.address)).await?;
        match node.address == leader {
            true => leads = Some(kv),
            false => follow.push(kv),
        }
    }
    let leads = leads.ok_or("the leader is a member")?;
    let mut rounds = tokio::task::JoinSet::new();
    for (n, (writer, reader)) in
        [(&follow[0], &leads), (&follow[0], &follow[1]), (&leads, &follow[0])].into_iter().enumerate()
    {
        for task in 0..32 {
            let (writer, reader, key) = (writer.clone(), reader.clone(), format!("k/{n}/{task}"));
            rounds.spawn(async move {
                for n in 0..100 {
                    let version = writer.put(&key, n.to_string()).await?.version;
                    let read = reader.get(&key).await?.map(|entry| entry.version);
                    assert_eq!(read, Some(version), "{key} in round {n}");
                    // Nor is there a conflict where there was no other write.
                    reader.put(&key, "").if_version(version).await?;
                }
                Ok::<_, kv_core::Error>(())
            });
        }
    }
    while let Some(round) = rounds.join_next().await {
        round??;
    }
    for kv in follow.into_iter().chain([leads]) {
        kv.close().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_a_quorum_serves_nobody() -> Result<(), Failure> {
    let ensemble = Ensemble::start("zookeeper38").await?;
    let kv = ensemble.open().await?;
    kv.put("k", "v").await?;
    ensemble.0[1].daemon.kill();
    ensemble.0[2].daemon.kill();
    let refused = async {
        loop {
            // A write at the moment of the loss may be done.
            match kv.put("k", "never").deadline(Duration::from_secs(1)).await {
                Err(e) if e.kind() == ErrorKind::Unavailable => return e,
                _ => {}
            }
        }
    };
    timeout(SOON, refused).await?;
    let e = kv.get("k").stale().deadline(Duration::from_secs(1)).await.err().ok_or("it answered")?;
    assert!(e.is_transient(), "{e}");
    for node in &ensemble.0[1..] {
        node.daemon.spawn()?;
    }
    written(&kv, "k", 1).await?;
    Ok(kv.close().await?)
}

/// A session waits for a member that grants it enough, as long as there may be one.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_taken_up_by_a_member_that_grants_it_enough() -> Result<(), Failure> {
    let nodes = nodes(&Setup::new("zookeeper"), 2)?;
    nodes[0].grants_at_most(Duration::from_secs(4))?;
    for node in &nodes {
        node.daemon.spawn()?;
    }
    for node in &nodes {
        node.ready().await?;
    }
    let (less, enough) = (Proxy::start(nodes[0].address).await, Proxy::start(nodes[1].address).await);
    less.cut().await;
    let kv =
        kv_zookeeper::open(&format!("zookeeper://{},{}/more/", less.address(), enough.address())).await?;
    let guard = kv.new_lock("l").ttl(Duration::from_secs(40)).acquire().await?;
    let owner = nodes[1].owner().await?;
    for _ in 0..3 {
        less.heal().await;
        less.hold_answer_to(owner.to_be_bytes());
        enough.cut().await;
        // Each attempt asks the only member that is left.
        let asked = less.traffic().connections + 6;
        tokio::select! {
            biased;
            () = less.trapped() => return Err("the session was given to the member that grants it less".into()),
            () = async { while less.traffic().connections < asked { tokio::task::yield_now().await } } => {}
        }
        enough.heal().await;
        kv.put("k", "v").fenced(&guard).deadline(SOON).await?;
        let taken_up = async {
            while !nodes[1].connected().await?.contains(&format!("{owner:x}")) {}
            Ok::<_, Failure>(())
        };
        timeout(SOON, taken_up).await??;
        assert!(guard.is_held());
    }
    assert!(guard.release().await?);
    Ok(kv.close().await?)
}

/// A new session is opened at a member that grants it enough, whichever member is asked first.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_begun_at_a_member_that_grants_it_enough() -> Result<(), Failure> {
    let nodes = nodes(&Setup::new("zookeeper"), 2)?;
    nodes[0].grants_at_most(Duration::from_secs(4))?;
    for node in &nodes {
        node.daemon.spawn()?;
    }
    for node in &nodes {
        node.ready().await?;
    }
    // The store learns from the first host which TTLs there are.
    let hosts = format!("{},{}", nodes[1].address, nodes[0].address);
    let kv = kv_zookeeper::open(&format!("zookeeper://{hosts}/begun/")).await?;
    for round in 0..10 {
        let lease = kv.lease(Duration::from_secs(40)).await.map_err(|e| format!("round {round}: {e}"))?;
        assert!(lease.revoke().await?);
    }
    Ok(kv.close().await?)
}
