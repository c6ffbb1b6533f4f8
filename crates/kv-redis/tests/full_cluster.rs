//! A cluster of which one master has no memory left.

mod common;

use common::{Node, Reply, change, cluster::Cluster};
use kv_core::{ErrorKind, WatchEvent};
use kv_testsuite::Failure;
use std::time::Duration;

const KEYS: usize = 64;
const TTL: Duration = Duration::from_secs(8);

/// Sets the node's limit of memory.
async fn limit(node: &Node, memory: &str) -> Result<(), Failure> {
    let set = node.resp().await?.say(&format!("CONFIG SET maxmemory {memory}")).await?;
    assert_eq!(set, Reply::Text(b"OK".into()));
    Ok(())
}

/// Tells whether a write was done, by an answer that must be a refusal for lack of memory
/// otherwise.
fn is_done<T>(call: &str, answer: kv_core::Result<T>) -> bool {
    match answer {
        Ok(_) => true,
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::NoSpace, "{call}: {e}");
            assert!(e.to_string().contains("maxmemory"), "{call}: {e}");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_master_of_a_spread_store_is_full() -> Result<(), Failure> {
    let cluster = Cluster::start("redis", 5000).await?;
    let kv = kv_redis::open(&format!("{}app/?spread=8", cluster.url())).await?;
    let names: Vec<_> = (0..KEYS).map(|n| format!("d/{n}")).collect();
    for name in &names {
        kv.put(name, "before").await?;
    }
    let mut watch = kv.watch_tree("d").await?;
    while watch.event().await? != WatchEvent::Synced {}
    let mut held = Vec::new();
    for n in 0..8 {
        held.push(kv.new_lock(format!("held{n}")).ttl(TTL).acquire().await?);
    }
    let full = cluster.owner("{app/00}").await?;
    limit(full, "100kb").await?;

    // Each key goes by the node that has it.
    let there: Vec<_> = full.resp().await?.say("KEYS *").await?.list().iter().map(Reply::text).collect();
    let is_there = |key: &str| there.iter().any(|name| name.ends_with(&format!("}}{key}")));
    let (mut done, mut refused) = (0, 0);
    for name in &names {
        let is_done = is_done(name, kv.put(name, "after").await);
        assert_eq!(is_done, !is_there(name), "{name}");
        *(if is_done { &mut done } else { &mut refused }) += 1;
        let text = kv.get(name).await?.ok_or("it is there")?;
        assert_eq!(text.text(), Some(if is_done { "after" } else { "before" }), "{name}");
    }
    assert!(done > 0 && refused > 0, "{done} and {refused}");
    for _ in 0..done {
        let told = change(&mut watch).await?;
        assert!(matches!(&told, WatchEvent::Put(entry) if entry.text() == Some("after")), "{told:?}");
    }
    assert_eq!(kv.list("d").await?.len(), KEYS);
    let mut taken = 0;
    for n in 0..32 {
        taken += usize::from(is_done("try_acquire", kv.new_lock(format!("new{n}")).try_acquire().await));
    }
    assert!((1..32).contains(&taken), "{taken} of 32 locks");
    // Longer than they live without renewals.
    tokio::time::sleep(TTL * 5 / 4).await;
    for guard in held {
        assert!(guard.is_held());
        assert!(guard.release().await?);
    }
    // What makes room works on every node.
    let (mut deleted, last) = (0, &names[KEYS - 1]);
    for name in &names[..KEYS / 2] {
        deleted += u64::from(kv.delete(name).await?);
    }
    assert_eq!(deleted, KEYS as u64 / 2);
    assert_eq!(kv.delete_tree("d").await?, Some(KEYS as u64 / 2));
    assert!(kv.list("d").await?.is_empty());
    limit(full, "0").await?;
    kv.put(last, "again").await?;
    for name in &names {
        kv.put(name, "again").await?;
    }
    Ok(())
}

/// A store is in one slot: it is full with the node that has it, and with no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_full_with_its_own_master_alone() -> Result<(), Failure> {
    let cluster = Cluster::start("redis", 5000).await?;
    let full = cluster.owner("{store0/}").await?;
    limit(full, "100kb").await?;
    let (mut done, mut refused) = (0, 0);
    for n in 0..16 {
        let kv = kv_redis::open(&format!("{}store{n}/", cluster.url())).await?;
        let is_full = cluster.owner(&format!("{{store{n}/}}")).await?.address == full.address;
        assert_eq!(is_done("put", kv.put("a", "").await), !is_full, "store {n}");
        assert_eq!(kv.get("a").await?.is_some(), !is_full, "store {n}");
        *(if is_full { &mut refused } else { &mut done }) += 1;
    }
    assert!(done > 0 && refused > 0, "{done} and {refused}");
    Ok(())
}
