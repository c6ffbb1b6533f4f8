//! The turns of calls: what a program leaves unpolled holds up nothing else.

mod common;

use common::single;
use futures::{StreamExt, stream};
use kv_testsuite::{Failure, Proxy, failover::soon};
use std::time::Duration;

/// A put that took long renews the session of its TTL before it is answered: those that nobody
/// polls meanwhile do not hold up the renewals of locks.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_waits_for_none_that_nobody_polls() -> Result<(), Failure> {
    const TTL: Duration = Duration::from_secs(1);
    let node = single().await?;
    let proxy = Proxy::start(node.address).await;
    let kv = kv_consul::open(&format!("consul://{}/turns/", proxy.address())).await?;
    let guard = kv.new_lock("l").ttl(6 * TTL).acquire().await?;
    // Each put takes longer than a tenth of its TTL.
    proxy.delay(TTL / 12);
    let mut puts: Vec<_> =
        (0..12).map(|n| Box::pin(kv.put(format!("k/{n}"), "").ttl(TTL).into_future())).collect();
    // The puts are written, and each sends a renewal: then nobody polls them.
    soon("the puts", async {
        let mut polls = stream::iter(&mut puts).buffer_unordered(12);
        polls.next().await
    })
    .await?;
    let lost = tokio::time::timeout(6 * TTL, guard.lost()).await;
    assert!(lost.is_err(), "{lost:?}");
    assert!(guard.release().await?);
    Ok(())
}
