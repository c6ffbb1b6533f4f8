//! The names and records that a store leaves on its server when it is closed.

use crate::Failure;
use kv_core::{ErrorKind, Kv};
use std::{thread, time::Duration};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout},
};

/// The longest time that the server takes to tell that things are gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same at the end of a harness. A client that was killed leaves what it had granted until that
/// ends by itself: the marker of an `update` that happens exactly once stays for a minute.
const LAST: Duration = Duration::from_secs(90);
/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(20);

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
            sleep(LOOK).await;
        }
        Ok::<_, Failure>(())
    };
    match timeout(PATIENCE, gone).await {
        Ok(done) => done,
        Err(_) => Err(format!("what is left: {:?}", left().await?).into()),
    }
}

/// Waits, when a harness ends, until `list` finds nothing more. It is called in the runtime, by a
/// thread that may wait; a thread that panics waits for nothing.
///
/// # Errors
/// Something is left after a minute and a half.
pub fn none_at_the_end(list: impl AsyncFn() -> Result<Vec<String>, Failure>) -> Result<(), Failure> {
    if thread::panicking() {
        return Ok(());
    }
    Handle::current().block_on(async {
        let deadline = Instant::now() + LAST;
        loop {
            match list().await {
                Ok(left) if left.is_empty() => return Ok(()),
                left if Instant::now() > deadline => {
                    let why = format!("left on the server when everything was closed: {left:?}");
                    return Err(Failure::from(why));
                }
                _ => sleep(LOOK).await,
            }
        }
    })
}
