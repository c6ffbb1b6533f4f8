//! Handles on a part of the tree: names in calls, answers and errors, and what the parts share.

mod common;

use common::Silent;
use kv_core::{Condition, Directory, ErrorKind, Item, Key, Kv, Next, Outcome, Result, WatchEvent};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

async fn open() -> (Kv, Kv) {
    let kv = kv_memory::open("memory://").await.unwrap();
    let app = kv.within("app/").unwrap();
    (kv, app)
}

async fn keys(kv: &Kv, directory: &str) -> Vec<String> {
    kv.list(directory).await.unwrap().into_iter().map(|entry| entry.key.to_string()).collect()
}

#[track_caller]
fn refused<T>(answer: Result<T>, kind: ErrorKind, says: &str) {
    let e = answer.err().expect("refused");
    assert_eq!(e.kind(), kind, "{e}");
    assert_eq!(e.to_string(), says);
}

#[tokio::test]
async fn every_call_is_of_the_part() {
    let (kv, app) = open().await;
    kv.put("app", "the directory's name").await.unwrap();
    kv.put("application/a", "").await.unwrap();
    app.put("/d//a/", "1").await.unwrap();
    app.atomic_put("d/b", "2", None).await.unwrap();
    app.put("c", "3").ttl(60 * SECOND).await.unwrap();
    assert_eq!(keys(&kv, "").await, ["app", "app/c", "app/d/a", "app/d/b", "application/a"]);
    assert_eq!(keys(&app, "").await, ["c", "d/a", "d/b"]);
    assert_eq!(keys(&app, "d").await, ["d/a", "d/b"]);
    let entry = app.get("d/a").await.unwrap().unwrap();
    assert_eq!((entry.key.as_str(), entry.text()), ("d/a", Some("1")));
    assert_eq!(kv.get("app/d/a").await.unwrap().unwrap().version, entry.version);
    let found = app.get_many(["d/b", "none", "c"]).await.unwrap();
    let found: Vec<_> = found.iter().map(|e| e.as_ref().map(|e| e.key.as_str())).collect();
    assert_eq!(found, [Some("d/b"), None, Some("c")]);
    assert!(app.exists("d/a").await.unwrap() && !app.exists("app/d/a").await.unwrap());
    assert_eq!(app.adopt("").await.unwrap(), 0);
    assert!(app.put("d/a", "9").if_version(entry.version).await.is_ok());
    assert!(app.delete("c").await.unwrap());
    assert_eq!(app.update("n", |_| Ok("1")).await.unwrap().text(), Some("1"));
    assert_eq!(kv.get("app/n").await.unwrap().unwrap().text(), Some("1"));
    app.update("n", |_| Ok(Next::Delete)).await.unwrap();
    assert_eq!(app.delete_tree("d").await.unwrap(), Some(2));
    kv.put("app/x", "").await.unwrap();
    assert_eq!(app.delete_tree("").await.unwrap(), Some(1));
    assert_eq!(keys(&kv, "").await, ["app", "application/a"]);
    kv_memory::Faults::of(&app).unwrap().lose_answers(1);
    app.update("n", |_| Ok("1")).exactly_once().await.unwrap();
    assert_eq!((keys(&app, "kv-updates").await.len(), keys(&kv, "app/kv-updates").await.len()), (1, 1));
}

#[tokio::test]
async fn listings_of_a_part_have_its_names_and_places() {
    let (kv, app) = open().await;
    for key in ["a", "b", "b/x", "b/y", "b.c", "d/z"] {
        app.put(key, "").await.unwrap();
    }
    let places = |items: Vec<Item>| items.iter().map(|item| item.position().start()).collect::<Vec<_>>();
    assert_eq!(places(app.list("").child_keys().await.unwrap()), ["a", "b", "b.c", "b/", "d/"]);
    assert_eq!(
        places(app.list("").start_after(Key::parse("b").unwrap()).children().await.unwrap()),
        ["b.c", "b/", "d/"]
    );
    let behind = Directory::parse("b").unwrap();
    let found = app.list("").start_after(&behind).limit(2).keys().await.unwrap();
    assert_eq!(found, [Key::parse("b/x").unwrap(), Key::parse("b/y").unwrap()]);
    let all = app.list("").start_after(Directory::root()).await.unwrap();
    assert_eq!(all.len(), 6);
    // One of many pages.
    for n in 0..1500 {
        app.put(format!("many/{n:04}"), "").await.unwrap();
    }
    let many = app.list("many").keys().await.unwrap();
    assert_eq!((many.len(), many[1499].as_str()), (1500, "many/1499"));
    assert_eq!(kv.list("app/many").keys().await.unwrap().len(), 1500);
}

