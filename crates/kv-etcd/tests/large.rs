//! Trees that change by tens of thousands of keys at once, trees of large values on a link that
//! takes its time, and transactions as large as the server takes.

mod common;

use common::single;
use kv_core::{ErrorKind, Item, Key, WatchEvent};
use kv_testsuite::{Failure, Proxy, failover::soon};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_large_tree_is_told_soon() -> Result<(), Failure> {
    const KEYS: usize = 80_000;
    const SERVER_TELLS: Duration = Duration::from_secs(5);
    let node = single("etcd").await?;
    let kv = kv_etcd::open(&format!("etcd://{}/large/", node.address)).await?;
    let batch = kv.capabilities().max_txn_ops.min(100);
    for from in (0..KEYS).step_by(batch) {
        let mut txn = kv.transact();
        for n in from..(from + batch).min(KEYS) {
            txn = txn.then(kv.put(format!("big/{n:08}"), ""));
        }
        assert!(txn.await?.is_committed());
    }
    let mut watch = kv.watch_tree("big").await?;
    while watch.event().await? != WatchEvent::Synced {}
    // This is one request, on which the server works for as long as it takes. Only when its own time
    // is over, which is five seconds and two timeouts of an election, it does not tell that it did it.
    let begun = Instant::now();
    if let Err(e) = kv.delete_tree("big").deadline(Duration::from_secs(60)).await {
        assert_eq!(e.kind(), ErrorKind::OutcomeUnknown, "{e}");
        assert!(begun.elapsed() >= SERVER_TELLS, "after {:?}: {e}", begun.elapsed());
    }
    soon("every deletion", async {
        let mut deleted = 0;
        while deleted < KEYS {
            deleted += usize::from(matches!(watch.event().await?, WatchEvent::Delete { .. }));
        }
        Ok::<_, Failure>(())
    })
    .await??;
    kv.close().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn large_values_come_in_parts_by_a_slow_link() -> Result<(), Failure> {
    const KEYS: usize = 600;
    let node = single("etcd").await?;
    let proxy = Proxy::start(node.address).await;
    let near = kv_etcd::open(&format!("etcd://{}/slow/", node.address)).await?;
    for n in 0..KEYS {
        near.put(format!("d/{n:03}"), vec![7; 64 << 10]).await?;
    }
    let far = kv_etcd::open(&format!("etcd://{}/slow/", proxy.address())).await?;
    // The deadline is less than all of it takes, and much more than a part takes.
    let far = far.with_deadline(Duration::from_millis(2500));
    proxy.delay(Duration::from_millis(1)); // some 10 MB/s
    let mut watch = far.watch_tree("d").await?;
    let mut puts = 0;
    let mut synced = async || {
        soon("the end of the reading", async {
            loop {
                match watch.event().await? {
                    WatchEvent::Synced => return Ok::<_, Failure>(()),
                    WatchEvent::Put(_) => puts += 1,
                    WatchEvent::Delete { .. } => return Err("nothing was deleted".into()),
                }
            }
        })
        .await?
    };
    synced().await?;
    proxy.reset().await;
    near.put("d/new", "").await?;
    synced().await?;
    assert_eq!(puts, KEYS + 1);

    let items = soon("the children", far.list("d").children().into_future()).await??;
    let all = items.iter().all(|item| matches!(item, Item::Entry(_)));
    assert!(all && items.len() == KEYS + 1, "{} items", items.len());
    Ok(())
}

/// A page of the greatest values takes longer than its deadline, and only the answer tells how
/// large values are.
#[tokio::test(flavor = "multi_thread")]
async fn the_greatest_values_are_listed_by_a_slow_link_behind_small_ones() -> Result<(), Failure> {
    const SMALL: usize = 64;
    const LARGE: usize = 24;
    let node = single("etcd").await?;
    let proxy = Proxy::start(node.address).await;
    let near = kv_etcd::open(&format!("etcd://{}/greatest/", node.address)).await?;
    for n in 0..SMALL {
        near.put(format!("d/a{n:02}"), "small").await?;
    }
    let length = near.capabilities().max_value;
    for n in 0..LARGE {
        near.put(format!("d/b{n:02}"), vec![7; length]).await?;
    }
    let far = kv_etcd::open(&format!("etcd://{}/greatest/", proxy.address())).await?;
    let far = far.with_deadline(Duration::from_secs(6));
    proxy.delay(Duration::from_millis(3)); // some 5 MB/s at most

    let entries = soon("the entries", far.list("d").into_future()).await??;
    let large = entries.iter().filter(|entry| entry.value.len() == length).count();
    assert_eq!((entries.len(), large), (SMALL + LARGE, LARGE));

    let items = soon("the children", far.list("d").children().into_future()).await??;
    let entry = |item: &Item| if let Item::Entry(entry) = item { entry.value.len() } else { 0 };
    let large = items.iter().filter(|item| entry(item) == length).count();
    assert_eq!((items.len(), large), (SMALL + LARGE, LARGE));

    // The first page is of large values alone.
    let mut behind = far.list("d").start_after(Key::parse("d/a99")?).entries();
    let first = soon("an entry", behind.next()).await?.ok_or("there are entries")??;
    assert_eq!((first.key.as_str(), first.value.len()), ("d/b00", length));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_leave_no_room_are_refused_before_anything_is_sent() -> Result<(), Failure> {
    let node = single("etcd").await?;
    let kv = kv_etcd::open(&format!("etcd://{}/names/", node.address)).await?;
    let value = vec![7; kv.capabilities().max_value];
    let with = |conditions: usize| {
        let names = (0..conditions).map(|n| format!("{n:0512}"));
        let transaction = names.fold(kv.transact(), |transaction, name| transaction.when_missing(name));
        transaction.then(kv.put("k", value.clone()).ttl(Duration::from_secs(60)))
    };
    let requests = async || node.metric("grpc_server_started_total", &["etcdserverpb."]).await;
    let before = requests().await?;
    let refused = with(100).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge, "{refused}");
    assert_eq!(requests().await?, before, "neither the transaction nor a lease: {refused}");
    assert!(with(8).await?.is_committed());
    Ok(())
}
