//! Three members: the leader is killed, paused, cut off from us; and a member is left without a
//! quorum.

mod common;

use common::{Node, Setup, nodes};
use kv_core::{ErrorKind, Kv};
use kv_testsuite::{
    Failure, Proxy,
    failover::{goes_on, soon, written},
};
use std::time::Duration;

/// Sets a short deadline, so that many calls meet the loss of a leader.
const DEADLINE: Duration = Duration::from_secs(2);

struct Cluster(Vec<Node>);

impl Cluster {
    async fn start() -> Result<Self, Failure> {
        let nodes = nodes(&Setup::cluster("etcd"), 3)?;
        nodes.iter().try_for_each(|node| node.daemon.spawn())?;
        for node in &nodes {
            node.ready().await?;
        }
        Ok(Self(nodes))
    }

    /// Opens a store on these members, of which the first is asked first.
    async fn open<'a>(&self, members: impl IntoIterator<Item = &'a str>) -> Result<Kv, Failure> {
        let hosts = members.into_iter().collect::<Vec<_>>().join(",");
        Ok(kv_etcd::open(&format!("etcd://{hosts}/cluster/")).await?.with_deadline(DEADLINE))
    }

    /// Returns the leader and the other members.
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

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_killed() -> Result<(), Failure> {
    let cluster = Cluster::start().await?;
    let (leader, others) = cluster.leader().await?;
    // We ask the leader first.
    let members: Vec<_> = [leader].into_iter().chain(others).map(|node| node.address.to_string()).collect();
    let kv = cluster.open(members.iter().map(String::as_str)).await?;
    let away = async || {
        leader.daemon.kill();
        Ok(())
    };
    goes_on(&kv, away, async || leader.start().await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_paused() -> Result<(), Failure> {
    let cluster = Cluster::start().await?;
    let (leader, others) = cluster.leader().await?;
    let members: Vec<_> = [leader].into_iter().chain(others).map(|node| node.address.to_string()).collect();
    let kv = cluster.open(members.iter().map(String::as_str)).await?;
    let away = async || {
        leader.daemon.pause();
        Ok(())
    };
    let back = async || {
        leader.daemon.resume();
        Ok(())
    };
    goes_on(&kv, away, back).await
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
        goes_on(&kv, away, back).await?;
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
        // The member behind the proxy is asked first again.
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
    // This member has the write too, which the other two alone could have acknowledged.
    assert!(kv.exists("k").await?);
    b.daemon.kill();
    c.daemon.kill();
    soon("the leader to be missed", async {
        // A leader that lost the quorum gives its leadership up within an election time-out.
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
    // A store that is opened now reads what this member has, too.
    let late = cluster.open([address.as_str()]).await?;
    assert_eq!(late.get("k").stale().await?.ok_or("it is there")?.version, before);
    // A write that is refused at once never happens.
    let refused = soon("a refusal", async {
        loop {
            let e = kv.put("k", "never").await.unwrap_err();
            if e.kind() != ErrorKind::OutcomeUnknown {
                break e;
            }
        }
    });
    assert_eq!(refused.await?.kind(), ErrorKind::Unavailable);
    b.daemon.spawn()?;
    c.daemon.spawn()?;
    written(&kv, "k").await
}
