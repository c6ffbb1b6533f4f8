//! State that is made or learnt once, and ages: credentials, the service's time, runtimes,
//! connections.

mod common;

use common::{
    config,
    front::{Front, Trouble},
    single,
};
use kv_core::{ErrorKind, Kv, Watch, WatchEvent, backend::Clock};
use kv_dynamodb::Config;
use kv_testsuite::Failure;
use std::{future::IntoFuture, path::Path, process::Command, time::Duration};
use tokio::runtime::Runtime;

const TABLE: &str = "aging";
/// The variable that tells the SDK where the file of profiles is.
const FILE: &str = "AWS_SHARED_CREDENTIALS_FILE";

/// Returns the next event that is no `Synced`: one comes whenever a listener was silent for a while.
async fn news(watch: &mut Watch) -> Result<WatchEvent, Failure> {
    loop {
        match watch.event().await? {
            WatchEvent::Synced => {}
            event => return Ok(event),
        }
    }
}

/// Runs the test again, in a process of its own, whose profiles are in this file.
fn in_process_with_profiles(test: &str, file: &Path) -> Result<(), Failure> {
    let mut again = Command::new(std::env::current_exe()?);
    again.args([test, "--exact", "--nocapture"]).env(FILE, file).env("AWS_PROFILE", "tests");
    again.env("AWS_EC2_METADATA_DISABLED", "true");
    for set in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
        again.env_remove(set);
    }
    let answer = again.output()?;
    let said = String::from_utf8_lossy(&answer.stdout);
    assert!(answer.status.success() && said.contains("1 passed"), "{said}{answer:?}");
    Ok(())
}

fn profile(file: &Path, key: &str) -> Result<(), Failure> {
    std::fs::write(file, format!("[tests]\naws_access_key_id={key}\naws_secret_access_key=s-{key}\n"))?;
    Ok(())
}

/// Keys that are changed in the profile's file are read anew once the service refuses the old
/// ones.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_were_replaced_are_read_anew() -> Result<(), Failure> {
    let Some(file) = std::env::var_os(FILE) else {
        let folder = tempfile::tempdir()?;
        return in_process_with_profiles(
            "credentials_that_were_replaced_are_read_anew",
            &folder.path().join("credentials"),
        );
    };
    let file = Path::new(&file);
    profile(file, "first")?;
    let node = single().await?;
    let front = Front::new(node.address).await?;
    front.knows("first");
    let config = Config::new(TABLE).endpoint(format!("http://{}", front.address)).region("us-east-1");
    let kv = config.create(true).open().await?;
    kv.put("a", "1").await?;
    let mut watch = kv.watch_tree("").await?;
    while watch.event().await? != WatchEvent::Synced {}
    let ttl = Duration::from_secs(8);
    let guard = kv.new_lock("l").ttl(ttl).acquire().await?;
    let lease = kv.lease(ttl).await?;
    for key in ["second", "third"] {
        profile(file, key)?;
        front.knows(key);
        // Each call fetches the new key for itself and for all others.
        assert!(kv.get("a").await?.is_some());
        kv.put("a", key).await?;
        kv.put("b", key).fenced(&guard).lease(&lease).await?;
        loop {
            match watch.event().await? {
                WatchEvent::Put(e) if e.key.as_str() == "b" => break,
                _ => {}
            }
        }
        tokio::time::sleep(ttl + Duration::from_secs(1)).await;
        assert!(guard.is_held() && lease.is_held(), "renewals sign with the new key");
    }
    // The watch fetches a new key by itself too.
    profile(file, "fourth")?;
    front.knows("fourth");
    let other = node.config(TABLE).open().await?;
    other.put("c", "").await?;
    loop {
        match watch.event().await? {
            WatchEvent::Put(e) if e.key.as_str() == "c" => break,
            _ => {}
        }
    }
    // Where fetching the key anew does not help, the call says so.
    front.knows("fifth");
    let e = kv.get("a").await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unauthenticated, "{e}");
    while let Ok(event) = watch.event().await {
        assert!(!matches!(event, WatchEvent::Delete { .. }), "{event:?}");
    }
    profile(file, "fifth")?;
    assert!(kv.get("a").await?.is_some());
    Ok(())
}

/// A machine whose clock is wrong dates its signatures by the service's clock.
#[tokio::test(flavor = "multi_thread")]
async fn signatures_are_dated_by_the_service() -> Result<(), Failure> {
    let node = single().await?;
    let front = Front::new(node.address).await?;
    front.checks_dates();
    front.ahead(Duration::from_secs(7200));
    let kv = config(front.address, TABLE).create(true).open().await?;
    kv.put("a", "1").await?;
    let mut watch = kv.watch("a").await?;
    while watch.event().await? != WatchEvent::Synced {}
    front.ahead(Duration::ZERO);
    kv.put("a", "2").await?;
    assert!(matches!(news(&mut watch).await?, WatchEvent::Put(_)));
    Ok(())
}

