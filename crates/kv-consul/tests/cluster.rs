//! Three servers: the leader is killed, paused, cut off from us; and a server is left without a
//! quorum.

mod common;

use common::{
    Node,
    beyond::{self, NEAR},
    names, nodes, sessions, with,
};
use kv_core::{ErrorKind, Kv};
use kv_testsuite::{
    Failure, Proxy,
    failover::{goes_on, soon, written},
};
use serde_json::json;
use std::time::Duration;

/// Sets a short deadline, so that many calls meet the loss of a leader; it is longer than a server
/// waits for a leader to be found.
const DEADLINE: Duration = Duration::from_secs(2);

struct Cluster(Vec<Node>);

impl Cluster {
    async fn start() -> Result<Self, Failure> {
        let nodes = nodes(3, &json!({}))?;
        nodes.iter().try_for_each(|node| node.daemon.spawn())?;
        for node in &nodes {
            node.ready().await?;
        }
        Ok(Self(nodes))
    }

    /// Opens a store on these servers, of which the first is asked first.
    async fn open<'a>(&self, servers: impl IntoIterator<Item = &'a str>) -> Result<Kv, Failure> {
        let hosts = servers.into_iter().collect::<Vec<_>>().join(",");
        let url = format!("consul://{hosts}/cluster/");
        // A server that has only just come back may not know the leader yet.
        let opened = soon("a server that answers", async {
            loop {
                match kv_consul::open(&url).await {
                    Err(e) if e.is_transient() => {}
                    opened => return opened,
                }
            }
        });
        Ok(opened.await??.with_deadline(DEADLINE))
    }

    /// Returns the leader and the other servers.
    async fn leader(&self) -> Result<(&Node, Vec<&Node>), Failure> {
        let all: Vec<_> = self.0.iter().map(|node| node.address.to_string()).collect();
        let kv = self.open(all.iter().map(String::as_str)).await?;
        let health = kv.health().await?;
        assert_eq!(health.members.len(), 3, "{health:?}");
        let leader = health.leader.ok_or("the cluster has a leader")?;
        let is_it = |node: &&Node| node.rpc.to_string() == leader;
        let (mut leading, others): (Vec<_>, Vec<_>) = self.0.iter().partition(is_it);
        Ok((leading.pop().ok_or("the leader is one of ours")?, others))
    }
}

fn addresses(leader: &Node, others: &[&Node]) -> Vec<String> {
    [leader].iter().chain(others).map(|node| node.address.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_killed() -> Result<(), Failure> {
    let cluster = Cluster::start().await?;
    let (leader, others) = cluster.leader().await?;
    // We ask the leader first.
    let servers = addresses(leader, &others);
    let kv = cluster.open(servers.iter().map(String::as_str)).await?;
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
    let servers = addresses(leader, &others);
    let kv = cluster.open(servers.iter().map(String::as_str)).await?;
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
        let mut servers = vec![proxy.address().to_string()];
        servers.extend(others.iter().map(|node| node.address.to_string()));
        let kv = cluster.open(servers.iter().map(String::as_str)).await?;
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
async fn a_write_whose_answer_was_lost_goes_to_no_other_server() -> Result<(), Failure> {
    let cluster = Cluster::start().await?;
    let proxy = Proxy::start(cluster.0[0].address).await;
    let servers = [proxy.address(), cluster.0[1].address, cluster.0[2].address].map(|a| a.to_string());
    let other = cluster.open([servers[1].as_str()]).await?;
    for round in 0..5 {
        let (key, theirs) = (format!("k{round}"), "theirs");
        // The server behind the proxy is asked first again.
        let kv = cluster.open(servers.iter().map(String::as_str)).await?;
        kv.get("up").await?;
        proxy.hold_answer_to(format!("cluster/{key}"));
        let put = tokio::spawn(kv.put(&key, "ours").into_future());
        soon("the request", proxy.trapped()).await?;
        soon("its effect", async {
            while other.get(&key).await?.is_none() {}
            Ok::<_, kv_core::Error>(())
        })
        .await??;
        let version = other.put(&key, theirs).await?.version;
        proxy.reset().await;
        let e = put.await?.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::OutcomeUnknown, "{e}");
        proxy.heal().await;
        // The next call goes elsewhere or comes through, and finds what the other wrote.
        let found = kv.get(&key).await?.ok_or("it is there")?;
        assert_eq!((found.text(), found.version), (Some(theirs), version));
        kv.close().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_quorum() -> Result<(), Failure> {
    let cluster = Cluster::start().await?;
    let [alone, b, c] = &cluster.0[..] else { return Err("three servers".into()) };
    let address = alone.address.to_string();
    let kv = cluster.open([address.as_str()]).await?;
    let before = kv.put("k", "v").await?.version;
    // This server has the write too, which the other two alone could have acknowledged.
    soon("the write on this server", async {
        while kv.get("k").stale().await?.is_none() {}
        Ok::<_, kv_core::Error>(())
    })
    .await??;
    b.daemon.kill();
    c.daemon.kill();
    soon("the leader to be missed", async {
        // A leader that lost the quorum gives its leadership up.
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
    let put = kv.put("k", "late").await.unwrap_err();
    assert!(put.is_transient() || put.kind() == ErrorKind::OutcomeUnknown, "{put}");
    b.daemon.spawn()?;
    c.daemon.spawn()?;
    written(&kv, "k").await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_datacenter() -> Result<(), Failure> {
    let near = with(&json!({ "datacenter": NEAR })).await?;
    let far = beyond::start(&near).await?;
    let kv = beyond::open(&near, "dc/").await?;
    let ttl = Duration::from_secs(60);
    kv.put("k", "v").ttl(ttl).await?;
    let guard = kv.new_lock("l").ttl(ttl).acquire().await?;
    kv.put("fenced", "").fenced(&guard).await?;
    let mut watch = kv.watch("k").await?;
    assert!(matches!(watch.event().await?, kv_core::WatchEvent::Put(_)));
    assert_eq!((names(far.address, "dc/").await?.len(), names(near.address, "").await?.len()), (3, 0));
    assert_eq!((sessions(far.address).await?.len(), sessions(near.address).await?.len()), (2, 0));
    assert!(guard.release().await?);
    Ok(())
}
