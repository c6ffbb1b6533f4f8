//! Clusters, and a master with sentinels: the master of our slot is killed, paused, and hands over
//! to its replica.

mod common;

use common::{
    Node, Reply,
    cluster::{Cluster, Role},
    in_step,
};
use kv_core::{Durability, ErrorKind, Kv, Linearizable, WatchEvent};
use kv_testsuite::{
    Failure,
    failover::{goes_on, soon},
};
use std::time::Duration;

/// The deadline of calls: short, so that the loss of a master is often met.
const DEADLINE: Duration = Duration::from_secs(2);

/// Starts a cluster that soon takes a master for lost. On a busy machine a master may stand still
/// by chance: so no replica takes over by itself, until it is let.
async fn started(kind: &str) -> Result<Cluster, Failure> {
    Cluster::with(kind, 2500, &["--cluster-replica-no-failover", "yes"]).await
}

/// Lets the replica of this master take over when the master is lost.
async fn let_take_over(cluster: &Cluster, master: &Node) -> Result<(), Failure> {
    for node in &cluster.0 {
        if node.role().await? == Role::ReplicaOf(master.address.port()) {
            let set = node.resp().await?.say("CONFIG SET cluster-replica-no-failover no").await?;
            assert_eq!(set, Reply::Text(b"OK".into()));
        }
    }
    Ok(())
}

async fn open(cluster: &Cluster) -> Result<Kv, Failure> {
    Ok(kv_redis::open(&format!("{}app/", cluster.url())).await?.with_deadline(DEADLINE))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_is_killed() -> Result<(), Failure> {
    let cluster = started("redis").await?;
    let master = cluster.owner("{app/}").await?;
    let away = async || {
        in_step(master).await?;
        let_take_over(&cluster, master).await?;
        master.daemon.kill();
        Ok(())
    };
    goes_on(async || open(&cluster).await, away, async || master.start().await).await
}

/// With another number, a store would find only some of the keys, and write others a second time.
#[tokio::test(flavor = "multi_thread")]
async fn a_spread_store_is_opened_by_its_own_number_of_parts_alone() -> Result<(), Failure> {
    let cluster = Cluster::start("redis", 5000).await?;
    let open = async |parts: u16| kv_redis::open(&format!("{}app/?spread={parts}", cluster.url())).await;
    let kv = open(8).await?;
    for n in 0..32 {
        kv.put(format!("k{n}"), "v").await?;
    }
    for parts in [4, 16] {
        let e = open(parts).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e}");
        assert!(
            e.to_string().contains("spread over 8") && e.to_string().contains("{app/00}.kv/parts"),
            "{e}"
        );
    }
    assert_eq!(open(8).await?.list("").keys().await?.len(), 32);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_of_which_a_part_may_not_go_is_of_unknown_outcome() -> Result<(), Failure> {
    let cluster = Cluster::start("redis", 5000).await?;
    let kv = kv_redis::open(&format!("{}app/?spread=2", cluster.url())).await?;
    for n in 0..32 {
        kv.put(format!("k{n}"), "v").await?;
    }
    for node in &cluster.0 {
        node.resp().await?.say("ACL SETUSER default resetkeys ~{app/00}*").await?;
    }
    let e = kv.delete_tree("").await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::OutcomeUnknown, "{e}");
    for node in &cluster.0 {
        node.resp().await?.say("ACL SETUSER default allkeys").await?;
    }
    let left = kv.list("").keys().await?.len();
    assert!((1..32).contains(&left), "{left} are left");
    assert_eq!(kv.delete_tree("").await?, Some(left as u64));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_is_paused() -> Result<(), Failure> {
    let cluster = started("redis").await?;
    let master = cluster.owner("{app/}").await?;
    let away = async || {
        in_step(master).await?;
        let_take_over(&cluster, master).await?;
        master.daemon.pause();
        Ok(())
    };
    let back = async || {
        master.daemon.resume();
        Ok(())
    };
    goes_on(async || open(&cluster).await, away, back).await
}

/// No connection breaks: the node that handed over ends its subscriptions, and refuses writes.
#[tokio::test(flavor = "multi_thread")]
async fn the_master_gives_its_place_away() -> Result<(), Failure> {
    let cluster = started("redis8").await?;
    let master = cluster.owner("{app/}").await?;
    let port = master.address.port();
    let away = async || {
        for node in &cluster.0 {
            if node.role().await? == Role::ReplicaOf(port) {
                return node.takes_over().await;
            }
        }
        Err("the master has a replica".into())
    };
    goes_on(async || open(&cluster).await, away, async || Ok(())).await
}

/// The slot is moved to another node, and the old one lives on: it ends its subscriptions without
/// a message.
#[tokio::test(flavor = "multi_thread")]
async fn the_slot_is_moved() -> Result<(), Failure> {
    let cluster = started("redis").await?;
    let from = cluster.owner("{app/}").await?;
    // The owners of slots of other nodes.
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
    goes_on(async || open(&cluster).await, away, async || Ok(())).await?;
    soon("the new owner to be known", async {
        while cluster.owner("{app/}").await?.address != to.address {}
        Ok(())
    })
    .await?
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_says_what_it_may_lose() -> Result<(), Failure> {
    let cluster = Cluster::start("valkey", 5000).await?;
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
    // Opened as a single server, it is refused with the way out.
    let e = kv_redis::open(&format!("redis://{}/", master.address)).await.unwrap_err();
    assert!(e.kind() == ErrorKind::InvalidArgument && e.to_string().contains("redis-cluster://"), "{e}");
    Ok(())
}

/// A cluster that is down refuses a write before it does anything of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_down_did_nothing() -> Result<(), Failure> {
    let cluster = started("redis").await?;
    let kv = open(&cluster).await?;
    kv.put("a", "1").await?;
    // The watch has a handle of its own: behind one of its reads on the same connection, a refusal
    // could not be known to be that of a put.
    let watching = open(&cluster).await?;
    let mut watch = watching.watch_tree("").await?;
    while watch.event().await? != WatchEvent::Synced {}
    // Kills another master and its replica, so that its slots have no node.
    let ours = cluster.owner("{app/}").await?.address;
    let mut lost = None;
    for name in ["a", "b", "c", "d", "e", "f"] {
        let owner = cluster.owner(name).await?;
        lost = (owner.address != ours).then_some(owner.address).or(lost);
    }
    let lost = lost.ok_or("there are other masters")?;
    let mut gone = Vec::new();
    for node in &cluster.0 {
        if node.address == lost || node.role().await? == Role::ReplicaOf(lost.port()) {
            gone.push(node);
        }
    }
    gone.iter().for_each(|node| node.daemon.kill());
    let (mut seen, mut written) = (0, Vec::new());
    soon("the cluster to be down", async {
        for n in 0.. {
            let puts = (0..4).map(|i| kv.put(format!("n/{n}/{i}"), "").into_future());
            let puts = futures::future::join_all(puts).await;
            let is_refused =
                |put: &kv_core::Result<_>| put.as_ref().is_err_and(|e| e.kind() == ErrorKind::Unavailable);
            let is_any_refused = puts.iter().any(is_refused);
            for (i, put) in puts.into_iter().enumerate() {
                match put {
                    Ok(_) => written.push(format!("n/{n}/{i}")),
                    // Behind the put that was refused first, the outcome of others on the same
                    // connection is unknown.
                    Err(e) if e.kind() == ErrorKind::OutcomeUnknown && is_any_refused => {}
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