/// One answer with an odd date ends no lock.
#[tokio::test(flavor = "multi_thread")]
async fn one_odd_date_ends_nothing() -> Result<(), Failure> {
    let node = single().await?;
    let front = Front::new(node.address).await?;
    let kv = config(front.address, TABLE).create(true).open().await?;
    let holder = node.config(TABLE).open().await?;
    let ttl = Duration::from_secs(60);
    let _guard = holder.new_lock("l").ttl(ttl).acquire().await?;
    holder.put("a", "1").ttl(ttl).await?;
    for _ in 0..3 {
        kv.health().await?;
        front.trouble("GetItem", Trouble::Ahead(Duration::from_secs(7200)), 1);
        kv.health().await?;
        assert!(kv.new_lock("l").try_acquire().await?.is_none(), "it is held");
        front.trouble("GetItem", Trouble::Ahead(Duration::from_secs(7200)), 1);
        assert!(kv.get("a").await?.is_some(), "it lives");
    }
    Ok(())
}

/// Does everything that a handle does, so that all that the handle shares is made here.
async fn used(kv: &Kv, n: usize) -> Result<(), Failure> {
    let (within, ttl) = (Duration::from_secs(60), Duration::from_secs(8));
    let using = async {
        kv.put(format!("d/{n}"), "1").await?;
        assert!(kv.get(format!("d/{n}")).await?.is_some());
        let mut watch = kv.watch_tree("d").await?;
        while watch.event().await? != WatchEvent::Synced {}
        kv.put(format!("d/{n}"), "2").await?;
        let event = news(&mut watch).await?;
        assert!(matches!(&event, WatchEvent::Put(e) if e.text() == Some("2")), "{event:?}");
        let lease = kv.lease(ttl).await?;
        kv.put(format!("leased/{n}"), "").lease(&lease).await?;
        let lock = || kv.new_lock("l").ttl(ttl);
        let guard = lock().acquire().await?;
        let waiter = tokio::spawn(lock().acquire());
        tokio::time::sleep(ttl + Duration::from_secs(1)).await;
        assert!(guard.is_held() && lease.is_held(), "they are renewed");
        drop(guard);
        let next = waiter.await??;
        assert!(next.is_held() && next.release().await?);
        assert!(lease.revoke().await?);
        Ok(())
    };
    match tokio::time::timeout(within, using).await {
        Ok(used) => used,
        Err(_) => Err(format!("use {n} did not end within {within:?}").into()),
    }
}