#[tokio::test]
async fn watches_tell_the_names_of_the_part() {
    let (kv, app) = open().await;
    kv.put("app/d/a", "1").await.unwrap();
    let (mut tree, mut key) = (app.watch_tree("").await.unwrap(), app.watch("d/a").await.unwrap());
    let mut holder = app.lock_holder("l").watch().await.unwrap();
    for watch in [&mut tree, &mut key] {
        let first = watch.event().await.unwrap();
        assert!(matches!(first, WatchEvent::Put(e) if e.key.as_str() == "d/a"));
        assert_eq!(watch.event().await.unwrap(), WatchEvent::Synced);
    }
    assert_eq!(holder.event().await.unwrap(), WatchEvent::Synced);
    kv.put("application/a", "").await.unwrap();
    kv.delete("app/d/a").await.unwrap();
    for watch in [&mut tree, &mut key] {
        let gone = watch.event().await.unwrap();
        assert!(matches!(gone, WatchEvent::Delete { key, .. } if key.as_str() == "d/a"));
    }
    let guard = kv.new_lock("app/l").value("me").acquire().await.unwrap();
    let held = holder.event().await.unwrap();
    assert!(matches!(held, WatchEvent::Put(e) if e.key.as_str() == "l" && e.value == "me"));
    guard.release().await.unwrap();
    assert!(matches!(holder.event().await.unwrap(), WatchEvent::Delete { key, .. } if key.as_str() == "l"));
    kv.close().await.unwrap();
    refused(
        tree.event().await,
        ErrorKind::Closed,
        "watch_tree \"\" on memory: the store's handle was closed",
    );
}

#[tokio::test]
async fn locks_and_leases_are_of_both_handles() {
    let (kv, app) = open().await;
    let guard = app.new_lock("l").value("part").acquire().await.unwrap();
    assert_eq!(guard.name().as_str(), "l");
    assert_eq!(kv.lock_holder("app/l").await.unwrap().map(|h| h.token), Some(guard.token()));
    assert!(kv.new_lock("app/l").try_acquire().await.unwrap().is_none(), "it is one lock");
    assert!(kv.new_lock("l").try_acquire().await.unwrap().is_some(), "and this is another");
    for handle in [&kv, &app] {
        handle.put("a", "").fenced(&guard).await.unwrap();
        let held = handle.transact().when_held(&guard).then(handle.put("b", "")).await.unwrap();
        assert!(held.is_committed());
    }
    let lease = app.lease(60 * SECOND).await.unwrap();
    kv.put("leased", "").lease(&lease).await.unwrap();
    app.put("leased", "").lease(&lease).await.unwrap();
    lease.revoke().await.unwrap();
    assert!(!kv.exists("leased").await.unwrap() && !app.exists("leased").await.unwrap());
    let (token, fence) = (guard.token(), guard.fence().clone());
    guard.set_value("again").await.unwrap();
    assert_eq!(app.lock_holder("l").await.unwrap().unwrap().value, "again");
    assert!(!kv.break_lock("l").token(token).await.unwrap(), "it is another");
    assert!(app.break_lock("l").token(token).await.unwrap());
    assert!(!guard.release().await.unwrap());
    let says = format!(
        "put \"a\" on memory: lock \"l\" with token {token} is no longer held; acquire it anew before writing"
    );
    for handle in [&kv, &app] {
        refused(handle.put("a", "").fenced(&fence).await, ErrorKind::LockLost, &says);
    }
}

