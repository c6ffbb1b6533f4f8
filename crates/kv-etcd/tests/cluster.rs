//! Three members: the leader is killed, paused, cut off from us; and a member is left without a quorum.

mod common;

use common::{Failure, Node, Setup, nodes};
use kv_core::{ErrorKind, Kv, Result, WatchEvent};
use kv_testsuite::Proxy;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

/// What must come has come by then.
const SOON: Duration = Duration::from_secs(30);
/// Short, so that what a lost leader costs is paid often.
const DEADLINE: Duration = Duration::from_secs(2);

struct Cluster(Vec<Node>);

impl Cluster {
    async fn start() -> Result<Self, Failure> {
        let nodes = nodes(&Setup::cluster("etcd"), 3)?;
        nodes.iter().try_for_each(Node::spawn)?;
        for node in &nodes {
            node.ready().await?;
        }
        Ok(Self(nodes))
    }

    /// Members first that are to be asked first.
    async fn open<'a>(&self, members: impl IntoIterator<Item = &'a str>) -> Result<Kv, Failure> {
        let hosts = members.into_iter().collect::<Vec<_>>().join(",");
        Ok(kv_etcd::open(&format!("etcd://{hosts}/cluster/")).await?.with_deadline(DEADLINE))
    }

    /// The leader and the others.
    async fn leader(&self) -> Result<(&Node, Vec<&Node>), Failure> {
        let all: Vec<_> = self.0.iter().map(|node| node.address.to_string()).collect();
        let kv = self.open(all.iter().map(String::as_str)).await?;
        let health = kv.health().await?;
        assert_eq!(health.members.len(), 3, "{health:?}");
        let leader = health.leader.ok_or("the cluster has a leader")?;
        let (mut leading, others): (Vec<_>, Vec<_>) = self.0.iter().partition(|node| node.is(&leader));
        Ok((leading.pop().ok_or("the leader is one of ours")?, others))
    }
}

/// Someone who writes a growing number all the time.
struct Writer {
    task: tokio::task::JoinHandle<Result<Vec<u64>, Failure>>,
    end: Arc<AtomicBool>,
    /// The number that was acknowledged last, and how many were.
    sure: watch::Receiver<(u64, u64)>,
}

