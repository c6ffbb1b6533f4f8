//! `Coalesce` has readers share the watches of the store below.

use crate::below::Below;
use kv_core::{Kv, Result, Watch, WatchEvent};
use kv_layers::Coalesce;
use kv_memory::Faults;
use std::{collections::BTreeMap, time::Duration};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
    time::timeout,
};

async fn coalesced() -> Result<(Kv, Kv, Below)> {
    let (store, below) = (kv_memory::open("memory://").await?, Below::new());
    Ok((store.clone(), store.layer(below.clone()).layer(Coalesce), below))
}

/// Waits until so many watches are open below.
async fn until_open(below: &Below, many: usize) {
    let coming = async {
        while below.open() != many {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let came = timeout(Duration::from_secs(20), coming).await;
    assert!(came.is_ok(), "{} watches are open below, not {many}", below.open());
}

/// Reads until the map has these values.
async fn come_to(watch: &mut Watch, map: &mut BTreeMap<String, String>, end: &str) -> Result<()> {
    while map.get("d/end").map(String::as_str) != Some(end) {
        match watch.event().await? {
            WatchEvent::Put(entry) => {
                let value = entry.text().unwrap_or_default().to_owned();
                map.insert(entry.key.to_string(), value);
            }
            WatchEvent::Delete { key, .. } => drop(map.remove(key.as_str())),
            WatchEvent::Synced => {}
        }
    }
    Ok(())
}

/// Has this many readers follow the directory in tasks of their own, to each of these ends.
async fn readers(kv: &Kv, many: usize, ends: &'static [&'static str]) -> Result<Readers> {
    let mut tasks = JoinSet::new();
    for _ in 0..many {
        let mut watch = kv.watch_tree("d").await?;
        tasks.spawn(async move {
            let mut map = BTreeMap::new();
            for end in ends {
                come_to(&mut watch, &mut map, end).await?;
            }
            Ok::<_, kv_core::Error>((watch, map))
        });
    }
    Ok(tasks)
}

type Readers = JoinSet<Result<(Watch, BTreeMap<String, String>)>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_readers_of_a_directory_are_one_watch_below() -> Result<()> {
    const READERS: usize = 200;
    let (store, kv, below) = coalesced().await?;
    for n in 0..50 {
        store.put(format!("d/{n}"), "0").await?;
    }
    let mut tasks = readers(&kv, READERS, &["one", "two"]).await?;
    until_open(&below, 1).await;
    let begun = below.begun();
    assert!(begun <= READERS + 1, "{begun}");
    for n in 0..20 {
        store.delete(format!("d/{n}")).await?;
        store.put(format!("d/{}", n + 100), "1").await?;
    }
    store.put("d/end", "one").await?;
    store.put("d/end", "two").await?;
    let listed: BTreeMap<_, _> = store
        .list("d")
        .await?
        .into_iter()
        .map(|entry| (entry.key.to_string(), String::from_utf8_lossy(&entry.value).into_owned()))
        .collect();
    let mut watches = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        let (watch, map) = ended.expect("it does not panic")?;
        assert_eq!(map, listed);
        watches.push(watch);
    }
    assert_eq!((below.open(), below.begun()), (1, begun), "nobody began anew");
    drop(watches);
    until_open(&below, 0).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_that_comes_later_sees_what_was_written_before() -> Result<()> {
    let (_, kv, below) = coalesced().await?;
    let mut first = readers(&kv, 1, &["end"]).await?;
    until_open(&below, 1).await;
    for n in 0..300 {
        let version = kv.put("d/a", n.to_string()).await?.version;
        let mut watch = kv.watch_tree("d").await?;
        let mut newest = None;
        loop {
            match watch.event().await? {
                WatchEvent::Put(entry) => newest = Some(entry.version),
                WatchEvent::Delete { .. } => newest = None,
                WatchEvent::Synced => break,
            }
        }
        assert!(newest >= Some(version), "round {n}: {newest:?} before {version:?}");
        if n % 3 == 0 {
            kv.delete("d/a").await?;
            let ended = watch.event().await?;
            assert!(matches!(ended, WatchEvent::Delete { .. }), "{ended:?}");
        }
    }
    kv.put("d/end", "end").await?;
    let _ended = first.join_next().await.expect("a reader").expect("it does not panic")?;
    Ok(())
}

#[tokio::test]
async fn what_a_shared_watch_that_is_behind_has_to_tell_comes_to_no_reader_twice() -> Result<()> {
    let (store, kv, below) = coalesced().await?;
    let mut first = readers(&kv, 1, &["end"]).await?;
    until_open(&below, 1).await;
    below.hold();
    let version = store.put("d/a", "").await?.version;
    let mut watch = kv.watch_tree("d").await?;
    let put = watch.event().await?;
    assert!(matches!(&put, WatchEvent::Put(entry) if entry.version == version), "{put:?}");
    assert_eq!(watch.event().await?, WatchEvent::Synced);
    store.delete("d/a").await?;
    let ended = watch.event().await?;
    assert!(matches!(ended, WatchEvent::Delete { .. }), "{ended:?}");
    // There is again what was there when the shared watch was held: nothing.
    let more = timeout(Duration::from_millis(100), watch.event()).await;
    assert!(more.is_err(), "{more:?}");
    below.release();
    store.put("d/end", "end").await?;
    let next = watch.event().await?;
    assert!(matches!(&next, WatchEvent::Put(entry) if entry.key.as_str() == "d/end"), "{next:?}");
    let _ended = first.join_next().await.expect("a reader").expect("it does not panic")?;
    Ok(())
}

#[tokio::test]
async fn what_came_and_went_before_the_own_watch_told_it_is_told() -> Result<()> {
    let (store, kv, below) = coalesced().await?;
    let mut first = readers(&kv, 1, &["end"]).await?;
    until_open(&below, 1).await;
    let mut watch = kv.watch_tree("d").await?;
    assert_eq!(watch.event().await?, WatchEvent::Synced);
    // The shared watch tells of both while nobody asks this one for more.
    store.put("d/a", "").await?;
    store.delete("d/a").await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (put, ended) = (watch.event().await?, watch.event().await?);
    assert!(matches!(put, WatchEvent::Put(_)), "{put:?}");
    assert!(matches!(ended, WatchEvent::Delete { .. }), "{ended:?}");
    store.put("d/end", "end").await?;
    let _ended = first.join_next().await.expect("a reader").expect("it does not panic")?;
    Ok(())
}

#[tokio::test]
async fn an_outage_below_is_told_to_all_by_what_differs_and_synced() -> Result<()> {
    let (store, kv, below) = coalesced().await?;
    let faults = Faults::of(&store).expect("a store in memory");
    store.put("d/a", "1").await?;
    let mut watches = Vec::new();
    for _ in 0..5 {
        let mut watch = kv.watch_tree("d").await?;
        while watch.event().await? != WatchEvent::Synced {}
        watches.push(watch);
    }
    for (watch, open) in watches.iter_mut().zip((1..=5).rev()) {
        joins(watch, &below, 6, open).await;
    }
    until_open(&below, 1).await;
    faults.cut_watches();
    store.put("d/b", "2").await?;
    for watch in &mut watches {
        let event = watch.event().await?;
        assert!(matches!(&event, WatchEvent::Put(entry) if entry.key.as_str() == "d/b"), "{event:?}");
        assert_eq!(watch.event().await?, WatchEvent::Synced);
    }
    store.delete("d/a").await?;
    for watch in &mut watches {
        let event = watch.event().await?;
        assert!(matches!(&event, WatchEvent::Delete { key, .. } if key.as_str() == "d/a"), "{event:?}");
    }
    Ok(())
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Asks for the next event, by which a reader joins the shared watch, until so many watches were begun
/// below, and no more than so many are open: those of the other readers, and the shared one.
async fn joins(watch: &mut Watch, below: &Below, begun: usize, open: usize) {
    let joins = async {
        while below.begun() < begun || below.open() > open {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        more = watch.event() => panic!("there is no more: {more:?}"),
        joined = timeout(Duration::from_secs(20), joins) => {
            assert!(joined.is_ok(), "{} of {} are open below", below.open(), below.begun());
        }
    }
}

/// Reads what is there, and joins the shared watch as the only reader, for which this makes so many
/// that were begun below.
async fn joined(watch: &mut Watch, below: &Below, begun: usize) {
    while watch.event().await.expect("an event") != WatchEvent::Synced {}
    joins(watch, below, begun, 1).await;
}

/// Reads until this key is put.
async fn told(watch: &mut Watch, key: &str) {
    let told = async {
        loop {
            match watch.event().await.expect("an event") {
                WatchEvent::Put(entry) if entry.key.as_str() == key => break,
                WatchEvent::Put(_) | WatchEvent::Synced => {}
                other => panic!("{other:?}"),
            }
        }
    };
    assert!(timeout(Duration::from_secs(20), told).await.is_ok(), "waited in vain for {key}");
}

#[test]
fn readers_go_on_elsewhere_while_the_runtime_of_the_first_stands_still() {
    let (first, second) = (runtime(), runtime());
    let (store, kv, below) = first.block_on(coalesced()).expect("a store");
    let mut theirs = first.block_on(async {
        let mut watch = kv.watch_tree("d").await.expect("a watch");
        joined(&mut watch, &below, 2).await;
        watch
    });
    assert_eq!(below.open(), 1);
    second.block_on(async {
        let mut ours = kv.watch_tree("d").await.expect("a watch");
        store.put("d/a", "1").await.expect("a put");
        told(&mut ours, "d/a").await;
        told(&mut theirs, "d/a").await;
        for watch in [&mut ours, &mut theirs] {
            let wait = timeout(Duration::from_millis(100), watch.event()).await;
            assert!(matches!(wait, Err(_) | Ok(Ok(WatchEvent::Synced))), "{wait:?}");
        }
        store.put("d/b", "1").await.expect("a put");
        told(&mut ours, "d/b").await;
        told(&mut theirs, "d/b").await;
    });
    first.block_on(async {
        store.put("d/c", "1").await.expect("a put");
        told(&mut theirs, "d/c").await;
    });
}

#[test]
fn readers_outlive_the_runtime_of_the_first() {
    let first = runtime();
    let second = runtime();
    let (store, kv, below) = first.block_on(coalesced()).expect("a store");
    let mut theirs = first.block_on(async {
        let mut watch = kv.watch_tree("d").await.expect("a watch");
        joined(&mut watch, &below, 2).await;
        watch
    });
    assert_eq!(below.open(), 1);
    drop(first);
    second.block_on(async {
        let mut ours = kv.watch_tree("d").await.expect("a watch");
        joined(&mut ours, &below, 4).await;
        store.put("d/a", "1").await.expect("a put");
        for watch in [&mut ours, &mut theirs] {
            told(watch, "d/a").await;
        }
    });
}

#[tokio::test]
async fn closing_ends_what_is_shared() -> Result<()> {
    let (store, kv, below) = coalesced().await?;
    let tasks = readers(&kv, 3, &["never"]).await?;
    until_open(&below, 1).await;
    store.close().await?;
    until_open(&below, 0).await;
    drop(tasks);
    Ok(())
}
