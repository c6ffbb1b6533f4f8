//! A learner among the endpoints: a member without a vote, which refuses everything but reads that
//! may be stale.

mod common;

use common::{Node, Setup, nodes, single};
use kv_core::{Kv, WatchEvent};
use kv_testsuite::{
    Failure,
    failover::soon,
    process::{Port, run},
};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(8);

/// Adds a learner to a server that is alone, and returns it when it answers.
async fn learner_of(first: &Node) -> Result<(Node, Port), Failure> {
    let port = Port::new()?;
    let peers = format!("http://{}", port.address());
    let mut add = first.etcdctl();
    add.args(["member", "add", "learner", "--learner", &format!("--peer-urls={peers}")]);
    let said = String::from_utf8(run(add, b"")?)?;
    let members = said.lines().find_map(|line| line.strip_prefix("ETCD_INITIAL_CLUSTER="));
    let members = members.ok_or_else(|| said.clone())?.trim_matches('"');
    let more = [
        "--name=learner".to_owned(),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster={members}"),
        "--initial-cluster-state=existing".to_owned(),
    ];
    let setup = Setup { more: more.into(), ..Setup::single(&first.kind) };
    let learner = nodes(&setup, 1)?.remove(0);
    learner.daemon.spawn()?;
    soon("the learner", async {
        loop {
            let mut get = learner.etcdctl();
            get.args(["get", "--consistency=s", "--command-timeout=1s", "any"]);
            if run(get, b"").is_ok() {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await?;
    Ok((learner, port))
}

async fn open(members: &[&Node]) -> Result<Kv, Failure> {
    let hosts: Vec<_> = members.iter().map(|node| node.address.to_string()).collect();
    Ok(kv_etcd::open(&format!("etcd://{}/learner/", hosts.join(","))).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_learner_refuses_another_member_does() -> Result<(), Failure> {
    for kind in ["etcd", "etcd34"] {
        let first = &single(kind).await?;
        let (learner, _port) = &learner_of(first).await?;
        for members in [[learner, first], [first, learner]] {
            let kv = open(&members).await?;
            let mut watch = kv.watch_tree("d").await?;
            assert_eq!(soon("what is there", watch.event()).await??, WatchEvent::Synced);
            let version = kv.put("d/a", "1").await?.version;
            let told = soon("the put", watch.event()).await??;
            assert!(matches!(&told, WatchEvent::Put(entry) if entry.version == version), "{told:?}");
            assert_eq!(kv.get("d/a").await?.ok_or("a")?.version, version);
            assert!(kv.exists("d/a").await?);
            assert_eq!(kv.list("d").await?.len(), 1);
            kv.put("d/a", "2").if_version(version).await?;
            kv.put("d/ttl", "").ttl(TTL).await?;
            assert!(kv.transact().when_exists("d/a").then(kv.put("d/b", "")).await?.is_committed());
            kv.health().await?;
            let (guard, lease) = (kv.new_lock("l").ttl(TTL).acquire().await?, kv.lease(TTL).await?);
            kv.put("d/leased", "").lease(&lease).await?;
            let waits = tokio::spawn(kv.new_lock("l").ttl(TTL).acquire().into_future());
            assert!(kv.new_lock("l").ttl(TTL).try_acquire().await?.is_none());
            // Longer than both live without renewals.
            tokio::select! {
                e = guard.lost() => return Err(e.into()),
                e = lease.lost() => return Err(e.into()),
                () = tokio::time::sleep(TTL + Duration::from_secs(1)) => {}
            }
            kv.put("d/b", "").fenced(&guard).await?;
            assert!(lease.revoke().await? && guard.release().await?);
            assert!(soon("the lock", waits).await???.release().await?);
            assert!(kv.delete("d/a").await?);
            kv.delete_tree("").await?;
            kv.close().await?;
        }
    }
    Ok(())
}

/// Nothing was done, and another member may be there later.
#[tokio::test(flavor = "multi_thread")]
async fn a_learner_alone_refuses_what_may_be_tried_again() -> Result<(), Failure> {
    for kind in ["etcd", "etcd34"] {
        let first = &single(kind).await?;
        let (learner, _port) = &learner_of(first).await?;
        let whole = open(&[first]).await?;
        whole.put("a", "1").await?;
        let kv = open(&[learner]).await?.with_deadline(Duration::from_secs(1));
        soon("the stale read", async {
            while kv.get("a").stale().await?.is_none() {}
            Ok::<_, kv_core::Error>(())
        })
        .await??;
        let guard = kv.new_lock("l").try_acquire().await.map(drop);
        for (call, refused) in [
            ("get", kv.get("a").await.map(drop)),
            ("put", kv.put("b", "").await.map(drop)),
            ("delete", kv.delete("a").await.map(drop)),
            ("lease", kv.lease(TTL).await.map(drop)),
            ("try_acquire", guard),
        ] {
            let e = refused.err().ok_or_else(|| format!("{kind}: {call} is done"))?;
            assert!(e.is_transient(), "{kind}: {call}: {e}");
            assert!(e.to_string().contains("learner"), "{kind}: {call}: {e}");
        }
        let mut watch = kv.watch("a").await?;
        let told = tokio::time::timeout(Duration::from_secs(1), watch.event()).await;
        assert!(told.is_err(), "{told:?}");
        assert!(whole.exists("a").await? && !whole.exists("b").await?);
    }
    Ok(())
}