impl Writer {
    fn start(kv: Kv, key: &'static str) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let ended = end.clone();
        let (told, sure) = watch::channel((0, 0));
        let task = tokio::spawn(async move {
            let (mut last, mut unknown) = (None, Vec::new());
            for n in 0_u64.. {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                match kv.put(key, n.to_string()).await {
                    Ok(written) => {
                        assert!(Some(written.version) > last, "versions only grow");
                        last = Some(written.version);
                        told.send_modify(|(newest, count)| (*newest, *count) = (n, *count + 1));
                    }
                    Err(e) => {
                        use ErrorKind::{OutcomeUnknown, Timeout, Unavailable};
                        assert!(matches!(e.kind(), OutcomeUnknown | Timeout | Unavailable), "{e:?}");
                        unknown.extend((e.kind() == OutcomeUnknown).then_some(n));
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(unknown)
        });
        Self { task, end, sure }
    }

    /// Waits until some more were acknowledged.
    async fn some_more(&mut self) -> Result<(), Failure> {
        let before = self.sure.borrow().1;
        soon("acknowledged writes", self.sure.wait_for(|(_, count)| *count > before + 3)).await??;
        Ok(())
    }

    /// The numbers that may be there in the end: the last that was acknowledged, and those of which nobody knows, which
    /// may arrive as late as the link or the member comes back.
    async fn end(self) -> Result<Vec<u64>, Failure> {
        self.end.store(true, Ordering::Relaxed);
        let mut possible = self.task.await??;
        possible.push(self.sure.borrow().0);
        Ok(possible)
    }
}

async fn soon<T>(what: &str, coming: impl Future<Output = T>) -> Result<T, Failure> {
    timeout(SOON, coming).await.map_err(|_| format!("waited {SOON:?} in vain for {what}").into())
}

/// Writes until it is done.
async fn written(kv: &Kv, key: &str) -> Result<(), Failure> {
    soon("a write", async {
        while let Err(e) = kv.put(key, "").await {
            assert!(e.is_transient() || e.kind() == ErrorKind::OutcomeUnknown, "{e:?}");
        }
    })
    .await
}

/// Everything that goes on while the leader is taken away: nobody who asks the others notices more than a pause.
async fn goes_on(
    kv: &Kv,
    cluster: &Cluster,
    away: impl AsyncFnOnce() -> Result<(), Failure>,
    back: impl AsyncFnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut changes = kv.watch_tree("w").await?;
    assert_eq!(changes.event().await?, WatchEvent::Synced);
    let ttl = Duration::from_secs(20);
    let guard = kv.new_lock("l").ttl(ttl).acquire().await?;
    let lease = kv.lease(ttl).await?;
    kv.put("leased", "").lease(&lease).await?;
    let mut waiting = tokio::spawn(kv.new_lock("l").ttl(ttl).acquire());
    let mut writer = Writer::start(kv.clone(), "w/n");
    writer.some_more().await?;

    away().await?;
    written(kv, "w/while-away").await?;
    assert!(kv.get("w/while-away").await?.is_some(), "a read after a write sees it");
    let began = Instant::now();
    soon("a fenced write", async {
        while let Err(e) = kv.put("fenced", "").fenced(&guard).await {
            assert!(e.is_transient() || e.kind() == ErrorKind::OutcomeUnknown, "{e:?}");
        }
    })
    .await?;
    assert!(guard.is_held() && lease.is_held(), "renewed by another member, {:?} later", began.elapsed());
    assert!(timeout(Duration::from_millis(100), &mut waiting).await.is_err(), "nobody else gets the lock");
    writer.some_more().await?;
    back().await?;

    let possible = writer.end().await?;
    written(kv, "w/end").await?;
    let listed = async || -> Result<BTreeMap<_, _>> {
        Ok(kv.list("w").await?.into_iter().map(|entry| (entry.key.to_string(), entry)).collect())
    };
    let mut mirror = BTreeMap::new();
    soon("what a listing shows", async {
        // A write whose answer was lost may still be on its way.
        while mirror != listed().await? || !mirror.contains_key("w/end") {
            match changes.event().await? {
                WatchEvent::Put(entry) => drop(mirror.insert(entry.key.to_string(), entry)),
                WatchEvent::Delete { key, .. } => drop(mirror.remove(key.as_str())),
                WatchEvent::Synced => {}
            }
        }
        Ok::<_, kv_core::Error>(())
    })
    .await??;
    assert_eq!(mirror.keys().collect::<Vec<_>>(), ["w/end", "w/n", "w/while-away"]);
    let last: u64 = mirror["w/n"].text().ok_or("a number")?.parse()?;
    assert!(possible.contains(&last), "{last} is there, and could be one of {possible:?}");

    let token = guard.token();
    guard.release().await?;
    let next = soon("the lock", waiting).await???;
    assert!(next.token() > token);
    assert!(kv.exists("leased").await?, "the lease was kept alive");
    cluster.leader().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_killed() -> Result<(), Failure> {
    let cluster = Cluster::start().await?;
    let (leader, others) = cluster.leader().await?;
    // We ask the leader first.
    let members: Vec<_> = [leader].into_iter().chain(others).map(|node| node.address.to_string()).collect();
    let kv = cluster.open(members.iter().map(String::as_str)).await?;
    let away = async || {
        leader.kill();
        Ok(())
    };
    goes_on(&kv, &cluster, away, async || leader.start().await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_paused() -> Result<(), Failure> {
    let cluster = Cluster::start().await?;
    let (leader, others) = cluster.leader().await?;
    let members: Vec<_> = [leader].into_iter().chain(others).map(|node| node.address.to_string()).collect();
    let kv = cluster.open(members.iter().map(String::as_str)).await?;
    let away = async || {
        leader.pause();
        Ok(())
    };
    let back = async || {
        leader.resume();
        Ok(())
    };
    goes_on(&kv, &cluster, away, back).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_cut_off_from_us() -> Result<(), Failure> {
    let cluster = Cluster::start().await?;
    let (leader, others) = cluster.leader().await?;
    for freeze in [true, false] {
        let proxy = Proxy::start(leader.address).await;
        let mut members = vec![proxy.address().to_string()];
        members.extend(others.iter().map(|node| node.address.to_string()));
        let kv = cluster.open(members.iter().map(String::as_str)).await?;
        let away = async || {
            if freeze {
                proxy.freeze()
            } else {
                proxy.cut().await
            }
            Ok(())
        };
        let back = async || {
            proxy.heal().await;
            Ok(())
        };
        goes_on(&kv, &cluster, away, back).await?;
        kv.delete_tree("").await?;
        kv.close().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_was_lost_goes_to_no_other_member() -> Result<(), Failure> {
    let cluster = Cluster::start().await?;
    let proxy = Proxy::start(cluster.0[0].address).await;
    let members = [proxy.address(), cluster.0[1].address, cluster.0[2].address].map(|a| a.to_string());
    let kv = cluster.open(members.iter().map(String::as_str)).await?;
    let other = cluster.open([members[1].as_str()]).await?;
    for round in 0..5 {
        let (key, ours) = (format!("k{round}"), format!("ours, of round {round}"));
        // The member that is asked first is the one behind the proxy again.
        kv.close().await?;
        let kv = cluster.open(members.iter().map(String::as_str)).await?;
        kv.get("up").await?;
        proxy.hold_answer_to(&ours);
        let put = tokio::spawn(kv.put(&key, ours.clone()).into_future());
        soon("the request", proxy.trapped()).await?;
        soon("its effect", async {
            while other.get(&key).await?.is_none() {}
            Ok::<_, kv_core::Error>(())
        })
        .await??;
        let theirs = other.put(&key, "theirs").await?.version;
        proxy.reset().await;
        let e = put.await?.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::OutcomeUnknown, "{e}");
        proxy.heal().await;
        // The next call goes elsewhere or comes through, and finds what the other wrote.
        let found = kv.get(&key).await?.ok_or("it is there")?;
        assert_eq!((found.text(), found.version), (Some("theirs"), theirs));
        kv.close().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_a_quorum() -> Result<(), Failure> {
    let cluster = Cluster::start().await?;
    let [alone, b, c] = &cluster.0[..] else { return Err("three members".into()) };
    let address = alone.address.to_string();
    let kv = cluster.open([address.as_str()]).await?;
    let before = kv.put("k", "v").await?.version;
    // It has the write too, which the other two alone could have acknowledged.
    assert!(kv.exists("k").await?);
    b.kill();
    c.kill();
    soon("the leader to be missed", async {
        // Who lost the quorum gives its leadership up within an election time-out.
        while kv.get("k").await.is_ok() {}
    })
    .await?;
    for error in [
        kv.get("k").await.map(drop).unwrap_err(),
        kv.list("").await.map(drop).unwrap_err(),
        kv.health().await.map(drop).unwrap_err(),
    ] {
        assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{error}");
    }
    let found = kv.get("k").stale().await?.ok_or("it is there")?;
    assert_eq!(found.version, before);
    // Refused at the door: it never happens.
    let refused = soon("a refusal", async {
        loop {
            let e = kv.put("k", "never").await.unwrap_err();
            if e.kind() != ErrorKind::OutcomeUnknown {
                break e;
            }
        }
    });
    assert_eq!(refused.await?.kind(), ErrorKind::Unavailable);
    b.spawn()?;
    c.spawn()?;
    written(&kv, "k").await
}
