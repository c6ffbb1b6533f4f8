//! Directories in memory, and services.

mod common;

use common::{MS, S, pair, polled, until};
use kv_core::{Bytes, ErrorKind, Kv, Result};
use kv_memory::{Calls, Memory};
use kv_recipes::{Group, Registration, RegistrationState, Service, View};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{self, Excluded, Included, Unbounded},
    time::Instant,
};

/// Lists a directory, and returns it in the form of a view.
async fn listed(kv: &Kv, directory: &str) -> BTreeMap<String, Bytes> {
    let entries = kv.list(directory).await.unwrap();
    entries.into_iter().map(|e| (e.key.to_string().split_off(directory.len() + 1), e.value)).collect()
}

fn shown(view: &View<Bytes>) -> BTreeMap<String, Bytes> {
    let entries = view.entries().into_iter();
    entries.map(|e| (e.name.to_string(), Bytes::clone(&e.value.unwrap()))).collect()
}

#[tokio::test(start_paused = true)]
async fn it_shows_what_a_listing_shows_and_serves_through_outages() -> Result<()> {
    let p = pair().await;
    p.other.put("d/a", "1").await?;
    p.other.put("other", "1").await?;
    let view = View::raw(&p.kv, "d").await?;
    assert_eq!(shown(&view), listed(&p.other, "d").await);
    p.faults.pause();
    p.other.put("d/b", "2").await?;
    p.other.put("d/b/c", "3").await?;
    p.other.delete("d/a").await?;
    tokio::time::sleep(3600 * S).await;
    assert_eq!(view.get("a")?.as_deref().map(|v| &**v), Some(&b"1"[..]), "it serves what it had");
    assert_eq!(view.synced_now().await.unwrap_err().kind(), ErrorKind::Timeout);
    p.faults.resume();
    p.faults.cut_watches();
    view.synced_now().await?;
    assert_eq!(shown(&view), listed(&p.other, "d").await);
    assert_eq!(view.below("b")?.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["b/c"]);
    assert_eq!((view.len(), view.is_empty()), (2, false));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn it_is_never_empty_while_it_reads_again() -> Result<()> {
    let p = pair().await;
    for n in 0..50 {
        p.other.put(format!("d/{n}"), "").await?;
    }
    let view = View::raw(&p.kv, "d").await?;
    let watched = tokio::spawn({
        let view = view.clone();
        async move {
            let mut changes = view.changes();
            loop {
                match changes.next().await {
                    Ok(_) => assert!(view.len() >= 49, "{}", view.len()),
                    Err(e) => return e,
                }
            }
        }
    });
    for n in 0..20 {
        p.faults.fail(Calls::Reads, ErrorKind::Unavailable, 3);
        p.faults.cut_watches();
        p.other.delete(format!("d/{n}")).await?;
        p.other.put(format!("d/{n}"), "").await?;
        tokio::time::sleep(30 * S).await;
        assert_eq!(view.len(), 50);
    }
    assert!(!watched.is_finished());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_write_of_ones_own_is_waited_for_also_when_it_is_gone_already() -> Result<()> {
    let p = pair().await;
    let view = View::raw(&p.kv, "d").await?;
    let written = p.kv.put("d/a", "1").await?;
    view.wait_for("a", written.version).await?;
    assert!(view.get("a")?.is_some());
    let replaced = p.kv.put("d/a", "2").await?;
    view.wait_for("a", written.version).await?; // or what came after it
    view.wait_for("a", replaced.version).await?;
    assert_eq!(view.entry("a").unwrap().version, replaced.version);

    let short = p.kv.put("d/b", "1").await?;
    p.kv.delete("d/b").await?;
    view.wait_for("b", short.version).await?;
    assert!(view.get("b")?.is_none());

    p.faults.pause();
    let unseen = p.other.put("d/c", "1").await?;
    assert_eq!(view.wait_for("c", unseen.version).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(view.wait_for("c/../d", unseen.version).await.is_err());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn synced_now_holds_what_was_acknowledged_before() -> Result<()> {
    let p = pair().await;
    let view = View::raw(&p.kv, "d").await?;
    for round in 0..200 {
        let key = format!("d/{}", round % 7);
        match round % 3 {
            0 => p.other.delete(&key).await.map(drop)?,
            _ => p.other.put(&key, format!("{round}")).await.map(drop)?,
        }
        if round % 11 == 0 {
            p.faults.cut_watches();
        }
        view.synced_now().await?;
        assert_eq!(shown(&view), listed(&p.other, "d").await, "round {round}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn changes_are_put_together_for_a_slow_reader() -> Result<()> {
    let p = pair().await;
    p.other.put("d/a", "0").await?;
    let view = View::raw(&p.kv, "d").await?;
    let mut changes = view.changes();
    for n in 1..100 {
        p.other.put("d/a", format!("{n}")).await?;
        p.other.put("d/short", "").await?;
        p.other.delete("d/short").await?;
    }
    p.other.put("d/b", "1").await?;
    view.synced_now().await?;
    let a = changes.next().await?;
    assert_eq!(*a.old.unwrap().value?, "0");
    assert_eq!(*a.new.unwrap().value?, "99");
    let b = changes.next().await?;
    assert_eq!(
        (b.name.as_str(), b.old.is_none(), b.new.is_some()),
        ("b", true, true),
        "what came and went is left out"
    );
    assert!(tokio::time::timeout(S, changes.next()).await.is_err(), "there is no more");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn its_age_begins_anew_with_a_check() -> Result<()> {
    let p = pair().await;
    let view = View::raw(&p.kv, "d").check_every(10 * S).await?;
    let unchecked = View::raw(&p.kv, "d").await?;
    std::thread::sleep(300 * MS); // the age is measured by the machine's clock
    assert!(unchecked.age() >= 300 * MS);
    let checked = Instant::now();
    unchecked.synced_now().await?;
    let age = unchecked.age();
    assert!(age <= checked.elapsed(), "{age:?}");
    let slept = Instant::now();
    tokio::time::sleep(11 * S).await;
    let age = view.age();
    assert!(age <= slept.elapsed(), "it was checked in the background: {age:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn too_much_is_refused_and_ends_an_open_view() -> Result<()> {
    let p = pair().await;
    p.other.put("d/a", "0123456789").await?;
    assert_eq!(View::raw(&p.kv, "d").bytes(10).await.unwrap_err().kind(), ErrorKind::TooLarge);
    let view = View::raw(&p.kv, "d").bytes(40).await?;
    let mut changes = view.changes();
    for _ in 0..100 {
        p.other.put("d/a", "9876543210").await?; // replaced, not added
        view.synced_now().await?;
    }
    changes.next().await?;
    p.other.put("d/b", vec![0u8; 100]).await?;
    assert_eq!(view.ended().await.kind(), ErrorKind::TooLarge);
    assert_eq!(changes.next().await.unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(view.synced_now().await.unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(view.len(), 1, "it serves what it had");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_refusal_ends_it_and_dropping_it_leaves_no_watch() -> Result<()> {
    let p = pair().await;
    p.other.put("d/a", "1").await?;
    let view = View::raw(&p.kv, "d").await?;
    p.faults.fail(Calls::Reads, ErrorKind::PermissionDenied, 1);
    p.faults.cut_watches();
    assert_eq!(view.ended().await.kind(), ErrorKind::PermissionDenied);
    assert_eq!(view.len(), 1);
    drop(view);
    let view = View::raw(&p.kv, "d").check_every(S).await?;
    let (ended, changes) = (view.ended(), view.changes());
    drop(view);
    tokio::time::sleep(S).await;
    assert_eq!(p.memory.leftovers(), ["1 watches"], "the changes keep it");
    drop(changes);
    assert_eq!(ended.await.kind(), ErrorKind::Closed);
    p.only_left(&["d/a"]).await;
    for polls in 1..50 {
        drop(polled(View::raw(&p.kv, "d").into_future(), polls).await);
        p.only_left(&["d/a"]).await;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_instances_are_those_that_live() -> Result<()> {
    let p = pair().await;
    let web = Service::<u32>::open(&p.kv, "web").await?;
    let mut living = BTreeMap::new();
    for round in 0..60 {
        let register = |n: u32| Registration::new(&p.other, format!("web/{n}")).ttl(9 * S).json(&n);
        if round % 3 == 2 {
            let n = *living.keys().next().unwrap();
            drop(living.remove(&n));
        } else {
            living.insert(round, register(round).register().await?);
        }
        if round.is_multiple_of(7) {
            p.faults.cut_watches();
        }
        let set = || web.instances().iter().map(|instance| instance.value).collect::<BTreeSet<u32>>();
        until("the set is that of the living", async || set().iter().eq(living.keys())).await;
    }
    // The reader is cut off: the set stays.
    p.faults.pause();
    let before = web.instances().len();
    living.clear();
    tokio::time::sleep(60 * S).await;
    assert_eq!(web.instances().len(), before);
    p.faults.resume();
    until("it hears of the end of all", async || web.instances().is_empty() && web.pick().is_none()).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn one_record_that_cannot_be_read_is_told_apart() -> Result<()> {
    let p = pair().await;
    let _good = Registration::new(&p.kv, "web/1").json(&1).register().await?;
    p.other.put("web/0", "no record").await?;
    p.other.put("web/2", r#"{"v":2,"id":"of a newer release"}"#).await?;
    let web = Service::<u32>::open(&p.other, "web").await?;
    assert_eq!(web.instances().len(), 1);
    let unreadable = web.unreadable();
    let keys: Vec<_> = unreadable.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["web/0", "web/2"]);
    assert!(unreadable.iter().all(|(_, e)| e.kind() == ErrorKind::Corrupt));
    assert!(unreadable[1].1.to_string().contains("format 2"), "{}", unreadable[1].1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn members_see_each_other_and_join_again_after_an_outage() -> Result<()> {
    let p = pair().await;
    let one = Group::new(&p.kv, "g").ttl(9 * S).join("one", &1).await?;
    let two = Group::new(&p.other, "g").ttl(9 * S).join("two", &2).await?;
    one.synced_now().await?;
    assert_eq!((one.members().len(), two.members().len()), (2, 2));
    p.faults.pause();
    until("the other sees it gone", async || two.members().len() == 1).await;
    assert_eq!(one.members().len(), 2, "it sees what it saw");
    p.faults.resume();
    until("it is there again", async || two.members().len() == 2).await;
    one.set(&10).await?;
    two.synced_now().await?;
    assert_eq!(two.members()[0].value, 10);

    let third = Group::new(&p.other, "g").join("one", &11).await?;
    assert_eq!(one.over().await.kind(), ErrorKind::KeyModified);
    assert!(matches!(one.state(), RegistrationState::Superseded));
    assert!(third.leave().await? && two.leave().await? && !one.leave().await?);
    assert_eq!(Group::new(&p.kv, "g").join("a/b", &1).await.unwrap_err().kind(), ErrorKind::InvalidKey);
    assert!(Group::new(&p.kv, "g").observe::<i32>().await?.instances().is_empty());
    p.only_left(&[]).await;
    Ok(())
}

#[test]
fn a_view_whose_runtime_has_ended_says_so() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (kv, ends, stays) = (Kv::new(Memory::new()), runtime(), runtime());
    let view = ends.block_on(async { View::raw(&kv, "d").await }).unwrap();
    let mut changes = view.changes();
    drop(ends);
    stays.block_on(async {
        let next = tokio::time::timeout(5 * S, changes.next()).await;
        assert_eq!(next.expect("it is told").unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(view.ended().await.kind(), ErrorKind::Closed);
        assert_eq!(view.synced_now().await.unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[tokio::test(start_paused = true)]
async fn a_view_that_cannot_go_on_decoding_ends() -> Result<()> {
    let p = pair().await;
    p.other.put("d/a", "good").await?;
    let lengths = View::decoded(&p.kv, "d", |entry| {
        assert_ne!(entry.text(), Some("bad"), "the program is wrong");
        Ok(entry.value.len())
    });
    let view = lengths.await?;
    p.other.put("d/b", "bad").await?;
    assert_eq!(view.ended().await.kind(), ErrorKind::Other);
    assert_eq!(view.get("a")?.as_deref(), Some(&4), "it serves what it had");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn parts_of_it_are_by_the_order_of_names() -> Result<()> {
    let p = pair().await;
    let all = ["a", "a-b", "a/b", "a/b/c", "a0", "b", "\u{fc}"];
    for name in all {
        p.kv.put(format!("d/{name}"), name).await?;
    }
    let view = View::raw(&p.kv, "d").await?;
    let bounds: Vec<Bound<&str>> =
        all.into_iter().chain(["", "a/", "zz"]).flat_map(|at| [Included(at), Excluded(at)]).collect();
    let bounds: Vec<_> = bounds.into_iter().chain([Unbounded]).collect();
    for (from, to) in bounds.iter().flat_map(|from| bounds.iter().map(move |to| (*from, *to))) {
        let range = view.range((from, to));
        let found: Vec<_> = range.iter().map(|entry| entry.name.as_str()).collect();
        let is_in = |name: &&str| match (from, to) {
            (Included(from), _) if *name < from => false,
            (Excluded(from), _) if *name <= from => false,
            (_, Included(to)) if *name > to => false,
            (_, Excluded(to)) if *name >= to => false,
            _ => true,
        };
        assert_eq!(found, all.into_iter().filter(is_in).collect::<Vec<_>>(), "{from:?} to {to:?}");
    }
    for text in ["", "a", "a/", "a/b", "b", "c", "\u{fc}"] {
        let part = view.beginning_with(text);
        let found: Vec<_> = part.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(found, all.into_iter().filter(|name| name.starts_with(text)).collect::<Vec<_>>());
    }
    Ok(())
}