#[tokio::test]
async fn transactions_take_steps_of_both_handles() {
    let (kv, app) = open().await;
    let version = app.put("a", "1").await.unwrap().version;
    let both = app
        .transact()
        .when_version("a", version)
        .then(app.put("b", "2"))
        .then(kv.put("b", "3").if_missing())
        .then(kv.delete("app/a"));
    assert!(both.await.unwrap().is_committed());
    assert_eq!(keys(&kv, "").await, ["app/b", "b"]);

    let refusal = |outcome: Outcome| outcome.refusal().map(ToString::to_string).expect("refused");
    let own = app.transact().when_exists("b").when_missing("b").then(app.put("c", "")).await.unwrap();
    assert_eq!(refusal(own), "condition 1: the key \"b\" is there");
    let theirs = app.transact().when_exists("b").then(kv.put("app/b", "").if_missing()).await.unwrap();
    assert_eq!(refusal(theirs), "condition 1: the key \"app/b\" is there", "as it was given");
    let given = app.transact().when(Condition::Missing(Key::parse("b").unwrap())).await.unwrap();
    assert_eq!(refusal(given), "condition 0: the key \"b\" is there");
    let twice = app.transact().then(app.put("c", "")).then(kv.delete("app/c")).await;
    let says = "transact on memory: the key \"c\" is written twice in one transaction";
    refused(twice, ErrorKind::InvalidArgument, says);
    let apart = app.transact().then(app.put("c", "")).then(kv.delete("c")).await.unwrap();
    assert!(apart.is_committed());
    assert_eq!(keys(&kv, "").await, ["app/b", "app/c", "b"]);
}

#[tokio::test]
async fn errors_name_what_was_asked_for() {
    let kv = Kv::new(Silent::able()).with_deadline(SECOND / 100);
    let app = kv.within("app").unwrap().within("blue").unwrap();
    refused(app.get("a").await, ErrorKind::Timeout, "get \"a\" on silent: no answer within 10ms");
    refused(app.list("d").await, ErrorKind::Timeout, "list \"d\" on silent: no answer within 10ms");
    let wait = app.new_lock("l").try_acquire().await;
    refused(wait, ErrorKind::Timeout, "try_acquire \"l\" on silent: no answer within 10ms");
    assert_eq!(app.watch("a").await.unwrap_err().key(), Some("a"));
    assert_eq!(app.delete_tree("d").await.unwrap_err().key(), Some("d"));
    assert_eq!(app.adopt("d").await.unwrap_err().key(), Some("d"));
    assert_eq!(app.lock_holder("l").await.unwrap_err().key(), Some("l"));
    assert_eq!(app.exists("a").await.unwrap_err().key(), Some("a"));
    assert_eq!(app.delete("a").await.unwrap_err().key(), Some("a"));
}

#[tokio::test]
async fn parts_have_parts_and_every_name_fits_below() {
    let (kv, app) = open().await;
    let blue = app.within("/blue//green/").unwrap();
    assert_eq!(blue.directory().as_str(), "app/blue/green");
    assert_eq!(app.within("").unwrap().directory(), app.directory());
    assert!(kv.within("/").unwrap().directory().is_root());
    assert!(format!("{blue:?}").contains("directory: \"app/blue/green/\""), "{blue:?}");
    let e = app.within("a/../b").unwrap_err();
    assert_eq!((e.kind(), e.operation()), (ErrorKind::InvalidKey, Some("within")));

    let deep = kv.within("d".repeat(400)).unwrap().within("e".repeat(86)).unwrap();
    let longest = "k".repeat(512);
    deep.put(&longest, "1").await.unwrap();
    assert_eq!(keys(&deep, "").await, [longest.as_str()]);
    let e = kv.within("d".repeat(400)).unwrap().within("e".repeat(87)).unwrap_err();
    assert!(e.to_string().contains("is 488 bytes long; a part of the tree has at most 487"), "{e}");
    // A name out of a listing may be too long for a part.
    let found = kv.list("").keys().await.unwrap().remove(0);
    assert_eq!(deep.get(&found).await.unwrap_err().kind(), ErrorKind::InvalidKey);
    assert_eq!(deep.transact().when_exists(&found).await.unwrap_err().kind(), ErrorKind::InvalidKey);
}

#[tokio::test]
async fn either_handle_closes_both() {
    for closes_the_part in [false, true] {
        let (kv, app) = open().await;
        let guards = [kv.new_lock("l").acquire().await.unwrap(), app.new_lock("l").acquire().await.unwrap()];
        let closing = if closes_the_part { &app } else { &kv };
        closing.close().await.unwrap();
        assert!(kv.is_closed() && app.is_closed());
        assert!(guards.iter().all(|guard| !guard.is_held()));
        assert_eq!(app.get("a").await.unwrap_err().kind(), ErrorKind::Closed);
    }
}
