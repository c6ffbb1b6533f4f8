//! Three members: the leader is killed, paused, cut off from us; and a member is left without a
//! quorum.

mod common;

use common::{Node, Setup, nodes};
use kv_core::Kv;
use kv_testsuite::{
    Failure, OwnServer, Proxy,
    cluster::{Cluster, Member, refuses_writes},
    own::start,
};
use std::time::Duration;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(60);

async fn three(kind: &str) -> Result<Cluster<Node>, Failure> {
    Cluster::start(nodes(&Setup::new(kind), 3)?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_killed() -> Result<(), Failure> {
    three("zookeeper").await?.the_leader_is_killed().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_paused() -> Result<(), Failure> {
    three("zookeeper").await?.the_leader_is_paused().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_cut_off_from_us() -> Result<(), Failure> {
    three("zookeeper").await?.the_leader_is_cut_off_from_us().await
}

/// A follower may have done, and acknowledged, a write that the leader itself has still to do.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_member_acknowledged_is_read_at_another() -> Result<(), Failure> {
    let cluster = three("zookeeper").await?;
    let [leads, first, second] = cluster.leader().await?;
    let open =
        async |place: usize| Node::open(&Node::url(&[cluster.members()[place].address], "ensemble/")).await;
    let (leads, follow) = (open(leads).await?, [open(first).await?, open(second).await?]);
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
    let cluster = three("zookeeper38").await?;
    let checked = cluster.the_quorum_is_lost(async |kv: &Kv, _| {
        refuses_writes(kv).await?;
        let e = kv.get("k").stale().deadline(Duration::from_secs(1)).await.err().ok_or("it answered")?;
        assert!(e.is_transient(), "{e}");
        Ok(())
    });
    checked.await
}

/// A session waits for a member that grants it enough, as long as there may be one.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_taken_up_by_a_member_that_grants_it_enough() -> Result<(), Failure> {
    let nodes = nodes(&Setup::new("zookeeper"), 2)?;
    nodes[0].grants_at_most(Duration::from_secs(4))?;
    start(&nodes).await?;
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
