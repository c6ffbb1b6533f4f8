//! Trees that change by tens of thousands of keys at once.

mod common;

use common::single;
use kv_core::WatchEvent;
use kv_testsuite::{Failure, failover::soon};

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_large_tree_is_told_soon() -> Result<(), Failure> {
    const KEYS: usize = 80_000;
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
    kv.delete_tree("big").await?;
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
