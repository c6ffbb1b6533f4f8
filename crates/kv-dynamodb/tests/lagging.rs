//! Readers that lag. One of the stream lags by more than a TTL, because the service throttles it:
//! what it reads then is old, and what seems to have ended may have been renewed since. One of a
//! watch is slow.

mod common;

use common::front::{Front, Trouble, behind_front_and_beside};
use kv_core::{Watch, WatchEvent};
use kv_testsuite::Failure;
use std::time::{Duration, Instant};

const TABLE: &str = "lagging";
const TTL: Duration = Duration::from_secs(8);
const LAG: Duration = Duration::from_secs(14);

/// Has the service throttle the reader for a while; `meanwhile` is done again and again.
async fn lag(front: &Front, mut meanwhile: impl AsyncFnMut() -> Result<(), Failure>) -> Result<(), Failure> {
    let throttled = Trouble::Refused(400, "ProvisionedThroughputExceededException");
    front.trouble("GetRecords", throttled, 100_000);
    let began = Instant::now();
    while began.elapsed() < LAG {
        meanwhile().await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    front.no_more_trouble();
    Ok(())
}

/// Returns the events up to the one that puts this value.
async fn told_until(watch: &mut Watch, value: &str) -> Result<Vec<WatchEvent>, Failure> {
    let mut told = Vec::new();
    let all = async {
        loop {
            let event = watch.event().await?;
            let is_last = matches!(&event, WatchEvent::Put(entry) if entry.text() == Some(value));
            told.push(event);
            if is_last {
                return Ok::<_, Failure>(());
            }
        }
    };
    match tokio::time::timeout(Duration::from_secs(30), all).await {
        Ok(all) => all.map(|()| told),
        Err(_) => Err(format!("{value:?} was not told; before it came {told:?}").into()),
    }
}

fn assert_no_end(told: &[WatchEvent]) {
    let ended = told.iter().any(|event| matches!(event, WatchEvent::Delete { .. }));
    assert!(!ended, "nothing ended, and {told:?} was told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_is_renewed_stays_the_holder_of_a_watch_that_lags() -> Result<(), Failure> {
    let (_node, front, kv, other) = behind_front_and_beside(TABLE).await?;
    let mut watch = kv.lock_holder("l").watch().await?;
    assert_eq!(watch.event().await?, WatchEvent::Synced);
    let guard = other.new_lock("l").value("1").ttl(TTL).acquire().await?;
    told_until(&mut watch, "1").await?;
    lag(&front, async || Ok(())).await?;
    // The second holder is one that the reader sees for the first time after its first TTL.
    guard.set_value("2").await?;
    assert_no_end(&told_until(&mut watch, "2").await?);
    lag(&front, async || Ok(())).await?;
    guard.release().await?;
    let guard = other.new_lock("l").value("3").ttl(TTL).acquire().await?;
    let released = told_until(&mut watch, "3").await?;
    assert_eq!(released.len(), 2, "{released:?}");
    assert!(guard.is_held());
    assert_eq!(kv.lock_holder("l").await?.map(|holder| holder.token), Some(guard.token()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_whose_first_record_is_old_is_told() -> Result<(), Failure> {
    let (_node, front, kv, other) = behind_front_and_beside(TABLE).await?;
    let mut watch = kv.lock_holder("l").watch().await?;
    assert_eq!(watch.event().await?, WatchEvent::Synced);
    let mut guard = None;
    lag(&front, async || {
        if guard.is_none() {
            guard = Some(other.new_lock("l").value("1").ttl(TTL).acquire().await?);
        }
        Ok(())
    })
    .await?;
    assert_no_end(&told_until(&mut watch, "1").await?);
    assert!(guard.is_some_and(|guard| guard.is_held()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_renewed_do_not_end_for_a_watch_that_lags() -> Result<(), Failure> {
    let (_node, front, kv, other) = behind_front_and_beside(TABLE).await?;
    let lease = other.lease(TTL).await?;
    other.put("d/leased", "leased").lease(&lease).await?;
    other.put("d/again", "0").ttl(TTL).await?;
    let mut watch = kv.watch_tree("d").await?;
    while watch.event().await? != WatchEvent::Synced {}
    let mut n = 0;
    lag(&front, async || {
        n += 1;
        other.put("d/again", n.to_string()).ttl(TTL).await?;
        Ok(())
    })
    .await?;
    let put = other.put("d/ended", "").ttl(TTL).await?;
    let told = told_until(&mut watch, "").await?;
    assert_no_end(&told);
    let leased = |event: &WatchEvent| event.key().is_some_and(|key| key.as_str() == "d/leased");
    assert!(!told.iter().any(leased), "it did not change, and {told:?} was told");
    // What ends while the reader lags is told.
    lag(&front, async || Ok(())).await?;
    let mut ended = Vec::new();
    while ended.len() < 2 {
        match watch.event().await? {
            WatchEvent::Delete { key, version } => ended.push((key.as_str().to_owned(), version)),
            event => panic!("nothing was put, and {event:?} was told"),
        }
    }
    ended.sort();
    assert_eq!(ended[0].0, "d/again");
    assert_eq!(ended[1], ("d/ended".to_owned(), put.version));
    assert!(lease.is_held() && other.exists("d/leased").await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn renewals_of_large_values_do_not_make_a_slow_reader_list_again() -> Result<(), Failure> {
    let (_node, _front, kv, other) = behind_front_and_beside(TABLE).await?;
    let lease = other.lease(TTL).await?;
    other.put("a", vec![b'v'; 390 << 10]).lease(&lease).await?;
    let mut watch = kv.watch("a").await?;
    while watch.event().await? != WatchEvent::Synced {}
    // The lease is renewed so often that the old values do not fit into the reader's queue.
    tokio::time::sleep(LAG).await;
    other.put("a", "1").await?;
    let mut told = told_until(&mut watch, "1").await?;
    other.put("a", "2").await?;
    told.extend(told_until(&mut watch, "2").await?);
    assert_eq!(told.len(), 2, "only two puts are news");
    Ok(())
}
