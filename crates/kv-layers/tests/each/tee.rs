//! `Tee` leaves two stores with the same, whoever writes.

use kv_core::{Error, Kv, Result, backend::Clock};
use kv_layers::{Chaos, Difference, Tee};
use kv_memory::{Config, Faults};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// Opens the old store, the new one, and a handle that writes to both, as one process does.
async fn process(name: &str, chaos: Option<Chaos>) -> Result<(Kv, Kv, Kv)> {
    let old = Config::new().name(format!("tee-{name}-old")).open().await?;
    let new = Config::new().name(format!("tee-{name}-new")).open().await?;
    let other = match chaos {
        Some(chaos) => new.clone().layer(chaos).store().clone(),
        None => new.store().clone(),
    };
    let kv = old.clone().layer(Tee::to(other));
    Ok((old, new, kv))
}

async fn same(old: &Kv, new: &Kv) -> Result<()> {
    let found = Tee::differences(old, new, "").await?;
    assert!(found.is_empty(), "{found:?}");
    Ok(())
}

const ACCOUNTS: usize = 6;
const SUM: i64 = 600;

async fn balance(kv: &Kv, account: &str) -> Result<(i64, kv_core::Version)> {
    let entry = kv.get(account).await?.expect("accounts stay");
    Ok((entry.text().unwrap_or_default().parse().expect("a balance is a number"), entry.version))
}

/// Moves money between two accounts, until this has happened so often.
async fn transfer(kv: Kv, writer: usize, times: usize) -> Result<()> {
    let mut done = 0;
    while done < times {
        let (from, to) = ((writer + done) % ACCOUNTS, (writer * 5 + done * 3 + 1) % ACCOUNTS);
        if from == to {
            done += 1;
            continue;
        }
        let (from, to) = (format!("bank/{from}"), format!("bank/{to}"));
        let ((a, seen_a), (b, seen_b)) = (balance(&kv, &from).await?, balance(&kv, &to).await?);
        let moved = kv
            .transact()
            .when_version(&from, seen_a)
            .when_version(&to, seen_b)
            .then(kv.put(&from, (a - 1).to_string()))
            .then(kv.put(&to, (b + 1).to_string()))
            .await?;
        done += usize::from(moved.is_committed());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_is_moved_under_load_and_no_write_is_lost() -> Result<()> {
    let (old, new, _) = process("load", None).await?;
    for n in 0..ACCOUNTS {
        old.put(format!("bank/{n}"), (SUM / ACCOUNTS as i64).to_string()).await?;
    }
    for n in 0..100 {
        old.put(format!("config/{n}"), n.to_string()).await?;
    }
    let (mut writers, mut handles) = (Vec::new(), Vec::new());
    for writer in 0..4 {
        // Each is a process of its own, whose copies are late by chance.
        let chaos = Chaos::new(writer as u64).delays(0.3, Duration::from_millis(3));
        let (_, _, kv) = process("load", Some(chaos)).await?;
        handles.push(kv.clone());
        writers.push(tokio::spawn(async move {
            transfer(kv.clone(), writer, 40).await?;
            for n in 0..60 {
                let key = format!("shared/{}", n % 7);
                match (n + writer) % 5 {
                    0 => drop(kv.delete(&key).await?),
                    1 if n % 10 == 1 => drop(kv.delete_tree("shared").await?),
                    _ => drop(kv.put(&key, format!("{writer}.{n}")).await?),
                }
            }
            Ok::<_, Error>(())
        }));
    }
    Tee::copy(&old, &new, "").await?;
    for writer in writers {
        writer.await.expect("it does not panic")?;
    }
    for kv in handles {
        kv.close().await?;
    }
    same(&old, &new).await?;
    for store in [&old, &new] {
        let accounts = store.list("bank").await?;
        let sum: i64 = accounts.iter().filter_map(|entry| entry.text()?.parse::<i64>().ok()).sum();
        assert_eq!((accounts.len(), sum), (ACCOUNTS, SUM));
    }
    assert_eq!(new.list("config").await?.len(), 100);
    Ok(())
}

#[tokio::test]
async fn lives_are_copied_too() -> Result<()> {
    let clock = Clock::manual();
    let (old, new) =
        (Config::new().clock(clock.clone()).open().await?, Config::new().clock(clock.clone()).open().await?);
    let kv = old.clone().layer(Tee::to(new.store().clone()));
    kv.put("ttl", "1").ttl(Duration::from_secs(9)).await?;
    kv.put("kept", "1").ttl(Duration::from_secs(9)).await?;
    kv.put("kept", "1").await?;
    let lease = kv.lease(Duration::from_secs(3600)).await?;
    kv.put("leased", "1").lease(&lease).await?;
    same(&old, &new).await?;
    assert_eq!(new.list("").await?.len(), 3);
    clock.advance(Duration::from_secs(10));
    same(&old, &new).await?;
    assert!(new.exists("kept").await? && !new.exists("ttl").await?);
    assert!(lease.revoke().await?);
    kv.close().await?;
    let names: Vec<_> = new.list("").await?.into_iter().map(|entry| entry.key.to_string()).collect();
    assert_eq!(names, ["kept"]);
    Ok(())
}

#[tokio::test]
async fn locks_are_the_old_stores_and_fence_its_writes() -> Result<()> {
    let (old, new, kv) = process("locks", None).await?;
    let guard = kv.new_lock("l").acquire().await?;
    assert!(old.lock_holder("l").await?.is_some() && new.lock_holder("l").await?.is_none());
    kv.put("fenced", "1").fenced(&guard).await?;
    same(&old, &new).await?;
    let fence = guard.fence().clone();
    guard.release().await?;
    kv.put("fenced", "2").fenced(&fence).await.unwrap_err();
    assert_eq!(new.get("fenced").await?.unwrap().text(), Some("1"));
    Ok(())
}

/// Stores of which each request takes its time have a large directory in less than that for each key.
#[tokio::test(start_paused = true)]
async fn large_directories_are_copied_and_deleted_many_keys_at_a_time() -> Result<()> {
    let (old, new) = (kv_memory::open("memory://").await?, kv_memory::open("memory://").await?);
    for n in 0..1000 {
        old.put(format!("d/{n}"), n.to_string()).await?;
    }
    let slow = |seed| Chaos::new(seed).delays(1.0, Duration::from_millis(20));
    let (from, to) = (old.clone().layer(slow(1)), new.clone().layer(slow(2)));
    let began = tokio::time::Instant::now();
    assert_eq!(Tee::copy(&from, &to, "").await?, 1000);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(8), "the copy took {took:?}");
    same(&old, &new).await?;

    let kv = from.layer(Tee::to(to.store().clone()).patience(Duration::from_secs(60)));
    let began = tokio::time::Instant::now();
    assert_eq!(kv.delete_tree("d").await?, Some(1000));
    same(&old, &new).await?;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(3), "the deletion took {took:?}");
    kv.close().await
}

