//! The clients that share a store, and the separation of prefixes.

use futures::{FutureExt, StreamExt};
use kv_core::{
    ErrorKind, Key, Kv, Registry, StoreUrl, WatchEvent,
    backend::Clock,
    driver::{Store, Target},
};
use kv_memory::{Config, Memory};
use std::time::Duration;

async fn keys(kv: &Kv, directory: &str) -> Vec<String> {
    kv.list(directory).keys().map(|key| key.unwrap().to_string()).collect().await
}

#[tokio::test]
async fn a_name_is_shared_as_long_as_one_client_lives() {
    let open = |url: &'static str| async move { kv_memory::open(url).await.unwrap() };
    let (one, two, other) =
        (open("memory://shared/app/").await, open("memory://shared").await, open("memory://").await);
    one.put("a", "1").await.unwrap();
    assert_eq!(keys(&two, "").await, ["app/a"]);
    assert!(keys(&other, "").await.is_empty());

    one.close().await.unwrap();
    assert_eq!(one.get("a").await.unwrap_err().kind(), ErrorKind::Closed);
    drop(one);
    assert!(two.exists("app/a").await.unwrap(), "closing one client is nothing to the others");
    drop(two);
    assert!(keys(&open("memory://shared").await, "").await.is_empty());
}

/// Versions, leases and proofs of one store mean nothing to another, nor to one that is made anew
/// under its name.
#[tokio::test]
async fn versions_leases_and_proofs_are_of_one_store() {
    let open = || async { Config::new().name("anew").open().await.unwrap() };
    let first = open().await;
    let other = Kv::new(Memory::new());
    let version = first.put("a", "1").await.unwrap().version;
    let (lease, guard) =
        (first.lease(Duration::from_secs(9)).await.unwrap(), first.new_lock("l").acquire().await.unwrap());
    let _others =
        (other.lease(Duration::from_secs(9)).await.unwrap(), other.new_lock("l").acquire().await.unwrap());
    assert_eq!(other.put("b", "").lease(&lease).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(other.put("b", "").fenced(&guard).await.unwrap_err().kind(), ErrorKind::LockLost);
    first.close().await.unwrap();
    drop((first, lease, guard));
    let anew = open().await;
    anew.put("a", "1").await.unwrap();
    assert_eq!(anew.atomic_put("a", "2", version).await.unwrap_err().kind(), ErrorKind::KeyModified);
}

#[tokio::test]
async fn urls_are_refused_with_a_reason() {
    for (url, why) in [
        ("memory://?ttl=5", "\"ttl\""),
        ("memory://a,b/x", "several names"),
        ("memory://me@a/x", "user"),
        ("redis://a/x", "\"redis\" is not the scheme of this store, which is \"memory\""),
    ] {
        let refused = kv_memory::open(url).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{url}");
        assert!(refused.to_string().contains(why), "{url}: {refused}");
    }
    let registry = Registry::new().with("memory", kv_memory::from_url);
    assert_eq!(registry.open("memory:///p%20q/").await.unwrap().capabilities().backend, "memory");
    let config = Config::from_url(StoreUrl::parse("memory://n/p%20q//").unwrap()).unwrap();
    assert_eq!((config.name.as_deref(), &*config.prefix), (Some("n"), "p q//"));
}

#[tokio::test]
async fn an_open_store_keeps_its_clock() {
    let clock = Clock::manual();
    let first = Config::new().name("clocked").clock(clock.clone()).build().await.unwrap();
    let refused = Config::new().name("clocked").clock(Clock::manual()).build().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    let second = Config::new().name("clocked").open().await.unwrap();
    second.put("a", "").ttl(Duration::from_secs(5)).await.unwrap();
    first.clock().advance(Duration::from_secs(5));
    assert!(!second.exists("a").await.unwrap());
}

/// Every client is told exactly what it sees, under its own names.
#[tokio::test]
async fn a_raw_prefix_is_used_byte_for_byte() {
    let memory = Memory::new();
    let prefixes = ["", "a", "ap", "app", "app/", "app/x", "app/é", "app/è", "b/", "app//"];
    let clients = prefixes.map(|prefix| Kv::new(memory.with_raw_prefix(prefix)));
    let mut watches = Vec::new();
    for client in &clients {
        let mut watch = client.watch_tree("").await.unwrap();
        assert_eq!(watch.event().await.unwrap(), WatchEvent::Synced);
        watches.push(watch);
    }
    let of = |prefix: &str| &clients[prefixes.iter().position(|p| *p == prefix).unwrap()];
    of("app/").put("xy/é", "1").await.unwrap(); // app/xy/é
    of("app").put("x/d", "2").await.unwrap(); // appx/d
    of("").put("app/é/1", "3").await.unwrap();
    of("app//").put("double", "4").await.unwrap(); // app//double
    let expected: [&[&str]; 10] = [
        &["app/xy/é", "app/é/1", "appx/d"],
        &["pp/xy/é", "pp/é/1", "ppx/d"],
        &["p/xy/é", "p/é/1", "px/d"],
        &["x/d"],
        &["xy/é", "é/1"],
        &["y/é"],
        &[],
        &[],
        &[],
        &["double"],
    ];
    for ((client, watch), expected) in clients.iter().zip(&mut watches).zip(expected) {
        assert_eq!(keys(client, "").await, expected);
        let mut told = Vec::new();
        while let Some(event) = watch.next().now_or_never() {
            told.push(event.unwrap().unwrap().key().unwrap().to_string());
        }
        told.sort();
        assert_eq!(told, expected);
    }
    assert_eq!(of("app").delete_tree("").await.unwrap(), Some(1));
    assert_eq!(keys(of("app//"), "").await, ["double"], "no key for who deleted, so left alone");
}

#[tokio::test]
async fn locks_and_internal_keys_are_apart_by_prefix() {
    let memory = Memory::new();
    let (root, app) = (Kv::new(memory.clone()), Kv::new(memory.with_prefix("app/")));
    let of_root = root.new_lock("app/l").acquire().await.unwrap();
    let of_app = app.new_lock("l").try_acquire().await.unwrap().expect("another lock");
    assert!(of_root.is_held() && of_app.is_held());
    let refused = root.put("k", "").fenced(&of_app).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LockLost, "a proof of another prefix proves nothing here");

    let internal = Key::internal("lock", &Key::parse("x").unwrap());
    let (store, options) = (app.store().as_ref(), Default::default());
    store.put(&internal, "mine".into(), Default::default(), &options).await.unwrap();
    app.put("seen", "").await.unwrap();
    for (kv, seen) in [(&root, "app/seen"), (&app, "seen")] {
        assert_eq!(keys(kv, "").await, [seen]);
        let mut watch = kv.watch_tree("").await.unwrap();
        assert!(matches!(watch.event().await.unwrap(), WatchEvent::Put(e) if e.key.as_str() == seen));
        assert_eq!(watch.event().await.unwrap(), WatchEvent::Synced);
    }
    assert_eq!(root.delete_tree("").await.unwrap(), Some(1));
    assert_eq!(app.store().get(&internal, &Default::default()).await.unwrap().unwrap().value, "mine");
    let mut watch =
        memory.with_prefix("app/").watch(&Target::Key(internal.clone()), &Default::default()).await.unwrap();
    assert!(matches!(watch.next().await.unwrap().unwrap(), WatchEvent::Put(e) if e.key == internal));
}
