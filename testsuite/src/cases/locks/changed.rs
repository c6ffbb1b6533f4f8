//! The value of a holder, which the holder changes.

use super::{Follower, lock_ttl, locking, take};
use crate::{
    Ended, Failure, Trial, Verdict,
    check::{holds, refused, same, still_held},
};
use kv_core::{ErrorKind, Fence, Kv, Version, WatchEvent, driver::WriteOptions};
use std::{future::Future, time::Duration};

/// The greatest value that a test writes.
const REACHED: usize = 64 << 20;

/// Runs the case where a holder can change its value; elsewhere sees that it is refused.
async fn changing<F>(t: Trial, case: impl FnOnce(Trial, Kv) -> F) -> Verdict
where
    F: Future<Output = Result<(), Failure>>,
{
    if t.capabilities().lock.as_ref().is_none_or(|locking| locking.set_value) {
        return locking(t, case).await;
    }
    let kv = t.open().await?;
    let guard = take(&t, &kv, "l").await?;
    refused("set_value that is not declared", guard.set_value("v").await, ErrorKind::Unsupported)?;
    Ended::ignored("the value of a held lock does not change")
}

pub(super) async fn read(t: Trial) -> Verdict {
    changing(t, async |t, kv| {
        let other = t.open().await?;
        let guard = kv.new_lock("l").value("first").acquire().await?;
        let mut last = other.lock_holder("l").await?.map(|holder| holder.changes);
        same("the changes of a new holder", last, Some(0))?;
        let large = vec![b'x'; 100 << 10];
        for value in [&b"host-1:80"[..], b"", b"\xff\x00\r\n", &large[..], b"last"] {
            guard.set_value(value.to_vec()).await?;
            let holder = other.lock_holder("l").await?.ok_or("a held lock has a holder")?;
            same(
                "the token and value that others read after a change",
                (holder.token, &holder.value[..]),
                (guard.token(), value),
            )?;
            let changes = Some(holder.changes);
            holds(format!("the changes grow; found {changes:?} after {last:?}"), changes > last)?;
            last = changes;
        }
        if let Some(past) = t.capabilities().max_value.checked_add(1).filter(|past| *past <= REACHED) {
            let set = guard.set_value(vec![b'x'; past]).await;
            refused("set_value of more than the greatest", set, ErrorKind::TooLarge)?;
            let value = other.lock_holder("l").await?.map(|holder| holder.value);
            same("the value after one that was too large", value.as_deref(), Some(&b"last"[..]))?;
        }
        holds("the lock was held until it was released", guard.release().await?)?;
        let next = kv.new_lock("l").value("next").acquire().await?;
        let holder = other.lock_holder("l").await?.ok_or("a held lock has a holder")?;
        same(
            "the token, changes and value of the next holder",
            (holder.token, holder.changes, &holder.value[..]),
            (next.token(), 0, &b"next"[..]),
        )
    })
    .await
}

pub(super) async fn watched(t: Trial) -> Verdict {
    changing(t, async |t, kv| {
        let other = t.open().await?;
        let guard = kv.new_lock("l").value("first").acquire().await?;
        let watch = other.lock_holder("l").watch();
        let mut follower = Follower::new(&t, "a watch of a lock's holder", watch).await?;
        follower.synced().await?;
        let mut last = Version::new(guard.token(), 0);
        // The same bytes are told too.
        for value in ["second", "second", "", "fourth"] {
            guard.set_value(value).await?;
            let found = follower.change().await?;
            let version = match &found {
                WatchEvent::Put(e) if e.key.as_str() == "l" && e.value == value => Some(e.version),
                _ => None,
            };
            let later = version.filter(|version| *version > last && version.parts().0 == guard.token());
            last = later.ok_or_else(|| {
                format!("broken: a Put of the value {value:?}, later than {last:?}; found {found:?}")
            })?;
            let watch = kv.lock_holder("l").watch();
            let mut late = Follower::new(&t, "a late watch of a lock's holder", watch).await?;
            same("what a late watch tells first after a change", late.synced().await?, vec![found])?;
        }
        guard.release().await?;
        let found = follower.change().await?;
        let gone = matches!(&found, WatchEvent::Delete { version, .. } if *version >= last);
        holds(format!("the event of a release behind {last:?}; found {found:?}"), gone)
    })
    .await
}

/// Checks that an acquisition that holds the lock no more changes nothing.
async fn changes_nothing(kv: &Kv, lost: &Fence, what: &str) -> Result<(), Failure> {
    let before = kv.lock_holder("l").await?;
    let (store, options) = (kv.store().as_ref(), WriteOptions::default());
    let is_held = store.set_holder(lost.lock(), lost, "of the lost one".into(), &options).await?;
    same(format!("whether the lock is held, {what}"), is_held, false)?;
    same(format!("the holder after a change by one that lost it, {what}"), kv.lock_holder("l").await?, before)
}

pub(super) async fn lost(t: Trial) -> Verdict {
    changing(t, async |t, kv| {
        let guard = kv.new_lock("l").value("first").acquire().await?;
        let lost = guard.fence().clone();
        guard.set_value("second").await?;
        guard.release().await?;
        changes_nothing(&kv, &lost, "released").await?;
        let other = t.open().await?;
        let taken = other.new_lock("l").value("another's").acquire().await?;
        changes_nothing(&kv, &lost, "held by another").await?;
        taken.release().await?;
        let again = kv.new_lock("l").value("again").acquire().await?;
        changes_nothing(&kv, &lost, "acquired again by the same client").await?;
        kv.close().await?;
        refused("set_value after `close`", again.set_value("closed").await, ErrorKind::Closed)?;
        Ok(())
    })
    .await
}

pub(super) async fn kept(t: Trial) -> Verdict {
    changing(t, async |t, kv| {
        // With this TTL a server that is busy for two seconds loses no lock.
        let (other, ttl) = (t.open().await?, lock_ttl(&t, Duration::from_secs(4)));
        let guard = kv.new_lock("l").value("first").ttl(ttl).acquire().await?;
        guard.set_value("second").await?;
        for _ in 0..7 {
            tokio::time::sleep(ttl / 5).await;
            still_held("a lock whose value was changed is kept alive", &guard)?;
            let holder = other.lock_holder("l").await?.ok_or("a held lock has a holder")?;
            same(
                "the token and value that others read between renewals",
                (holder.token, &holder.value[..]),
                (guard.token(), &b"second"[..]),
            )?;
        }
        holds("the lock was held until it was released", guard.release().await?)
    })
    .await
}