#[test]
fn a_handle_outlives_the_runtime_that_used_it_first() -> Result<(), Failure> {
    let servers = Runtime::new()?;
    let node = servers.block_on(single())?;
    // The handle is opened and used in a runtime that ends.
    let first = Runtime::new()?;
    let kv = first.block_on(async {
        let kv = node.open(TABLE).await?;
        used(&kv, 1).await?;
        Ok::<_, Failure>(kv)
    })?;
    drop(first);
    let stays = Runtime::new()?;
    stays.block_on(used(&kv, 2))?;
    // The handle is opened in a runtime that stays, and used first in one that ends, while a watch
    // and a wait go on in the one that stays.
    let front = servers.block_on(Front::new(node.address))?;
    let minute = Duration::from_secs(60);
    let kv = stays.block_on(async { Ok::<_, Failure>(config(front.address, TABLE).open().await?) })?;
    let other = stays.block_on(node.open(TABLE))?;
    let passes = Runtime::new()?;
    let holders = stays.block_on(async {
        let lock = |name: &str| other.new_lock(name).ttl(minute).acquire();
        Ok::<_, Failure>((lock("x").await?, lock("y").await?))
    })?;
    let synced = |runtime: &Runtime| {
        runtime.block_on(async {
            let mut watch = kv.watch_tree("d").await?;
            while watch.event().await? != WatchEvent::Synced {}
            Ok::<_, Failure>(watch)
        })
    };
    let waits = |runtime: &Runtime, name: &str| {
        let wait = runtime.spawn(kv.new_lock(name).ttl(minute).acquire());
        front.counted();
        let mut polled = 0;
        while polled < 3 {
            std::thread::sleep(Duration::from_millis(20));
            polled += front.counted().iter().filter(|(operation, _)| operation == "BatchGetItem").count();
        }
        wait
    };
    let passing_watch = synced(&passes)?;
    let passing_wait = waits(&passes, "x");
    let mut watch = synced(&stays)?;
    let wait = waits(&stays, "y");
    drop((passing_watch, passing_wait));
    passes.block_on(kv.put("d/passes", "1").into_future())?;
    drop(passes);
    stays.block_on(async {
        kv.put("d/after", "1").await?;
        let told = async {
            loop {
                match watch.event().await? {
                    WatchEvent::Put(e) if e.key.as_str() == "d/after" => return Ok::<_, Failure>(()),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), told).await??;
        // Another client gives the lock back, so that the wait has to learn of it by asking.
        assert!(holders.1.release().await?);
        let next = tokio::time::timeout(Duration::from_secs(10), wait).await???;
        assert!(next.is_held() && holders.0.release().await?);
        used(&kv, 4).await?;
        drop(next);
        kv.close().await?;
        Ok(())
    })
}

/// A runtime stands still while the service restarts, and then writes at once.
#[test]
fn the_first_write_after_a_standstill_is_done_or_was_not_sent() -> Result<(), Failure> {
    let servers = Runtime::new()?;
    let node = servers.block_on(single())?;
    let still = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let kv = still.block_on(async {
        let kv = node.open(TABLE).await?;
        kv.put("a", "0").await?;
        Ok::<_, Failure>(kv)
    })?;
    for n in 1..=3 {
        node.daemon.kill();
        servers.block_on(node.start())?;
        let written = still.block_on(async { kv.put("a", n.to_string()).await });
        assert!(written.is_ok(), "{written:?}");
        let found = still.block_on(async { kv.get("a").await })?.ok_or("it is there")?;
        assert_eq!(found.text(), Some(n.to_string().as_str()));
        still.block_on(async { kv.delete("b").await })?;
    }
    Ok(())
}

/// Returns a handle with a clock that the test moves, and one whose clock goes on; both know the
/// time from the front.
async fn idle_and_busy(front: &Front, clock: &Clock) -> Result<(Kv, Kv), Failure> {
    let idle = config(front.address, TABLE).create(true).clock(clock.clone()).open().await?;
    Ok((idle, config(front.address, TABLE).open().await?))
}

/// Sets the service's clock ahead; returns when the handle knows it.
async fn ahead(front: &Front, by: Duration, busy: &Kv) -> Result<(), Failure> {
    front.ahead(by);
    for _ in 0..3 {
        busy.health().await?;
    }
    Ok(())
}

/// A handle that heard no answer for months knows the time only roughly, and versions are made of
/// it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_after_months_without_an_answer_is_sound() -> Result<(), Failure> {
    let (node, clock) = (single().await?, Clock::manual());
    let front = Front::new(node.address).await?;
    let (kv, other) = idle_and_busy(&front, &clock).await?;
    let months = |n: u32| Duration::from_secs(101 * 24 * 60 * 60) * n;
    for (n, key) in (1..).zip(["put", "transact", "taken"]) {
        clock.advance(months(1));
        ahead(&front, months(n), &other).await?;
        let guard = match key {
            "put" => kv.put(key, "").await.map(|_| None)?,
            "transact" => kv.transact().then(kv.put(key, "")).await.map(|_| None)?,
            _ => kv.new_lock(key).try_acquire().await?,
        };
        assert_eq!(other.get(key).await?.is_some(), guard.is_none(), "{key}");
        assert_eq!(other.lock_holder(key).await?.is_some(), guard.is_some(), "{key}");
    }
    Ok(())
}

/// A condition is not true of a key that has ended, for a handle either that heard no answer for
/// minutes.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_meanwhile_is_not_written_at_its_version() -> Result<(), Failure> {
    let (node, clock, seconds) = (single().await?, Clock::manual(), Duration::from_secs);
    let front = Front::new(node.address).await?;
    let (kv, other) = idle_and_busy(&front, &clock).await?;
    for (turn, by) in [("transact", 0), ("put", 601)] {
        ahead(&front, seconds(by + 595), &other).await?;
        let version = other.put("a", "1").ttl(seconds(3)).await?.version;
        ahead(&front, seconds(by + 601), &other).await?;
        assert!(!other.exists("a").await?);
        clock.advance(seconds(601));
        let is_written = match turn {
            "transact" => {
                kv.transact().when_version("a", version).then(kv.put("b", "")).await?.is_committed()
            }
            _ => kv.atomic_put("a", "2", Some(version)).await.is_ok(),
        };
        assert!(!is_written, "{turn}: others saw its end");
    }
    Ok(())
}
