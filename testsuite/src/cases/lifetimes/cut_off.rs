//! Guards, waits and leases that are dropped just as their runtime ends: nobody is left there who
//! could give them back.

use super::outlived::in_a_runtime_of;
use crate::{
    Ended, Failure, Trial, Verdict,
    cases::locks::{in_line, lock_ttl},
    check::{holds, same, still_held},
    lateness::Stopwatch,
};
use futures::FutureExt;
use kv_core::{Guard, Kv, Lease};
use std::time::Duration;
use tokio::runtime::Builder;

/// The TTL of what is left on the server. A runtime that is woken two seconds late loses nothing within it.
const TTL: Duration = Duration::from_secs(6);

/// Returns the kinds of runtimes: one ends before it has begun what a drop leaves to it, the other
/// in the middle of it.
fn kinds() -> [fn() -> Builder; 2] {
    let threads = || {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(2);
        builder
    };
    [Builder::new_current_thread, threads]
}

/// Returns the shortest TTL that the server grants to leases and that is at least this long, or the
/// greatest, where that is shorter, and how late the lease's end may be; `None` without leases.
fn lease_ttl(t: &Trial, at_least: Duration) -> Option<(Duration, Duration)> {
    let range = t.capabilities().lease.as_ref()?;
    let ttl = range.grant(at_least.max(range.least).min(range.greatest)).ok()?;
    Some((ttl, range.lateness(ttl)))
}

/// Takes a lease of this TTL, and puts a key under it.
async fn leased(kv: &Kv, ttl: Duration) -> Result<Lease, Failure> {
    let lease = kv.lease(ttl).await?;
    kv.put("member", "").lease(&lease).await?;
    Ok(lease)
}

/// Drops a lock that is held, a wait in line for another one, and a lease, at the end of their
/// runtime.
async fn drop_all(t: Trial, kv: Kv) -> Result<(), Failure> {
    let lease = match lease_ttl(&t, TTL) {
        Some((ttl, _)) => Some(leased(&kv, ttl).await?),
        None => None,
    };
    let mut locks = None;
    if t.capabilities().lock.is_some() {
        let ttl = lock_ttl(&t, TTL);
        let guard = t.soon("a free lock", kv.new_lock("held").ttl(ttl).acquire()).await??;
        let mut waiting = kv.new_lock("waited").ttl(ttl).acquire().boxed();
        in_line(&t, &kv, ("waited", 1), &mut waiting).await?;
        locks = Some((guard, waiting));
    }
    drop((lease, locks));
    Ok(())
}

/// Checks that this client gets the lock of a runtime that ended at that moment, in time, and gives
/// it back.
async fn comes(t: &Trial, kv: &Kv, name: &str, ended: &Stopwatch) -> Result<(), Failure> {
    let Some(locking) = &t.capabilities().lock else { return Ok(()) };
    let ttl = lock_ttl(t, TTL);
    // One second is for this machine to run the waiter whose turn it is.
    let most = ttl + locking.ttl.lateness(ttl) + Duration::from_secs(1);
    let what = format!("the lock {name:?}, of which nobody is left");
    let guard: Guard = t.within(most + t.patience(), &what, kv.new_lock(name).ttl(ttl).acquire()).await??;
    ended.took().at_most(&what, most)?;
    holds("it was held until it was released", guard.release().await?)
}

/// Checks that the key of the lease of a runtime that ended at that moment goes in time.
async fn goes(t: &Trial, kv: &Kv, ended: &Stopwatch) -> Result<(), Failure> {
    let Some((ttl, late)) = lease_ttl(t, TTL) else { return Ok(()) };
    let most = ttl + late + Duration::from_secs(1);
    let what = "the end of the key of a lease of which nobody is left";
    let gone = || async { Ok(!kv.exists("member").await?) };
    t.until_within(most + t.patience(), what, gone).await?;
    ended.took().at_most(what, most)
}

pub(super) async fn dropped(t: Trial) -> Verdict {
    let has_locks = t.capabilities().lock.is_some();
    if !has_locks && t.capabilities().lease.is_none() {
        return Ended::ignored("nothing is held: no leases, no locks");
    }
    let (kv, other) = (t.open().await?, t.open().await?);
    let ttl = lock_ttl(&t, TTL);
    // It lives all the while, in the runtime that goes on, and with it whatever it shares with the
    // locks of other runtimes.
    let stays = match has_locks {
        true => Some(t.soon("a free lock", kv.new_lock("stays").ttl(ttl).acquire()).await??),
        false => None,
    };
    // The handle itself comes second: what it does could be what frees the locks.
    for (kind, next) in kinds().into_iter().zip([&other, &kv]) {
        let theirs = match has_locks {
            true => Some(t.soon("a free lock", other.new_lock("waited").acquire()).await??),
            false => None,
        };
        let (there, dropping) = (t.clone(), kv.clone());
        in_a_runtime_of(kind, move || drop_all(there, dropping)).await?;
        let ended = Stopwatch::start();
        if let Some(theirs) = theirs {
            holds("who else holds a lock keeps it", theirs.release().await?)?;
        }
        tokio::try_join!(
            comes(&t, next, "held", &ended),
            comes(&t, next, "waited", &ended),
            goes(&t, &other, &ended)
        )?;
    }
    if let Some(stays) = stays {
        still_held("the lock of the runtime that goes on", &stays)?;
        holds("it was held until it was released", stays.release().await?)?;
    }
    kv.close().await?;
    Ok(Ended::Kept)
}

pub(super) async fn closed(t: Trial) -> Verdict {
    // The TTLs are far longer than the case waits.
    const LONG: Duration = Duration::from_secs(60);
    let has_locks = t.capabilities().lock.is_some();
    if !has_locks && t.capabilities().lease.is_none() {
        return Ended::ignored("nothing is held: no leases, no locks");
    }
    let other = t.open().await?;
    for kind in kinds() {
        let kv = t.open().await?;
        let (there, dropping) = (t.clone(), kv.clone());
        in_a_runtime_of(kind, move || async move {
            let lease = match lease_ttl(&there, LONG) {
                Some((ttl, _)) => Some(leased(&dropping, ttl).await?),
                None => None,
            };
            let mut guard = None;
            if there.capabilities().lock.is_some() {
                let lock = dropping.new_lock("l").ttl(lock_ttl(&there, LONG));
                guard = Some(there.soon("a free lock", lock.acquire()).await??);
            }
            drop((lease, guard));
            Ok(())
        })
        .await?;
        t.note("`close`");
        let closed = kv.close().await;
        holds(format!("`close` gives everything back; it said {closed:?}"), closed.is_ok())?;
        let left = other.get("member").await?.map(|entry| entry.key);
        same("what `close` left of a lease", left, None)?;
        if has_locks {
            let holder = other.lock_holder("l").await?.map(|holder| holder.token);
            same("who holds the lock after `close`", holder, None)?;
        }
    }
    Ok(Ended::Kept)
}
