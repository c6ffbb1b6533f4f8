//! The order in which watches tell, and that they tell only what was.

mod common;

use common::single;
use kv_core::{ErrorKind, WatchEvent};
use kv_testsuite::{Failure, failover::soon};
use std::time::Duration;

/// Checks that what was put and deleted before the snapshot is told by the snapshot alone.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_behind_a_snapshot_that_knows_better() -> Result<(), Failure> {
    let node = single("etcd").await?;
    let kv = kv_etcd::open(&format!("etcd://{}/order/", node.address)).await?;
    kv.put("d/mark", "").await?;
    let writer = kv.clone();
    let writes = tokio::spawn(async move {
        loop {
            for done in [
                writer.put("d/k", "").await.map(drop),
                writer.delete("d/k").await.map(drop),
                writer.put("d/mark", "").await.map(drop),
            ] {
                if let Err(e) = done {
                    return e;
                }
            }
        }
    });
    for _ in 0..300 {
        let mut watch = kv.watch_tree("d").await?;
        let (mut mark, mut is_synced, mut events) = (None, false, 0);
        while events < 6 {
            match soon("an event", watch.event()).await?? {
                WatchEvent::Synced => is_synced = true,
                WatchEvent::Put(entry) => {
                    let (is_mark, version) = (entry.key.as_str() == "d/mark", entry.version);
                    assert!(!is_synced || Some(version) > mark, "{entry:?} is older than {mark:?}");
                    mark = if is_mark { Some(version) } else { mark };
                    events += usize::from(is_synced);
                }
                WatchEvent::Delete { .. } => {}
            }
        }
    }
    kv.close().await?;
    let end = writes.await?;
    assert_eq!(end.kind(), ErrorKind::Closed, "{end}");
    Ok(())
}

/// A process that dies takes a holder and a contender that waits with it, at one moment.
#[tokio::test(flavor = "multi_thread")]
async fn who_goes_with_the_holder_is_never_told_to_hold() -> Result<(), Failure> {
    let node = single("etcd").await?;
    let url = format!("etcd://{}/together/", node.address);
    let (observer, tool) =
        (kv_etcd::open(&url).await?, etcd_client::Client::connect([node.address.to_string()], None).await?);
    for round in 0..12 {
        let (name, kv) = (format!("l{round}"), kv_etcd::open(&url).await?);
        let lock = || kv.new_lock(&name).ttl(Duration::from_secs(60));
        let first = lock().acquire().await?;
        let waits = tokio::spawn(lock().acquire().into_future());
        let line = format!("together/\u{1}lock/{name}\u{1}");
        let session = soon("one who waits", async {
            loop {
                let all = etcd_client::GetOptions::new().with_prefix();
                let found = tool.kv_client().get(&*line, Some(all)).await?.take_kvs();
                if let [one, _] = &found[..] {
                    break Ok::<_, Failure>(one.lease());
                }
            }
        })
        .await??;
        let mut holder = observer.lock_holder(&name).watch().await?;
        assert!(matches!(holder.event().await?, WatchEvent::Put(_)));
        assert_eq!(holder.event().await?, WatchEvent::Synced);
        tool.lease_client().revoke(session).await?;
        let next = soon("the lock", waits).await???;
        let mut told = Vec::new();
        soon("the next holder", async {
            while told.last() != Some(&next.token()) {
                if let WatchEvent::Put(entry) = holder.event().await? {
                    told.push(entry.version.parts().0);
                }
            }
            Ok::<_, Failure>(())
        })
        .await??;
        assert_eq!(told, [next.token()], "round {round}: behind {}", first.token());
        kv.close().await?;
    }
    Ok(())
}
