//! Locks that may not be given back, because rights were withdrawn while the locks were held.

use crate::{Failure, Harness, failover::soon, torture::nemesis::Stroke};
use kv_core::{ErrorKind, Guard, Kv, WatchEvent, driver::async_trait};
use std::time::Duration;

/// A server whose users have rights to the lines of locks.
#[async_trait]
pub trait Rights: Sync {
    /// The TTL of the locks, whose end is waited for twice.
    const TTL: Duration;
    /// Opens a store of the user whose rights are withdrawn.
    async fn open(&self) -> Result<Kv, Failure>;
    /// Opens a store with the same prefix, of another user, who keeps all rights.
    async fn open_of_another(&self) -> Result<Kv, Failure>;
    /// Returns when two contenders are in the line of a lock.
    async fn two_in_line(&self, lock: &str) -> Result<(), Failure>;
    /// Withdraws the right to take anybody out of the line of the lock `l`, and no other right.
    /// Returns when the right is gone.
    async fn withdraw(&self) -> Result<(), Failure>;
}

/// Checks that a lock whose release was refused ends though a contender waits for another lock
/// under the same session. The contender would keep the session, and the refused lock with it, for
/// as long as others hold what the contender waits for.
///
/// # Errors
/// The lock did not end, or the contender did not get what it waited for.
///
/// # Panics
/// A promise was broken.
pub async fn ends_while_others_are_waited_for<R: Rights>(rights: &R) -> Result<(), Failure> {
    let kv = rights.open().await?;
    let (theirs, third) = (rights.open_of_another().await?, rights.open_of_another().await?);
    let other = theirs.new_lock("other").ttl(R::TTL).acquire().await?;
    let guard = kv.new_lock("l").ttl(R::TTL).acquire().await?;
    let waits = tokio::spawn(kv.new_lock("other").ttl(R::TTL).acquire().into_future());
    rights.two_in_line("other").await?;
    rights.withdraw().await?;
    is_refused(guard).await?;
    let next = soon("the lock", third.new_lock("l").ttl(R::TTL).acquire()).await??;
    assert!(!waits.is_finished() && other.release().await?);
    let got = soon("who waited", waits).await???;
    // The lock hangs on a session that is kept alive: nothing tells that it is not lost later.
    tokio::time::sleep(2 * R::TTL).await;
    assert!(got.is_held() && next.is_held());
    kv.put("fenced", "").fenced(&got).await?;
    assert!(got.release().await?);
    Ok(())
}

/// Checks that a lock whose release was refused ends though a contender waits for it under the same
/// session, and that the contender, who may not get into the line again, hears so.
///
/// # Errors
/// The lock did not end, or the contender got it.
///
/// # Panics
/// The contender hears another reason.
pub async fn ends_while_it_is_waited_for<R: Rights>(rights: &R) -> Result<(), Failure> {
    let (kv, third) = (rights.open().await?, rights.open_of_another().await?);
    let guard = kv.new_lock("l").ttl(R::TTL).acquire().await?;
    let waits = tokio::spawn(kv.new_lock("l").ttl(R::TTL).acquire().into_future());
    rights.two_in_line("l").await?;
    rights.withdraw().await?;
    is_refused(guard).await?;
    let refused = soon("who waited", waits).await??.err().ok_or("it was granted without rights")?;
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused}");
    assert!(soon("the lock", third.new_lock("l").ttl(R::TTL).acquire()).await??.release().await?);
    Ok(())
}

/// Checks that a store says, when it is closed, that it may not give a lock back which may not be
/// released either, and leaves the lock there until its TTL is over; and that closing tries once
/// more, where the right was given back meanwhile. `observer` keeps the right to read.
///
/// # Errors
/// The release was not refused, or a call failed.
///
/// # Panics
/// A promise was broken.
pub async fn close_tells(
    open: impl AsyncFn() -> Result<Kv, Failure>,
    observer: &Kv,
    withdraw: impl AsyncFn() -> Result<(), Failure>,
    allow: impl AsyncFn() -> Result<(), Failure>,
) -> Result<(), Failure> {
    for (lock, may_again) in [("goes", true), ("stays", false)] {
        let kv = open().await?;
        let guard = kv.new_lock(lock).ttl(Duration::from_secs(60)).acquire().await?;
        withdraw().await?;
        is_refused(guard).await?;
        assert!(observer.lock_holder(lock).await?.is_some(), "{lock}");
        if may_again {
            allow().await?;
        }
        let told = kv.close().await.map_err(|e| e.kind());
        assert_eq!(observer.lock_holder(lock).await?.is_none(), may_again, "{lock}");
        let expected = if may_again { Ok(()) } else { Err(ErrorKind::PermissionDenied) };
        assert_eq!(told, expected, "{lock}");
    }
    Ok(())
}

async fn is_refused(guard: Guard) -> Result<(), Failure> {
    let e = guard.release().await.err().ok_or("it was given back without rights")?;
    assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e}");
    Ok(())
}

/// Checks that a lock which may not be given back, when it is released or when its guard is
/// dropped, is free after its TTL, also for its watch.
///
/// # Errors
/// The lock did not end; or the harness has no [`Troubles`](crate::Troubles) with
/// [`Stroke::Rights`].
///
/// # Panics
/// A promise was broken.
pub async fn ends_by_its_ttl<H: Harness>(harness: H, ttl: Duration) -> Result<(), Failure> {
    let tried = by_its_ttl(&harness, ttl).await;
    // The harness may wait for its server to end.
    let ended = tokio::task::spawn_blocking(move || drop(harness)).await;
    tried.and(ended.map_err(Failure::from))
}

async fn by_its_ttl(harness: &dyn Harness, ttl: Duration) -> Result<(), Failure> {
    let troubles = harness.troubles().ok_or("a harness without troubles")?;
    let kv = harness.open("denied/").await?;
    let acquire = || kv.new_lock("l").ttl(ttl).acquire();
    // The first of the troubles with rights takes away what a release needs, on every server.
    for drops in [false, true] {
        let guard = acquire().await?;
        let mut holder = kv.lock_holder("l").watch().await?;
        assert!(matches!(soon("the holder", holder.event()).await??, WatchEvent::Put(_)));
        troubles.begin(Stroke::Rights, 0).await?;
        match drops {
            true => drop(guard),
            false => is_refused(guard).await?,
        }
        soon("its end", async {
            while !matches!(holder.event().await?, WatchEvent::Delete { .. }) {}
            Ok::<_, Failure>(())
        })
        .await??;
        troubles.end(Stroke::Rights).await?;
        assert!(acquire().await?.release().await?);
    }
    Ok(kv.close().await?)
}
