//! The pieces of `docs/testing.md`, run as they stand there.

use kv_core::{Error, ErrorKind, Kv, Result, WatchEvent, backend::Clock};
use kv_memory::{Calls, Config, Faults};
use std::time::Duration;

async fn greet(kv: &Kv, name: &str) -> Result<String> {
    let greeting = kv.get("settings/greeting").await?;
    Ok(format!("{}, {name}", greeting.as_ref().and_then(|e| e.text()).unwrap_or("Hello")))
}

#[tokio::test]
async fn a_greeting_can_be_set() -> Result<()> {
    let kv = kv_memory::open("memory://").await?;
    assert_eq!(greet(&kv, "Ann").await?, "Hello, Ann");
    kv.put("settings/greeting", "Good morning").await?;
    assert_eq!(greet(&kv, "Ann").await?, "Good morning, Ann");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_after_an_hour() -> Result<()> {
    let hour = Duration::from_secs(3600);
    let kv = kv_memory::open("memory://?clock=tokio").await?;
    kv.put("session/7", "ann").ttl(hour).await?;
    tokio::time::sleep(hour - Duration::from_secs(1)).await; // takes no time
    assert!(kv.exists("session/7").await?);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!kv.exists("session/7").await?);
    Ok(())
}

#[tokio::test]
async fn a_clock_of_its_own() -> Result<()> {
    let clock = Clock::manual();
    let kv = Config::new().clock(clock.clone()).open().await?;
    kv.put("session/7", "ann").ttl(Duration::from_secs(3600)).await?;
    clock.advance(Duration::from_secs(3600));
    assert_eq!(kv.get("session/7").await?, None);
    Ok(())
}

/// Adds one entry to a log: once, also when the answer to a write is lost.
async fn append(kv: &Kv, id: &str, text: &str) -> Result<()> {
    loop {
        match kv.put(format!("log/{id}"), text).if_missing().await {
            Err(e) if e.kind() == ErrorKind::KeyExists => return Ok(()), // a try before this one was done
            Err(e) if e.kind() == ErrorKind::OutcomeUnknown || e.is_transient() => continue,
            answer => return answer.map(drop),
        }
    }
}

#[tokio::test]
async fn an_entry_is_logged_once_whatever_is_lost() -> Result<()> {
    let kv = kv_memory::open("memory://").await?;
    let faults = Faults::of(&kv).expect("a store in memory");
    faults.fail_next(ErrorKind::OutcomeUnknown); // the write was not done
    faults.lose_answers(1); // the write was done
    append(&kv, "1", "started").await?;
    assert_eq!(kv.list("log").await?.len(), 1);
    assert_eq!(faults.planned(), 0, "both were met");

    faults.fail(Calls::Writes, ErrorKind::PermissionDenied, 1);
    let refused = append(&kv, "2", "stopped").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_stops_before_the_next_one_begins() -> Result<()> {
    let one = kv_memory::open("memory://election?clock=tokio").await?;
    let two = kv_memory::open("memory://election?clock=tokio").await?;
    let guard = one.new_lock("leader").acquire().await?;
    let waits = tokio::spawn(two.new_lock("leader").acquire());

    Faults::of(&one).expect("a store in memory").pause(); // the first alone
    let work = async {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        Ok::<_, Error>("done")
    };
    let stopped = guard.while_held(work).await.unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::LockLost);
    assert!(!waits.is_finished(), "nobody else has it yet");
    assert!(waits.await.unwrap()?.token() > guard.token());
    Ok(())
}

#[tokio::test]
async fn a_lock_that_is_taken_away() -> Result<()> {
    let kv = kv_memory::open("memory://").await?;
    let guard = kv.new_lock("leader").acquire().await?;
    Faults::of(&kv).expect("a store in memory").evict_lock("leader")?;
    assert_eq!(guard.lost().await.kind(), ErrorKind::LockLost);
    let late = kv.put("plan", "mine").fenced(&guard).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::LockLost);
    Ok(())
}

#[tokio::test]
async fn a_watch_is_cut_goes_on_and_ends() -> Result<()> {
    let kv = kv_memory::open("memory://").await?;
    let faults = Faults::of(&kv).expect("a store in memory");
    let mut watch = kv.watch_tree("settings").await?;
    assert_eq!(watch.event().await?, WatchEvent::Synced);

    faults.cut_watches(); // ridden out: what differs is told, then `Synced`
    assert_eq!(watch.event().await?, WatchEvent::Synced);

    faults.fail(Calls::Reads, ErrorKind::PermissionDenied, 1);
    faults.cut_watches(); // what lasts ends it
    assert_eq!(watch.event().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    Ok(())
}

/// Checks that every piece of the guide stands above, word by word.
#[test]
fn the_guide_shows_what_runs_here() {
    let here = include_str!("guide.rs");
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/testing.md");
    let guide = std::fs::read_to_string(guide).expect("the guide");
    let pieces: Vec<_> =
        guide.split("```rust\n").skip(1).map(|piece| piece.split("```").next().unwrap()).collect();
    assert!(pieces.len() > 5);
    for piece in pieces {
        assert!(here.contains(piece), "this piece of the guide does not run here:\n{piece}");
    }
}
