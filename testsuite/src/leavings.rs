//! The names and records that a store leaves on its server when it is closed.

use crate::Failure;
use kv_core::{ErrorKind, Kv};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// The longest time that the server takes to tell that things are gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Uses a store, closes it, and checks that nothing is left: no lease, no lock or contender, no
/// watch; `left` lists what is there. The leases and locks have this TTL, longer than the check
/// takes, so that nothing ends by itself.
///
/// # Errors
/// Something is left.
///
/// # Panics
/// A promise was broken.
pub async fn none(
    kv: Kv,
    ttl: Duration,
    left: impl AsyncFn() -> Result<Vec<String>, Failure>,
) -> Result<(), Failure> {
    let lease = kv.lease(ttl).await?;
    kv.put("leased", "").lease(&lease).await?;
    let mut watch = kv.watch_tree("").await?;
    watch.event().await?;
    let guard = kv.new_lock("l").ttl(ttl).acquire().await?;
    let mut holder = kv.lock_holder("l").watch().await?;
    holder.event().await?;
    let waiting = tokio::spawn(kv.new_lock("l").acquire().into_future());
    let refused = kv.put("leased", "").ttl(ttl).if_missing().await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::KeyExists);
    assert!(kv.new_lock("l").try_acquire().await?.is_none());
    if left().await?.is_empty() {
        return Err("nothing is seen while it is there".into());
    }
    kv.close().await?;
    kv.close().await?; // twice is fine
    assert!(!guard.is_held() && !lease.is_held());
    assert_eq!(waiting.await?.unwrap_err().kind(), ErrorKind::Closed);
    drop((watch, holder));
    let gone = async {
        while !left().await?.is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, Failure>(())
    };
    match timeout(PATIENCE, gone).await {
        Ok(done) => done,
        Err(_) => Err(format!("what is left: {:?}", left().await?).into()),
    }
}