#[tokio::test(start_paused = true)]
async fn another_store_that_is_away_is_told_and_fails_no_write() -> Result<()> {
    let (old, new) = (kv_memory::open("memory://").await?, kv_memory::open("memory://").await?);
    let told = Arc::new(Mutex::new(Vec::new()));
    let note = told.clone();
    let tee = Tee::to(new.store().clone()).told(move |name, e| {
        note.lock().expect("nobody panics").push(format!("{name}: {}", e.kind()));
    });
    let kv = old.clone().layer(tee);
    let away = Faults::of(&new).expect("a store in memory");
    away.pause();
    let began = tokio::time::Instant::now();
    kv.put("a", "1").await?;
    assert!(began.elapsed() < Duration::from_secs(1), "it took {:?}", began.elapsed());
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(*told.lock().expect("nobody panics"), ["a: timeout"]);
    away.resume();
    assert_eq!(Tee::differences(&old, &new, "").await?, [Difference::Missing("a".parse()?)]);
    kv.put("a", "2").await?;
    same(&old, &new).await
}

#[tokio::test(start_paused = true)]
async fn another_store_that_is_away_holds_up_no_lease() -> Result<()> {
    let open = || Config::new().clock(Clock::tokio()).open();
    let (old, new) = (open().await?, open().await?);
    let kv = old.clone().layer(Tee::to(new.store().clone()));
    let away = Faults::of(&new).expect("a store in memory");
    away.pause();
    let began = tokio::time::Instant::now();
    let lease = kv.lease(Duration::from_secs(60)).await?;
    assert!(began.elapsed() < Duration::from_secs(1), "it took {:?}", began.elapsed());
    kv.put("leased", "1").lease(&lease).await?;
    away.resume();
    assert!(lease.revoke().await?);
    assert!(!old.exists("leased").await?);
    Ok(())
}

/// Two stores on the runtime's clock, the layer from the one to the other, and the names that were
/// told.
async fn timed() -> Result<(Kv, Kv, Kv, Arc<Mutex<Vec<String>>>)> {
    let open = || Config::new().clock(Clock::tokio()).open();
    let (old, new, told) = (open().await?, open().await?, Arc::<Mutex<Vec<String>>>::default());
    let note = told.clone();
    let tee = Tee::to(new.store().clone()).told(move |name, e| {
        note.lock().expect("nobody panics").push(format!("{name}: {}", e.kind()));
    });
    let kv = old.clone().layer(tee);
    Ok((old, new, kv, told))
}

const TTL: Duration = Duration::from_secs(10);

