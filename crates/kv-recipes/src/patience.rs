//! Rides out passing errors for the recipes, and writes so that a lost answer costs nothing.

use kv_core::{Bytes, Entry, Error, ErrorKind, Fence, Key, Kv, Result, Version, backend::Backoff};
use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

/// The TTL of locks and leases of recipes, unless told otherwise: that of a lock.
pub(crate) const DEFAULT_TTL: Duration = Duration::from_secs(15);

/// Tells whether an error ends what rides outages out: one that lasts, or one that no waiting
/// mends.
pub(crate) fn ends(error: &Error) -> bool {
    use ErrorKind::*;
    error.is_lasting() || matches!(error.kind(), InvalidKey | InvalidArgument | TooLarge)
}

/// Returns the pauses between tries at one thing.
pub(crate) fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(20), Duration::from_secs(1))
}

/// Runs the work until it ends, or until a lock or lease is lost: from the moment on in which it is
/// known here that the time is over, the work is not polled once more, and it is dropped before the
/// reason is waited for.
pub(crate) async fn until_lost<T>(
    is_held: impl Fn() -> bool,
    lost: impl Future<Output = Error>,
    work: impl Future<Output = T>,
) -> Result<T> {
    let mut lost = pin!(lost);
    let ended = {
        let mut work = pin!(work);
        poll_fn(|cx| match lost.as_mut().poll(cx) {
            Poll::Ready(why) => Poll::Ready(Err(Some(why))),
            // A process that was stopped runs this before the timer that would tell the loss.
            Poll::Pending if !is_held() => Poll::Ready(Err(None)),
            Poll::Pending => work.as_mut().poll(cx).map(Ok),
        })
        .await
    };
    match ended {
        Ok(done) => Ok(done),
        Err(Some(why)) => Err(why),
        Err(None) => Err(lost.await),
    }
}

/// Writes a key that only the holders of one lock write, each of them one write after the other.
/// `is_done` tells a record that this write has made already.
///
/// It tries until the write stands, or an error comes that ends it: the loss of the lock among
/// them. A try whose answer was lost cannot take effect behind a later write: every try expects
/// the version that was read before it. It returns the version that the key has by the write.
pub(crate) async fn write_fenced(
    kv: &Kv,
    key: &Key,
    fence: &Fence,
    value: &Bytes,
    is_done: impl Fn(&Entry) -> Result<bool>,
) -> Result<Version> {
    let mut backoff = backoff();
    loop {
        match try_write(kv, key, fence, value, &is_done).await {
            Err(e) if !ends(&e) && e.kind() != ErrorKind::LockLost => backoff.pause().await,
            ended => return ended,
        }
    }
}

async fn try_write(
    kv: &Kv,
    key: &Key,
    fence: &Fence,
    value: &Bytes,
    is_done: &impl Fn(&Entry) -> Result<bool>,
) -> Result<Version> {
    let found = kv.get(key).await?;
    let put = kv.put(key, value).fenced(fence);
    let put = match &found {
        Some(entry) if is_done(entry)? => return Ok(entry.version),
        Some(entry) => put.if_version(entry.version),
        None => put.if_missing(),
    };
    Ok(put.await?.version)
}
