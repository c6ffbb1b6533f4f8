//! Requests that are done, whose answers are lost, and whose repeats are refused.

use crate::{Failure, Harness, Proxy, failover::soon, torture::stroke::Stroke};
use kv_core::ErrorKind;
use std::time::Duration;

/// Longer than the whole check takes, so that nothing ends by itself.
const TTL: Duration = Duration::from_secs(120);
/// Long enough for the rights to go before the request is taken for lost.
const DEADLINE: Duration = Duration::from_secs(40);

/// Has the server do a request for a lock while its answer is lost, withdraws the rights before
/// the request is repeated, and gives them back. Checks that nobody is left in the lock's line,
/// though another lock keeps the session alive that the two share.
///
/// # Errors
/// Somebody is left in line; or the harness has no [`Troubles`](crate::Troubles) with
/// [`Stroke::Rights`], or no address.
pub async fn is_refused<H: Harness>(harness: H) -> Result<(), Failure> {
    let tried = tried(&harness).await;
    // The harness may wait for its server to end.
    let ended = tokio::task::spawn_blocking(move || drop(harness)).await;
    tried.and(ended.map_err(Failure::from))
}

async fn tried(harness: &dyn Harness) -> Result<(), Failure> {
    let troubles = harness.troubles().ok_or("a harness without troubles")?;
    let proxy = Proxy::start(harness.address().ok_or("a harness without an address")?).await;
    let kv = harness.open_through(&proxy, "refused/").await.ok_or("a harness without proxies")??;
    let (kv, observer) = (kv.with_deadline(DEADLINE), harness.open("refused/").await?);
    // The first lock makes what all of them need.
    kv.new_lock("lock").ttl(TTL).acquire().await?.release().await?;
    let other = kv.new_lock("other").ttl(TTL).acquire().await?;
    proxy.hold_next_answer();
    let asks = tokio::spawn(kv.new_lock("lock").ttl(TTL).acquire().into_future());
    soon("the request to be done", async {
        while observer.lock_holder("lock").await?.is_none() {}
        Ok::<_, Failure>(())
    })
    .await??;
    soon("its answer to be held", proxy.trapped()).await?;
    troubles.begin(Stroke::Rights, 0).await?;
    proxy.reset().await;
    proxy.heal().await;
    let refused = soon("the repeat to be refused", asks).await??;
    let refused = refused.err().ok_or("it was granted without rights")?;
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused}");
    troubles.end(Stroke::Rights).await?;
    let guard = soon("a lock that nobody holds", observer.new_lock("lock").ttl(TTL).acquire()).await??;
    assert!(other.is_held(), "it was free because the session had ended");
    guard.release().await?;
    other.release().await?;
    kv.close().await?;
    Ok(observer.close().await?)
}
