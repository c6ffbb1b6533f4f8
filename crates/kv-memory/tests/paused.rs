//! Whole flows under tokio's paused time: nothing here waits for real time to pass.

use kv_core::{Capabilities, ErrorKind, Kv, WatchEvent, backend::Clock};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

async fn open() -> Kv {
    kv_memory::open("memory://?clock=tokio").await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_ttl_ends_by_advance() {
    let kv = open().await;
    let granted = kv.put("a", "1").ttl(HOUR).await.unwrap().ttl.unwrap();
    tokio::time::advance(granted - Duration::from_millis(1)).await;
    assert!(kv.exists("a").await.unwrap());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(!kv.exists("a").await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_idle_runtime_jumps_to_the_next_end() {
    let kv = open().await;
    let began = tokio::time::Instant::now();
    let mut watch = kv.watch_tree("").await.unwrap();
    kv.put("soon", "").ttl(HOUR).await.unwrap();
    kv.put("late", "").ttl(HOUR * 24).await.unwrap();
    let mut gone = Vec::new();
    while gone.len() < 2 {
        if let WatchEvent::Delete { key, .. } = watch.event().await.unwrap() {
            gone.push((key.to_string(), began.elapsed()));
        }
    }
    assert!(gone[0].0 == "soon" && (HOUR..HOUR + HOUR / 60).contains(&gone[0].1), "{gone:?}");
    assert!(gone[1].0 == "late" && (HOUR * 24..HOUR * 25).contains(&gone[1].1), "{gone:?}");
}

#[tokio::test(start_paused = true)]
async fn locks_and_leases_are_renewed_and_a_jump_loses_them() {
    let kv = open().await;
    let lease = kv.lease(Duration::from_secs(9)).await.unwrap();
    kv.put("node", "up").lease(&lease).await.unwrap();
    let guard = kv.new_lock("l").ttl(Duration::from_secs(9)).acquire().await.unwrap();
    // All tasks sleep, so time passes, and everything is renewed meanwhile.
    tokio::time::sleep(HOUR).await;
    assert!(lease.is_held() && guard.is_held() && kv.exists("node").await.unwrap());
    // A jump is like a process that stood still: nothing is renewed.
    tokio::time::advance(Duration::from_secs(9)).await;
    assert!(!lease.is_held() && !guard.is_held() && !kv.exists("node").await.unwrap());
    assert_eq!(guard.lost().await.kind(), ErrorKind::LockLost);
    assert_eq!(lease.lost().await.kind(), ErrorKind::LeaseLost);
    // A contender waits for its whole time while the holder's lock is renewed.
    let dead = kv.new_lock("l").acquire().await.unwrap();
    assert!(kv.new_lock("l").acquire_within(HOUR).await.unwrap().is_none());
    assert!(dead.is_held());
}

#[tokio::test]
async fn one_clock_for_all_who_open_a_name() {
    let url = "memory://one-clock?clock=tokio";
    let (one, two) = (kv_memory::open(url).await.unwrap(), kv_memory::open(url).await.unwrap());
    one.put("a", "1").await.unwrap();
    assert!(two.exists("a").await.unwrap());
    for refused in ["memory://one-clock?clock=system", "memory://?clock=sundial"] {
        let refused = kv_memory::open(refused).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{refused}");
    }
    let memory = one.store().find::<kv_memory::Memory>().unwrap();
    assert_eq!(memory.clock(), Clock::tokio());
    let _: &Capabilities = one.capabilities();
}
