//! Listings: pages, children and places, compared with the plain rule of [`Page::select`].

use futures::StreamExt;
use kv_core::{
    Directory, Entry, Item, Key, Kv, Position,
    driver::{ListOptions, Page},
};
use kv_memory::Memory;

async fn keys(kv: &Kv, directory: &str) -> Vec<String> {
    kv.list(directory).keys().map(|key| key.unwrap().to_string()).collect().await
}

/// Compares every directory, place, limit and form, on a tree whose names are as close as can be,
/// between names that are no keys.
#[tokio::test]
async fn every_listing_is_what_the_rule_selects() {
    let memory = Memory::new();
    let (kv, foreign) = (Kv::new(memory.with_raw_prefix("p")), Kv::new(memory.clone()));
    // Behind the prefix `p` these are no keys: `/x`, `/x/y`, `.kv/x`, `.kv/y/z`, `a/../b`, `a//b`.
    for name in ["p/x", "p/x/y"] {
        foreign.put(name, "").await.unwrap();
    }
    let below = |prefix: &str| Kv::new(memory.with_raw_prefix(prefix));
    below("p.k").put("v/x", "").await.unwrap();
    below("p.k").put("v/y/z", "").await.unwrap();
    below("pa/../").put("b", "").await.unwrap();
    below("pa//").put("b", "").await.unwrap();

    let segments = ["a", "a-", "a0", "b"];
    let mut names: Vec<String> = segments.map(String::from).to_vec();
    for depth in 1..3 {
        let above: Vec<_> = names.iter().filter(|n| n.matches('/').count() == depth - 1).cloned().collect();
        names.extend(above.iter().flat_map(|n| segments.map(|s| format!("{n}/{s}"))));
    }
    let key = |name: &str| Key::parse(name).unwrap();
    let mut entries = Vec::new();
    for name in names.iter().step_by(3) {
        let version = kv.put(name, name.clone()).await.unwrap().version;
        entries.push(Entry::new(key(name), name.clone(), version));
    }
    let directories = ["", "a", "a-", "a0", "a/a", "a/b", "b", "c"].map(|d| Directory::parse(d).unwrap());
    let places =
        names.iter().flat_map(|n| [Position::Key(key(n)), Position::Directory(key(n).as_directory())]);
    let places: Vec<_> = places.map(Some).chain([None]).collect();
    let mut compared = 0;
    for directory in &directories {
        for (place, recursive, keys_only) in
            places.iter().flat_map(|p| [(p, true, true), (p, true, false), (p, false, true)])
        {
            let options =
                ListOptions::default().recursive(recursive).keys_only(keys_only).start_after(place.clone());
            let expected = Page::select(entries.clone(), directory, &options, None).items;
            for limit in [1, 2, 1000] {
                let options = options.clone().limit(Some(limit));
                let (mut found, mut from) = (Vec::new(), None);
                loop {
                    let page = kv.store().as_ref().list(directory, from.as_ref(), &options).await.unwrap();
                    assert!(page.items.len() <= limit);
                    found.extend(page.items);
                    from = page.next;
                    if from.is_none() {
                        break;
                    }
                }
                assert_eq!(
                    found, expected,
                    "{directory:?} behind {place:?}, recursive {recursive}, by {limit}"
                );
                compared += expected.len();
            }
        }
    }
    assert!(compared > 10_000, "{compared}");
}

/// Compares pages, children and places with a listing of everything.
#[tokio::test]
async fn listings_go_on_where_they_stopped() {
    let kv = Kv::new(Memory::new().with_raw_prefix("p"));
    let mut all = Vec::new();
    for n in 0..1500 {
        all.push(format!("d/{:02}/{n:04}", n % 40));
        all.push(format!("d/{:02}", n % 40));
        all.push(format!("d/{:02}.x", n % 40));
    }
    all.sort();
    all.dedup();
    for key in &all {
        kv.put(key, vec![0; 2000]).await.unwrap(); // 1.5 MiB and more than 1,000 items: several pages of both kinds
    }
    kv.put("d", "").await.unwrap();
    kv.put("d0", "").await.unwrap();
    assert_eq!(keys(&kv, "d").await, all);
    let entries: Vec<_> = kv.list("d").await.unwrap().into_iter().map(|e| e.key.to_string()).collect();
    assert_eq!(entries, all);

    let children = |list: kv_core::List| {
        list.child_keys().map(|item: kv_core::Result<Item>| item.unwrap().position()).collect::<Vec<_>>()
    };
    let places = children(kv.list("d")).await;
    let shown: Vec<_> = places.iter().take(3).map(|p| p.start()).collect();
    assert_eq!(shown, ["d/00", "d/00.x", "d/00/"]);
    assert_eq!(places.len(), 120);
    for (n, place) in places.iter().enumerate() {
        let rest = children(kv.list("d").start_after(place.clone()).limit(4)).await;
        assert_eq!(rest, places[n + 1..].iter().take(4).cloned().collect::<Vec<_>>());
    }
    let behind = kv.list("d").start_after(Key::parse("d/38/9").unwrap()).limit(1).await.unwrap();
    assert_eq!(behind[0].key.as_str(), "d/39");
    assert_eq!(kv.delete_tree("d").await.unwrap(), Some(all.len() as u64));
    assert_eq!(keys(&kv, "").await, ["d", "d0"]);
}
