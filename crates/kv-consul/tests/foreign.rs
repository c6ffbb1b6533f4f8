//! Names that other tools leave where the library keeps its own: they stand in nobody's way.

mod common;

use common::{Node, base64, names, single, txn};
use kv_core::{Kv, WatchEvent};
use kv_testsuite::{Failure, Proxy, failover::soon};
use serde_json::json;
use std::time::Duration;

async fn set(node: &Node, name: &str, value: &[u8]) -> Result<(), Failure> {
    let ops = json!([{ "KV": { "Verb": "set", "Key": name, "Value": base64(value) } }]);
    assert_eq!(txn(node.address, ops).await?.status, 200, "{name}");
    Ok(())
}

async fn open(node: &Node, prefix: &str) -> kv_core::Result<Kv> {
    kv_consul::open(&format!("consul://{}/{prefix}", node.address)).await
}

/// Lists names as people and tools make them, in a lock's queue and wherever else the library
/// keeps its own.
const JUNK: [&str; 15] = [
    ".kv/",
    ".kv/lock",
    ".kv/lock/",
    ".kv/lock/1/",
    ".kv/lock/1/l",
    ".kv/lock/1/l/",
    ".kv/lock/1/l/x",
    ".kv/lock/1/l/.kv",
    ".kv/lock/1/l/a b/c",
    ".kv/lock/1/l/0123456789abcdef",
    ".kv/lock/1/l/0123456789abcdeF",
    ".kv/lock/7/l/0123456789abcdef",
    ".kv/lock/one/l/0123456789abcdef",
    ".kv/gone/",
    ".kv/gone/x",
];

#[tokio::test(flavor = "multi_thread")]
async fn junk_in_a_line_is_no_contender() -> Result<(), Failure> {
    let node = single().await?;
    let (a, b) = (open(&node, "junk/").await?, open(&node, "junk/").await?);
    let ttl = Duration::from_secs(60);
    for junk_comes_first in [false, true] {
        let junk = async |value: &[u8]| {
            for name in JUNK {
                set(&node, &format!("junk/{name}"), value).await?;
            }
            Ok::<_, Failure>(())
        };
        if junk_comes_first {
            junk(b"before").await?;
        }
        let mut holder = b.lock_holder("l").watch().await?;
        while holder.event().await? != WatchEvent::Synced {}
        let first = a.new_lock("l").ttl(ttl).value("a").try_acquire().await?.ok_or("junk holds nothing")?;
        if !junk_comes_first {
            junk(b"behind").await?;
        }
        assert!(b.new_lock("l").ttl(ttl).try_acquire().await?.is_none(), "it is held");
        let waits = tokio::spawn(b.new_lock("l").ttl(ttl).value("b").acquire().into_future());
        let line = "junk/.kv/lock/1/l/";
        soon("who waits", async {
            let junk = JUNK.iter().filter(|name| name.starts_with(".kv/lock/1/l/")).count();
            while names(node.address, line).await?.len() < junk + 2 {}
            Ok::<_, Failure>(())
        })
        .await??;
        junk(b"again").await?;
        for n in 0..3 {
            a.put("k", n.to_string()).fenced(&first).await?;
            assert!(!waits.is_finished() && first.is_held());
        }
        let seen = b.lock_holder("l").await?.ok_or("it is held")?;
        assert_eq!((seen.token, &*seen.value), (first.token(), &b"a"[..]));
        match soon("the holder", holder.event()).await?? {
            WatchEvent::Put(entry) => assert_eq!(entry.text(), Some("a")),
            event => return Err(format!("{event:?}").into()),
        }
        let token = first.token();
        assert!(first.release().await?);
        let second = soon("the lock", waits).await???;
        assert!(second.token() > token);
        match soon("the holder", holder.event()).await?? {
            WatchEvent::Put(entry) => assert_eq!(entry.text(), Some("b")),
            event => return Err(format!("{event:?}").into()),
        }
        assert!(second.release().await?);
        assert_eq!(b.lock_holder("l").await?, None);
        for name in JUNK {
            let ops = json!([{ "KV": { "Verb": "delete", "Key": format!("junk/{name}") } }]);
            txn(node.address, ops).await?;
        }
    }
    Ok(())
}

