//! A proxy between client and service answers in its place; the table or its stream is made anew;
//! answers are lost.

mod common;

use aws_sdk_dynamodb::types::{StreamSpecification, StreamViewType};
use common::{
    config,
    front::{Trouble, behind_front},
};
use kv_core::{ErrorKind, Watch, WatchEvent};
use kv_testsuite::Failure;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

const TABLE: &str = "between";
const MINUTE: Duration = Duration::from_secs(60);

/// Folds a watch until the fold is what is expected.
async fn comes_to(watch: &mut Watch, expected: &[(&str, &str)]) -> Result<(), Failure> {
    let mut fold = BTreeMap::new();
    fold_until(watch, &mut fold, expected).await
}

async fn fold_until(
    watch: &mut Watch,
    fold: &mut BTreeMap<String, String>,
    expected: &[(&str, &str)],
) -> Result<(), Failure> {
    let expected: BTreeMap<_, _> =
        expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let folding = async {
        loop {
            match watch.event().await? {
                WatchEvent::Put(e) => {
                    fold.insert(e.key.as_str().to_owned(), e.text().unwrap_or_default().to_owned());
                }
                WatchEvent::Delete { key, .. } => drop(fold.remove(key.as_str())),
                WatchEvent::Synced => {}
            }
            if *fold == expected {
                return Ok::<_, Failure>(());
            }
        }
    };
    match tokio::time::timeout(Duration::from_secs(40), folding).await {
        Ok(folded) => folded,
        Err(_) => Err(format!("the fold is {fold:?}, not {expected:?}").into()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_something_else_answers_is_not_taken_for_the_services() -> Result<(), Failure> {
    let (_node, front, kv) = behind_front(TABLE).await?;
    kv.put("d/a", "1").await?;
    kv.put("d/b", "1").await?;
    let guard = kv.new_lock("l").ttl(MINUTE).acquire().await?;
    let lease = kv.lease(MINUTE).await?;
    kv.put("leased", "1").lease(&lease).await?;
    let (mut tree, mut holder) = (kv.watch_tree("d").await?, kv.lock_holder("l").watch().await?);
    comes_to(&mut tree, &[("d/a", "1"), ("d/b", "1")]).await?;
    assert!(matches!(holder.event().await?, WatchEvent::Put(_)));
    let mut fold = BTreeMap::from([("d/a".to_owned(), "1".to_owned()), ("d/b".to_owned(), "1".to_owned())]);
    let soon = Duration::from_millis(400);
    for (round, page) in [
        Trouble::Page(404, "text/plain", "404 page not found"),
        Trouble::Page(200, "text/html", "<html>Welcome</html>"),
        Trouble::Page(200, "application/json", "{}"),
        Trouble::Page(200, "text/plain", ""),
        Trouble::Page(403, "text/plain", "denied"),
        Trouble::Page(401, "text/html", "log in"),
        Trouble::Page(400, "application/json", "{\"message\":\"what?\"}"),
        Trouble::Page(429, "text/plain", "slow down"),
        Trouble::Page(503, "text/html", "<html>no server</html>"),
    ]
    .into_iter()
    .enumerate()
    {
        let what = format!("{page:?}");
        front.every(page);
        let e = kv.get("d/a").deadline(soon).await.expect_err(&what);
        assert!(e.is_transient(), "{what}: {e}");
        let e = kv.list("d").deadline(soon).await.expect_err(&what);
        assert!(e.is_transient(), "{what}: {e}");
        let e = kv.lock_holder("l").deadline(soon).await.expect_err(&what);
        assert!(e.is_transient(), "{what}: {e}");
        let e = kv.put("d/c", "1").deadline(soon).await.expect_err(&what);
        assert_eq!(e.kind(), ErrorKind::OutcomeUnknown, "{what}: {e}");
        let e = kv.new_lock("l2").deadline(soon).try_acquire().await.expect_err(&what);
        assert!(e.is_transient() || e.kind() == ErrorKind::OutcomeUnknown, "{what}: {e}");
        let open = config(front.address, TABLE).deadline(soon).open().await.expect_err(&what);
        assert!(open.is_transient(), "{what}: {open}");
        front.no_more_trouble();
        assert!(guard.is_held() && lease.is_held(), "{what}");
        // The watch of the tree goes on: the last change is told.
        let value = round.to_string();
        kv.put("d/b", value.as_str()).await?;
        fold_until(&mut tree, &mut fold, &[("d/a", "1"), ("d/b", &value)]).await?;
    }
    // The date of the pages, an hour ahead, was not believed.
    assert!(kv.exists("leased").await?);
    assert!(kv.new_lock("l").try_acquire().await?.is_none());
    assert!(guard.release().await?);
    loop {
        match holder.event().await? {
            WatchEvent::Delete { .. } => break,
            WatchEvent::Put(_) | WatchEvent::Synced => {}
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_rides_out_what_is_not_known_to_last() -> Result<(), Failure> {
    let (_node, front, kv) = behind_front(TABLE).await?;
    kv.put("d/a", "0").await?;
    let mut watch = kv.watch_tree("d").await?;
    comes_to(&mut watch, &[("d/a", "0")]).await?;
    for (n, (operation, status, code)) in [
        ("GetRecords", 400, "NeverHeardOfException"),
        ("GetRecords", 500, "InternalServerError"),
        ("GetRecords", 400, "ResourceNotFoundException"),
        ("DescribeStream", 400, "ResourceNotFoundException"),
        ("GetShardIterator", 400, "NeverHeardOfException"),
        ("DescribeTable", 400, "ResourceNotFoundException"),
        ("Query", 400, "NeverHeardOfException"),
    ]
    .into_iter()
    .enumerate()
    {
        front.trouble(operation, Trouble::Refused(status, code), 1);
        // The expired iterator makes the watch send the other requests too.
        front.trouble("GetRecords", Trouble::Refused(400, "ExpiredIteratorException"), 1);
        let value = format!("{n}");
        kv.put("d/a", value.as_str()).await?;
        comes_to(&mut watch, &[("d/a", &value)]).await.map_err(|e| format!("{operation} {code}: {e}"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_deleted_and_made_anew_is_followed() -> Result<(), Failure> {
    let (node, _front, kv) = behind_front(TABLE).await?;
    let waiter = node.config(TABLE).open().await?;
    kv.put("d/a", "1").await?;
    kv.put("d/old", "1").await?;
    let guard = kv.new_lock("l").ttl(Duration::from_secs(6)).acquire().await?;
    let mut watch = kv.watch_tree("d").await?;
    comes_to(&mut watch, &[("d/a", "1"), ("d/old", "1")]).await?;
    let wait = tokio::spawn(async move { waiter.new_lock("l").acquire().await });
    node.sdk().delete_table().table_name(TABLE).send().await?;
    let lost = tokio::time::timeout(Duration::from_secs(10), guard.lost()).await?;
    assert_eq!(lost.kind(), ErrorKind::LockLost);
    drop(node.open(TABLE).await?);
    kv.put("d/new", "2").await?;
    kv.put("d/a", "2").await?;
    let mut fold = BTreeMap::from([("d/a".to_owned(), "1".to_owned()), ("d/old".to_owned(), "1".to_owned())]);
    fold_until(&mut watch, &mut fold, &[("d/a", "2"), ("d/new", "2")]).await?;
    kv.put("d/new", "3").await?;
    fold_until(&mut watch, &mut fold, &[("d/a", "2"), ("d/new", "3")]).await?;
    drop(tokio::time::timeout(Duration::from_secs(20), wait).await???);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_switched_off_and_on_again_is_followed() -> Result<(), Failure> {
    let (node, _front, kv) = behind_front(TABLE).await?;
    kv.put("d/a", "1").await?;
    let mut watch = kv.watch_tree("d").await?;
    comes_to(&mut watch, &[("d/a", "1")]).await?;
    let switch = |on: bool| {
        let mut stream = StreamSpecification::builder().stream_enabled(on);
        if on {
            stream = stream.stream_view_type(StreamViewType::NewAndOldImages);
        }
        let update = node.sdk().update_table().table_name(TABLE);
        update.stream_specification(stream.build().expect("a whole specification")).send()
    };
    switch(false).await?;
    kv.put("d/a", "2").await?;
    switch(true).await?;
    comes_to(&mut watch, &[("d/a", "2")]).await?;
    kv.put("d/b", "3").await?;
    comes_to(&mut watch, &[("d/b", "3")]).await
}

/// The time for which a put was throttled is not taken from the key's TTL.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_throttled_put_puts_lives_for_its_whole_ttl() -> Result<(), Failure> {
    let (_node, front, kv) = behind_front(TABLE).await?;
    let ttl = Duration::from_secs(3);
    for transacted in [false, true] {
        let operation = if transacted { "TransactWriteItems" } else { "PutItem" };
        front.trouble(operation, Trouble::Refused(400, "ThrottlingException"), 1000);
        let throttled = tokio::spawn({
            let kv = kv.clone();
            async move {
                if transacted {
                    kv.transact().then(kv.put("a", "1").ttl(ttl)).await.map(drop)
                } else {
                    kv.put("a", "1").ttl(ttl).await.map(drop)
                }
            }
        });
        tokio::time::sleep(Duration::from_millis(3500)).await;
        let throttled_until = Instant::now();
        front.no_more_trouble();
        throttled.await??;
        while kv.exists("a").await? {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let lived = throttled_until.elapsed();
        assert!(lived >= ttl.mul_f64(0.98), "{operation}: it lived {lived:?}");
    }
    Ok(())
}

/// The answer to a repeat is not told as if it were the answer to the first attempt.
#[tokio::test(flavor = "multi_thread")]
async fn release_and_revoke_do_not_answer_for_their_repeat() -> Result<(), Failure> {
    let (node, front, kv) = behind_front(TABLE).await?;
    let other = node.config(TABLE).open().await?;
    for lost in 1..=2 {
        let guard = kv.new_lock("l").acquire().await?;
        front.trouble("UpdateItem", Trouble::Lost, lost);
        assert!(guard.release().await?, "{lost} answers lost");
        let lease = kv.lease(MINUTE).await?;
        kv.put("a", "1").lease(&lease).await?;
        front.trouble("DeleteItem", Trouble::Lost, lost);
        assert!(lease.revoke().await?, "{lost} answers lost");
        assert!(!kv.exists("a").await?);
        let lease = kv.lease(MINUTE).await?;
        front.trouble("DeleteItem", Trouble::Lost, lost);
        assert!(lease.revoke().await?, "{lost} answers lost, and no keys");
    }
    // Another client has the lock before the repeat.
    let guard = kv.new_lock("l").acquire().await?;
    front.trouble("UpdateItem", Trouble::Lost, 1);
    front.trouble("UpdateItem", Trouble::Late(Duration::from_secs(1)), 1);
    let next = tokio::spawn(async move { other.new_lock("l").acquire().await });
    match guard.release().await {
        // Somebody may have broken the lock before the other client got it.
        Err(e) if e.kind() == ErrorKind::OutcomeUnknown => {}
        released => assert!(released?, "it was held until it was released"),
    }
    drop(next.await??);
    Ok(())
}

/// Renewals do not wait behind calls.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_kept_while_more_is_asked_than_the_table_takes() -> Result<(), Failure> {
    let (_node, front, kv) = behind_front(TABLE).await?;
    let ttl = Duration::from_secs(6);
    let (guard, lease) = (kv.new_lock("l").ttl(ttl).acquire().await?, kv.lease(ttl).await?);
    front.trouble("GetItem", Trouble::Late(Duration::from_millis(500)), 100_000);
    let began = Instant::now();
    let calls: Vec<_> = (0..1200)
        .map(|_| {
            let kv = kv.clone();
            tokio::spawn(async move { kv.get("a").deadline(MINUTE).await.map(drop) })
        })
        .collect();
    for call in calls {
        call.await??;
    }
    assert!(began.elapsed() > Duration::from_secs(6), "after {:?}", began.elapsed());
    assert!(guard.is_held() && lease.is_held());
    front.no_more_trouble();
    assert!(guard.release().await? && lease.revoke().await?);
    Ok(())
}
