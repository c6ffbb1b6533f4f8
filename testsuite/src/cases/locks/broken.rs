//! Locks that are taken from their holder, by its token.

use super::{Follower, in_line, lock_ttl, locking, refuses, take};
use crate::{
    Ended, Failure, Trial, Verdict,
    check::{holds, refused, same, still_held},
};
use futures::FutureExt;
use kv_core::{
    Condition, ErrorKind, Kv,
    driver::{Deadline, WriteOptions},
};
use std::{future::Future, time::Duration};

/// Runs the case where a lock can be taken from its holder; elsewhere sees that it is refused.
async fn breaking<F>(t: Trial, case: impl FnOnce(Trial, Kv) -> F) -> Verdict
where
    F: Future<Output = Result<(), Failure>>,
{
    if t.capabilities().lock.as_ref().is_none_or(|locking| locking.breaks) {
        return locking(t, case).await;
    }
    let kv = t.open().await?;
    let guard = take(&t, &kv, "l").await?;
    let broken = kv.break_lock("l").token(guard.token()).await;
    refused("break_lock that is not declared", broken, ErrorKind::Unsupported)?;
    Ended::ignored("nobody ends another's lock")
}

pub(super) async fn token(t: Trial) -> Verdict {
    breaking(t, async |t, kv| {
        let operator = t.open().await?;
        let guard = take(&t, &kv, "l").await?;
        let watch = operator.lock_holder("l").watch();
        let mut follower = Follower::new(&t, "a watch of a lock's holder", watch).await?;
        follower.synced().await?;
        let broken = operator.break_lock("l").token(guard.token()).await?;
        holds("`break_lock` says that the holder of this token held it", broken)?;
        same("the holder of a lock that was broken", operator.lock_holder("l").await?, None)?;
        follower.gone("l").await?;
        let again = operator.break_lock("l").token(guard.token()).await?;
        same("whether the same acquisition is ended twice", again, false)?;

        let next = operator.new_lock("l").try_acquire().await?.ok_or("a lock that was broken is free")?;
        let mut waiting = kv.new_lock("l").acquire().boxed();
        in_line(&t, &kv, ("l", 1), &mut waiting).await?;
        holds("the next holder's lock is broken", operator.break_lock("l").token(next.token()).await?)?;
        let what = "the waiter to get a lock that was broken";
        let last = t.within(Deadline::DEFAULT, what, waiting).await??;
        holds("the token grows over a broken lock", last.token() > next.token())?;
        holds("the waiter holds the lock until it releases it", last.release().await?)
    })
    .await
}

pub(super) async fn other(t: Trial) -> Verdict {
    breaking(t, async |t, kv| {
        same("whether a lock that nobody took is broken", kv.break_lock("l").token(1).await?, false)?;
        let before = take(&t, &kv, "l").await?;
        let old = before.token();
        before.release().await?;
        same("whether a released lock is broken", kv.break_lock("l").token(old).await?, false)?;
        let (guard, beside, other) = (take(&t, &kv, "l").await?, take(&t, &kv, "m").await?, t.open().await?);
        let token = guard.token();
        for wrong in [old, token - 1, token + 1, beside.token(), 0, u64::MAX] {
            if wrong == token {
                continue;
            }
            let broken = other.break_lock("l").token(wrong).await?;
            same(format!("whether {wrong} breaks the lock of the token {token}"), broken, false)?;
        }
        refused("break_lock without a token", other.break_lock("l").await, ErrorKind::InvalidArgument)?;
        still_held("a lock outlives `break_lock` with other tokens", &guard)?;
        still_held("so does another lock", &beside)?;
        let tried = other.new_lock("l").try_acquire().await?;
        holds("nobody else gets it after `break_lock` with other tokens", tried.is_none())?;
        let holder = other.lock_holder("l").await?.map(|holder| holder.token);
        same("the holder after `break_lock` with other tokens", holder, Some(token))?;
        holds("it was held until it was released", guard.release().await?)?;
        holds("and so was the other", beside.release().await?)
    })
    .await
}

pub(super) async fn lost(t: Trial) -> Verdict {
    breaking(t, async |t, kv| {
        let (operator, ttl) = (t.open().await?, lock_ttl(&t, Duration::from_secs(10)));
        let guard = kv.new_lock("l").ttl(ttl).acquire().await?;
        let fence = guard.fence().clone();
        holds("the lock is broken", operator.break_lock("l").token(guard.token()).await?)?;
        let declared = t.capabilities().lock.clone().ok_or("locks are declared")?;
        if declared.fenced_writes {
            refuses("a lock that was broken", &operator, Condition::Held(fence.clone())).await?;
        }
        if declared.set_value {
            let (store, options) = (operator.store().as_ref(), WriteOptions::default());
            let set = store.set_holder(fence.lock(), &fence, "broken".into(), &options).await?;
            same("whether the holder of a broken lock changes its value", set, false)?;
        }
        let what = "`lost()` of a lock that was broken";
        let lost = t.within(ttl + t.patience(), what, guard.lost()).await?;
        same("the reason of the loss", lost.kind(), ErrorKind::LockLost)?;
        holds("a lock that was broken is not held", !guard.is_held())?;
        let next = take(&t, &operator, "l").await?;
        same("whether a release after the loss released it", guard.release().await?, false)?;
        holds("the next holder keeps the lock", next.release().await?)
    })
    .await
}