/// Waits until both stores have the same.
async fn until_same(old: &Kv, new: &Kv) -> Result<()> {
    for _ in 0..100 {
        if Tee::differences(old, new, "").await?.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(TTL / 20).await;
    }
    same(old, new).await
}

#[tokio::test(start_paused = true)]
async fn keys_whose_lease_the_other_store_has_lost_are_copied_again() -> Result<()> {
    let (old, new, kv, told) = timed().await?;
    let lease = kv.lease(TTL).await?;
    for key in ["a", "b", "freed", "deleted", "others"] {
        kv.put(key, "1").lease(&lease).await?;
    }
    kv.put("freed", "2").await?;
    kv.delete("deleted").await?;
    old.put("others", "2").await?; // not through the layer, and so not its to copy
    let away = Faults::of(&new).expect("a store in memory");
    away.pause();
    tokio::time::sleep(2 * TTL).await;
    away.resume();
    let expected = [Difference::Missing("others".parse()?)];
    for _ in 0..100 {
        if Tee::differences(&old, &new, "").await? == expected {
            break;
        }
        tokio::time::sleep(TTL / 20).await;
    }
    assert_eq!(Tee::differences(&old, &new, "").await?, expected);
    let was_told = told.lock().expect("nobody panics").clone();
    assert!(was_told.contains(&format!("{}: lease_lost", lease.id().as_str())), "{was_told:?}");
    // They live as long as the lease, and no longer.
    old.delete("others").await?;
    tokio::time::sleep(3 * TTL).await;
    same(&old, &new).await?;
    assert!(lease.revoke().await?);
    until_same(&old, &new).await?;
    assert_eq!(new.list("").await?.len(), 1, "the one that was freed");
    kv.close().await
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_the_other_store_grants_late_has_its_keys_there() -> Result<()> {
    let (old, new, kv, told) = timed().await?;
    let away = Faults::of(&new).expect("a store in memory");
    away.pause();
    let lease = kv.lease(TTL).await?;
    kv.put("leased", "1").lease(&lease).await?;
    tokio::time::sleep(2 * TTL).await;
    assert!(!told.lock().expect("nobody panics").is_empty());
    away.resume();
    until_same(&old, &new).await?;
    tokio::time::sleep(3 * TTL).await;
    assert!(new.exists("leased").await?);
    assert!(lease.revoke().await?);
    until_same(&old, &new).await?;
    assert!(!new.exists("leased").await?);
    kv.close().await
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_the_own_store_has_lost_is_ended_in_the_other() -> Result<()> {
    let (old, new, kv, _) = timed().await?;
    let lease = kv.lease(TTL).await?;
    kv.put("leased", "1").lease(&lease).await?;
    let away = Faults::of(&old).expect("a store in memory");
    away.pause();
    lease.lost().await;
    for _ in 0..100 {
        if !new.exists("leased").await? {
            break;
        }
        tokio::time::sleep(TTL / 20).await;
    }
    assert!(!new.exists("leased").await?, "though the lease that was lost is not dropped yet");
    away.resume();
    tokio::time::sleep(TTL).await;
    same(&old, &new).await?;
    drop(lease);
    kv.close().await
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_looked_for() -> Result<()> {
    let (old, new) = (kv_memory::open("memory://").await?, kv_memory::open("memory://").await?);
    let kv = old.clone().layer(Chaos::new(19).lost_answers(1.0)).layer(Tee::to(new.store().clone()));
    for n in 0..40 {
        kv.put(format!("d/{n}"), "1").await.unwrap_err();
    }
    let there = old.list("d").await?.len();
    assert!(there > 5 && there < 35, "{there}");
    // The copies are waited for.
    kv.store().as_ref().close().await?;
    same(&old, &new).await
}

#[tokio::test]
async fn differences_are_named_and_copied() -> Result<()> {
    let (old, new) = (kv_memory::open("memory://").await?, kv_memory::open("memory://").await?);
    for (store, key, value) in [
        (&old, "a/missing", "1"),
        (&old, "b/same", "1"),
        (&new, "b/same", "1"),
        (&old, "c/other", "1"),
        (&new, "c/other", "2"),
        (&new, "d/extra", "1"),
    ] {
        store.put(key, value).await?;
    }
    let found = Tee::differences(&old, &new, "").await?;
    let expected = [
        Difference::Missing("a/missing".parse()?),
        Difference::Value("c/other".parse()?),
        Difference::Extra("d/extra".parse()?),
    ];
    assert_eq!(found, expected);
    assert_eq!(found[1].key().as_str(), "c/other");
    assert!(Tee::differences(&old, &new, "b").await?.is_empty());
    assert_eq!(Tee::copy(&old, &new, "").await?, 2);
    assert_eq!(Tee::copy(&old, &new, "").await?, 0);
    assert_eq!(Tee::differences(&old, &new, "").await?, [Difference::Extra("d/extra".parse()?)]);
    Ok(())
}
