//! A server that an operator puts back to an older copy of its data.

mod common;

use common::single;
use kv_core::WatchEvent;
use kv_testsuite::{Failure, Mirror, Server, failover::soon};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn watches_and_locks_follow() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let url = format!("etcd://{}/restored/", node.address);
    let (kv, other) = (kv_etcd::open(&url).await?, kv_etcd::open(&url).await?);
    for key in ["c/a", "c/b", "c/old", "c/same"] {
        kv.put(key, "1").await?;
    }
    assert!(node.save().await);
    let (mut tree, mut key) = (Mirror::new(kv.watch_tree("c").await?), Mirror::new(kv.watch("c/b").await?));
    let mut holder = kv.lock_holder("l").watch().await?;
    for n in 2..60 {
        other.put("c/a", n.to_string()).await?;
        other.put("c/b", n.to_string()).await?;
    }
    other.delete("c/old").await?;
    other.put("c/new", "1").await?;
    let guard = other.new_lock("l").ttl(Duration::from_secs(6)).acquire().await?;
    let waiting = tokio::spawn(kv.new_lock("l").ttl(Duration::from_secs(6)).acquire());
    tree.comes_to(other.list("c").await?).await?;
    key.comes_to(other.get("c/b").await?).await?;
    soon("the holder", async {
        while !matches!(holder.event().await?, WatchEvent::Put(_)) {}
        Ok::<_, Failure>(())
    })
    .await??;
    node.restore_saved().await;
    tree.comes_to(other.list("c").await?).await?;
    key.comes_to(other.get("c/b").await?).await?;
    for key in ["c/a", "c/b", "c/fresh"] {
        other.put(key, "after").await?;
    }
    tree.comes_to(other.list("c").await?).await?;
    key.comes_to(other.get("c/b").await?).await?;
    // The guard is of a history that is gone, and the contender that waited behind it gets the
    // lock.
    soon("the loss", guard.lost()).await?;
    assert!(!guard.is_held());
    let next = soon("the next holder", waiting).await???;
    soon("the next holder to be told", async {
        loop {
            if let WatchEvent::Put(e) = holder.event().await?
                && e.version.parts().0 == next.token()
            {
                return Ok::<_, Failure>(());
            }
        }
    })
    .await??;
    Ok(())
}

/// The server is beyond the watch's last revision again by the time at which the watch comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_comes_late_is_not_deceived_by_revisions() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let proxy = kv_testsuite::Proxy::start(node.address).await;
    let kv = kv_etcd::open(&format!("etcd://{}/restored/", proxy.address())).await?;
    let other = kv_etcd::open(&format!("etcd://{}/restored/", node.address)).await?;
    for key in ["c/a", "c/b", "c/old"] {
        other.put(key, "1").await?;
    }
    assert!(node.save().await);
    let mut tree = Mirror::new(kv.watch_tree("c").await?);
    for n in 2..20 {
        other.put("c/a", n.to_string()).await?;
        other.put("c/b", n.to_string()).await?;
    }
    other.delete("c/old").await?;
    other.put("c/new", "1").await?;
    tree.comes_to(other.list("c").await?).await?;
    proxy.cut().await;
    node.restore_saved().await;
    for n in 0..60 {
        other.put("d", n.to_string()).await?;
    }
    proxy.heal().await;
    tree.comes_to(other.list("c").await?).await
}

/// A write after the restore has the very revision of a write that was told before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_revision_that_comes_twice_is_told_by_its_value() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let proxy = kv_testsuite::Proxy::start(node.address).await;
    let kv = kv_etcd::open(&format!("etcd://{}/restored/", proxy.address())).await?;
    let other = kv_etcd::open(&format!("etcd://{}/restored/", node.address)).await?;
    other.put("a", "1").await?;
    other.put("same", "s").await?;
    assert!(node.save().await);
    let first = other.put("a", "before").await?.version;
    let mut watch = kv.watch_tree("").await?;
    let mut told = Vec::new();
    let mut until = async |told: &mut Vec<String>, last: &str| {
        soon(&format!("{last:?} to be told"), async {
            loop {
                match watch.event().await? {
                    WatchEvent::Put(e) => told.push(format!("{}={}", e.key, e.text().unwrap_or_default())),
                    WatchEvent::Delete { key, .. } => told.push(format!("-{key}")),
                    WatchEvent::Synced => told.push("synced".into()),
                }
                if told.last().is_some_and(|told| told == last) {
                    return Ok::<_, Failure>(());
                }
            }
        })
        .await?
    };
    until(&mut told, "synced").await?;
    // The watch lists nothing between the restore and the write.
    proxy.cut().await;
    node.restore_saved().await;
    let second = other.put("a", "after").await?.version;
    assert_eq!(first, second, "the server counts on from the copy");
    told.clear();
    proxy.heal().await;
    until(&mut told, "synced").await?;
    assert_eq!(told, ["-a", "a=after", "synced"]);
    Ok(())
}

/// A server whose data are gone is filled by the same script, so that all keys have the very
/// revisions that were told; and so many writes follow that the changed keys are none of the
/// newest.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_wiped_and_written_again_is_told_by_values() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let proxy = kv_testsuite::Proxy::start(node.address).await;
    let script = async |changed: &str| {
        let tool = etcd_client::Client::connect([node.address.to_string()], None).await?;
        for n in 0..100 {
            let value = if n == 3 { changed } else { "same" };
            tool.kv_client().put(format!("script/k/{n:02}"), value, None).await?;
        }
        // These writes are all alike, so that their order says nothing.
        let mut others = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let mut kv = tool.kv_client();
            others.spawn(async move {
                for _ in 0..75 {
                    kv.put("script/k/later", "same", None).await?;
                }
                Ok::<_, etcd_client::Error>(())
            });
        }
        while let Some(done) = others.join_next().await {
            done??;
        }
        Ok::<_, Failure>(())
    };
    script("old").await?;
    let kv = kv_etcd::open(&format!("etcd://{}/script/", proxy.address())).await?;
    let mut tree = Mirror::new(kv.watch_tree("k").await?);
    let told = async |tree: &mut Mirror, value: &str| {
        soon(&format!("{value:?} to be told"), async {
            while tree.event().await? != WatchEvent::Synced || tree.entries["k/03"].text() != Some(value) {}
            Ok::<_, Failure>(())
        })
        .await?
    };
    told(&mut tree, "old").await?;
    let before: Vec<_> = tree.entries.values().map(|entry| entry.version).collect();
    proxy.cut().await;
    node.wipe().await?;
    script("new").await?;
    proxy.heal().await;
    told(&mut tree, "new").await?;
    assert_eq!(tree.entries.values().cloned().collect::<Vec<_>>(), kv.list("k").await?);
    assert_eq!(tree.entries.values().map(|entry| entry.version).collect::<Vec<_>>(), before);
    Ok(())
}