/// A contender is released by `consul kv put -release`, or in the UI.
#[tokio::test(flavor = "multi_thread")]
async fn a_contender_that_is_released_by_hand_is_none() -> Result<(), Failure> {
    let node = single().await?;
    let kv = open(&node, "hand/").await?;
    let guard = kv.new_lock("l").ttl(Duration::from_secs(60)).acquire().await?;
    let name = names(node.address, "hand/.kv/lock/").await?.pop().ok_or("a contender")?;
    let whole = common::http(node.address, &format!("GET /v1/kv/{name}"), b"").await?.json()?;
    let session = whole[0]["Session"].as_str().ok_or("a session")?;
    common::http(node.address, &format!("PUT /v1/kv/{name}?release={session}"), b"").await?;
    soon("the loss", guard.lost()).await?;
    assert!(kv.put("k", "").fenced(&guard).await.is_err());
    let next = kv.new_lock("l").try_acquire().await?.ok_or("it is free")?;
    assert!(next.token() > guard.token() && next.release().await?);
    Ok(())
}

/// The store of another program lies inside of ours: what that store keeps for itself stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_inside_of_another_keeps_its_locks() -> Result<(), Failure> {
    let node = single().await?;
    let (outer, inner) = (open(&node, "").await?, open(&node, "a/in").await?);
    let (guard, ttl) = (inner.new_lock("l").acquire().await?, Duration::from_secs(60));
    for directory in ["a/in", "a", ""] {
        for key in ["a/x", "a/in/x", "a/in/y/z", "a/in.kv/x", "b/x", "c"] {
            outer.put(key, "").await?;
        }
        inner.put("ttl", "").ttl(ttl).await?;
        let below = |key: &str| directory.is_empty() || key.starts_with(&format!("{directory}/"));
        outer.delete_tree(directory).await?;
        for entry in outer.list("").await? {
            assert!(!below(entry.key.as_str()), "{} is left of {directory:?}", entry.key);
        }
        assert!(guard.is_held());
        inner.put("fenced", "").fenced(&guard).await?;
    }
    assert!(guard.release().await?);
    Ok(())
}

/// A store inside takes its first lock between the reading of the names and their deletion.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_inside_of_another_keeps_a_lock_that_it_takes_meanwhile() -> Result<(), Failure> {
    let node = single().await?;
    let proxy = Proxy::start(node.address).await;
    let (outer, inner) = (
        kv_consul::open(&format!("consul://{}/outer/", proxy.address())).await?,
        open(&node, "outer/a/in").await?,
    );
    for directory in ["a/in", "a", ""] {
        for key in ["a/x", "a/in/x", "a/in/y/z", "b"] {
            outer.put(key, "").await?;
        }
        assert_eq!(names(node.address, "outer/a/in/.kv/").await?, Vec::<String>::new());
        proxy.hold_answer_to("&keys=");
        let deletes = tokio::spawn(outer.delete_tree(directory).into_future());
        soon("the names", async { tokio::join!(proxy.trapped(), proxy.answered()) }).await?;
        let guard = inner.new_lock("l").acquire().await?;
        proxy.thaw();
        soon("the deletion", deletes).await???;
        assert_eq!(outer.list("a/in").await?.len(), 0, "{directory:?}");
        assert!(guard.is_held(), "{directory:?}");
        inner.put("fenced", "").fenced(&guard).await?;
        assert!(inner.new_lock("l").try_acquire().await?.is_none(), "{directory:?}");
        assert!(guard.release().await?, "{directory:?}");
    }
    Ok(())
}
