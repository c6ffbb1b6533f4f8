//! Outages that the suite does not have: a server that hangs for half a minute, one that is
//! restored from an older copy, and a deletion that the server does not wake for.

mod common;

use common::{Node, base64, names, single, txn};
use kv_core::{Kv, WatchEvent};
use kv_testsuite::{
    Failure, Mirror, Proxy, Server,
    failover::{soon, written},
    process::run,
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Waits until so many stand in line for the lock, its holder among them.
async fn in_line(node: &Node, lock: &str, count: usize) -> Result<(), Failure> {
    let line = format!("out/.kv/lock/1/{lock}/");
    soon("the line", async {
        while names(node.address, &line).await?.len() < count {}
        Ok(())
    })
    .await?
}

async fn open(node: &Node) -> kv_core::Result<Kv> {
    kv_consul::open(&format!("consul://{}/out/", node.address)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_half_a_minute() -> Result<(), Failure> {
    let node = single().await?;
    let (kv, other) = (open(&node).await?, open(&node).await?);
    kv.put("w/before", "").await?;
    let mut mirror = Mirror::new(kv.watch_tree("w").await?);
    let long = kv.new_lock("long").ttl(Duration::from_secs(120)).acquire().await?;
    let lease = kv.lease(Duration::from_secs(120)).await?;
    kv.put("w/leased", "").lease(&lease).await?;
    let short = kv.new_lock("short").ttl(Duration::from_secs(8)).acquire().await?;
    let lost = short.lost();
    let waits = tokio::spawn(other.new_lock("short").ttl(Duration::from_secs(120)).acquire().into_future());
    in_line(&node, "short", 2).await?;
    mirror.agrees(&kv, "w", "w/leased").await?;

    node.daemon.pause();
    let paused = Instant::now();
    soon("the loss of the short lock", lost).await?;
    assert!(paused.elapsed() < Duration::from_secs(20), "known by our own clock: {:?}", paused.elapsed());
    tokio::time::sleep(Duration::from_secs(30).saturating_sub(paused.elapsed())).await;
    assert!(long.is_held() && lease.is_held());
    assert!(!waits.is_finished(), "nobody gets a lock from a server that hangs");
    node.daemon.resume();

    let got = soon("the lock of the one who was lost", waits).await???;
    assert!(!short.is_held() && got.token() > short.token());
    written(&kv, "w/after").await?;
    mirror.agrees(&kv, "w", "w/after").await?;
    assert!(mirror.entries.contains_key("w/leased"));
    assert!(long.is_held() && lease.is_held());
    kv.put("fenced", "").fenced(&long).await?;
    assert!(other.new_lock("long").try_acquire().await?.is_none());
    assert!(long.release().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_during_watches_leases_and_locks() -> Result<(), Failure> {
    let node = single().await?;
    let (kv, other) = (open(&node).await?, open(&node).await?);
    let mut mirror = Mirror::new(kv.watch_tree("w").await?);
    let ttl = Duration::from_secs(60);
    let guard = kv.new_lock("l").ttl(ttl).acquire().await?;
    let lease = kv.lease(ttl).await?;
    kv.put("w/leased", "").lease(&lease).await?;
    kv.put("w/gone", "").await?;
    mirror.agrees(&kv, "w", "w/gone").await?;
    let waits = tokio::spawn(other.new_lock("l").ttl(ttl).acquire().into_future());
    in_line(&node, "l", 2).await?;
    for kill in [false, true] {
        if kill {
            node.daemon.kill()
        } else {
            node.daemon.stop()
        }
        node.start().await?;
        let last = format!("w/after-{kill}");
        written(&other, &last).await?;
        // The deletion may be refused while sessions are not known again.
        let _ = other.delete("w/gone").await;
        mirror.agrees(&kv, "w", &last).await?;
        assert!(guard.is_held() && lease.is_held() && !waits.is_finished());
        kv.put("w/fenced", "").fenced(&guard).await?;
    }
    let token = guard.token();
    assert!(guard.release().await?);
    assert!(soon("the lock", waits).await???.token() > token);
    assert!(kv.exists("w/leased").await?);
    Ok(())
}

/// An operator restores an older copy: keys have lower versions than were told, and the server's
/// index goes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_restored_from_an_older_copy() -> Result<(), Failure> {
    let node = single().await?;
    let kv = open(&node).await?;
    kv.put("w/same", "1").await?;
    kv.put("w/changed", "old").await?;
    kv.put("w/deleted", "").await?;
    let copy = node.folder.path().join("copy");
    let consul = |arguments: &[&str]| {
        let mut command = node.consul();
        command.args(["snapshot"]).args(arguments).arg(&copy);
        run(command, b"").map(drop)
    };
    consul(&["save"])?;
    let mut mirror = Mirror::new(kv.watch_tree("w").await?);
    for n in 0..100 {
        kv.put("w/changed", n.to_string()).await?;
    }
    kv.delete("w/deleted").await?;
    kv.put("w/new", "").await?;
    mirror.agrees(&kv, "w", "w/new").await?;
    consul(&["restore"])?;
    mirror.shows(&[("w/changed", "old"), ("w/deleted", ""), ("w/same", "1")]).await?;
    mirror.agrees(&kv, "w", "w/same").await?;
    kv.put("w/on", "").await?;
    mirror.agrees(&kv, "w", "w/on").await
}

/// Puts a key as another tool does; returns its index.
async fn set(node: &Node, key: &str, value: &str) -> Result<u64, Failure> {
    let value = base64(value.as_bytes());
    let done = txn(node.address, json!([{ "KV": { "Verb": "set", "Key": key, "Value": value } }])).await?;
    let done = done.json()?;
    done["Results"][0]["KV"]["ModifyIndex"].as_u64().ok_or_else(|| format!("no index: {done}").into())
}

/// A server whose data are gone is filled by the same script with other values: keys have the very
/// indices that were told.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_wiped_and_written_again_is_told_by_values() -> Result<(), Failure> {
    let node = single().await?;
    let proxy = Proxy::start(node.address).await;
    let kv = kv_consul::open(&format!("consul://{}/out/", proxy.address())).await?;
    let (mut last, mut at) = (0, BTreeMap::new());
    // The index has to be beyond all that the server writes by itself while it starts.
    while last < 300 {
        // The same value would keep its index.
        last = set(&node, "filler", &last.to_string()).await?;
    }
    for n in 0..20 {
        let key = format!("w/{n:02}");
        last = set(&node, &format!("out/{key}"), "old").await?;
        at.insert(last, key);
    }
    let mut mirror = Mirror::new(kv.watch_tree("w").await?);
    mirror.agrees(&kv, "w", "w/19").await?;
    let mut of_one = Vec::new();
    for key in at.values() {
        let mut one = Mirror::new(kv.watch(key.as_str()).await?);
        while one.event().await? != WatchEvent::Synced {}
        of_one.push((key, one));
    }
    proxy.cut().await;
    node.daemon.stop();
    std::fs::remove_dir_all(node.folder.path().join("data"))?;
    node.start().await?;
    // Each key is written at its index, unless the server wrote something in between.
    let (mut again, mut next) = (0, 0);
    while again < 10 || at.range(next..).next().is_some() {
        let is = match at.get(&next) {
            Some(key) => set(&node, &format!("out/{key}"), "new").await?,
            None => set(&node, "filler", &next.to_string()).await?,
        };
        again += usize::from(is == next && at.contains_key(&is));
        next = is + 1;
        assert!(next < 1000, "only {again} keys are at their indices again");
    }
    proxy.heal().await;
    mirror.comes_to(kv.list("w").await?).await?;
    for (key, one) in &mut of_one {
        one.comes_to(mirror.entries.get(*key).cloned()).await?;
    }
    assert!(mirror.entries.values().filter(|entry| entry.value == "new").count() >= again);
    Ok(())
}

/// The server's index goes back with an older copy of its data: a write after that is not taken
/// for older than one before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_a_ttl_lives_though_the_servers_index_went_back() -> Result<(), Failure> {
    let node = single().await?;
    let kv = open(&node).await?;
    kv.put("w/before", "").await?;
    assert!(Server::save(&node).await);
    for n in 0..200 {
        written(&kv, &format!("w/{n}")).await?;
    }
    let ttl = Duration::from_secs(10);
    let before = kv.put("ttl", "1").ttl(ttl).await?.version;
    Server::restore_saved(&node).await;
    written(&kv, "w/after").await?;
    let after = kv.put("ttl", "2").ttl(ttl).await?.version;
    assert!(after < before, "the server's index went back: {before}, {after}");
    // A session is given to further puts for a tenth of the TTL, and then ended if it has no key.
    let written = Instant::now();
    while written.elapsed() < ttl / 2 {
        assert_eq!(kv.get("ttl").await?.map(|entry| entry.version), Some(after), "{:?}", written.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// A program makes a call now and then, with a runtime that stands still meanwhile.
#[test]
fn a_write_after_a_restart_that_nobody_heard_of() -> Result<(), Failure> {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (servers, ours) = (runtime()?, runtime()?);
    let node = servers.block_on(single())?;
    let kv = ours.block_on(open(&node))?;
    for n in 0..4 {
        ours.block_on(kv.put("k", n.to_string()).into_future())?;
        node.daemon.stop();
        servers.block_on(node.start())?;
    }
    Ok(())
}

/// A contender that took the lock after the copy was made is not its holder any more; the holder
/// of the copy is, though others wait already.
#[tokio::test(flavor = "multi_thread")]
async fn the_holder_of_an_older_copy_is_told() -> Result<(), Failure> {
    let node = single().await?;
    let (kv, other) = (open(&node).await?, open(&node).await?);
    let ttl = Duration::from_secs(120);
    let first = kv.new_lock("l").ttl(ttl).value("first").acquire().await?;
    assert!(Server::save(&node).await);
    written(&kv, "w").await?;
    assert!(first.release().await?);
    let second = other.new_lock("l").ttl(ttl).value("second").acquire().await?;
    let mut holder = kv.lock_holder("l").watch().await?;
    while holder.event().await? != WatchEvent::Synced {}
    Server::restore_saved(&node).await;
    soon("the loss", second.lost()).await?;
    let told = async {
        loop {
            match holder.event().await? {
                WatchEvent::Put(entry) if entry.text() == Some("first") => return Ok::<_, kv_core::Error>(()),
                _ => {}
            }
        }
    };
    soon("the holder of the copy", told).await??;
    assert_eq!(kv.lock_holder("l").await?.ok_or("it is held")?.value, "first");
    Ok(())
}

/// The server does not wake a poll of a directory in which something was deleted before when a
/// directory above it is deleted whole, as other tools delete it.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_above_is_deleted() -> Result<(), Failure> {
    let node = single().await?;
    let kv = open(&node).await?;
    for key in ["a/w/1", "a/w/2", "a/w/3", "a/x"] {
        kv.put(key, "").await?;
    }
    kv.delete("a/w/1").await?;
    kv.put("a/w/4", "").await?;
    let mut watch = kv.watch_tree("a/w").await?;
    while watch.event().await? != WatchEvent::Synced {}
    let whole = json!([{ "KV": { "Verb": "delete-tree", "Key": "out/a/" } }]);
    assert_eq!(txn(node.address, whole).await?.status, 200);
    let gone = async {
        for _ in 0..3 {
            let event = watch.event().await?;
            assert!(matches!(event, WatchEvent::Delete { .. }), "{event:?}");
        }
        Ok::<_, kv_core::Error>(())
    };
    soon("the deletions", gone).await??;
    Ok(())
}
