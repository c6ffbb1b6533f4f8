//! Handles that outlive a runtime, be it that of a part of a program, or of a test that shared a
//! handle.

use crate::{
    Ended, Failure, Trial, Verdict,
    cases::{
        locks::{lock_ttl, waits_in_line},
        watches::Follower,
    },
    check::{holds, same, still_held},
    lateness::Stopwatch,
};
use kv_core::{Guard, Kv, Lease, WatchEvent, Watching};
use std::{future::Future, pin::pin, time::Duration};
use tokio::{runtime::Builder, sync::oneshot, time::timeout};

/// The TTL of what goes on to the next runtime. Who is woken two seconds late loses nothing within it.
const TTL: Duration = Duration::from_secs(6);

/// Runs the work on a runtime of its own, which ends, with all tasks that the work leaves, before
/// the answer is returned.
pub(super) async fn in_a_runtime_that_ends<T, W, F>(work: W) -> Result<T, Failure>
where
    T: Send + 'static,
    W: FnOnce() -> F + Send + 'static,
    F: Future<Output = Result<T, Failure>>,
{
    in_a_runtime_of(Builder::new_current_thread, work).await
}

/// Does the same on a runtime of this kind.
pub(super) async fn in_a_runtime_of<T, W, F>(kind: fn() -> Builder, work: W) -> Result<T, Failure>
where
    T: Send + 'static,
    W: FnOnce() -> F + Send + 'static,
    F: Future<Output = Result<T, Failure>>,
{
    let (told, answer) = oneshot::channel();
    std::thread::spawn(move || {
        let runtime = kind().enable_all().build();
        let done = runtime.map_err(Failure::from).and_then(|runtime| {
            let done = runtime.block_on(work());
            drop(runtime);
            done
        });
        // The case may have been given up.
        let _ = told.send(done);
    });
    answer.await.map_err(|_| "what ran in the other runtime panicked")?
}

/// A lock and a lease that are taken in one runtime, and go on to the next.
pub(super) struct Held {
    guard: Option<Guard>,
    lease: Option<Lease>,
}

/// Uses every part of a handle, and checks that it works.
pub(super) async fn use_all(t: &Trial, kv: &Kv, turn: &str) -> Result<Held, Failure> {
    let (c, other) = (t.capabilities(), t.open().await?);
    let key = format!("d/{turn}");
    kv.put(&key, turn).await.map_err(|e| format!("a put, {turn}: {e}"))?;
    same(format!("a get, {turn}"), kv.get(&key).await?.as_ref().and_then(|e| e.text()), Some(turn))?;
    holds(format!("a listing, {turn}"), kv.list("d").await?.iter().any(|entry| entry.key.as_str() == key))?;
    if c.watch != Watching::Unsupported {
        let mut tree = Follower::of_tree(t, kv, "d").await.map_err(|e| format!("{turn}: {e}"))?;
        let mut single = Follower::of_key(t, kv, &key).await.map_err(|e| format!("{turn}: {e}"))?;
        let version = other.put(&key, "changed").await?.version;
        tree.told(&key, version).await.map_err(|e| format!("{turn}: {e}"))?;
        single.told(&key, version).await.map_err(|e| format!("{turn}: {e}"))?;
    }
    let guard = match c.lock {
        Some(_) => Some(locked(t, kv, &other, turn).await?),
        None => None,
    };
    let lease = match &c.lease {
        Some(range) => {
            let lease = kv.lease(range.grant(range.least.max(TTL).min(range.greatest))?);
            let lease = lease.await.map_err(|e| format!("a lease, {turn}: {e}"))?;
            kv.put(format!("leased/{turn}"), "").lease(&lease).await?;
            stays(&format!("a lease that was taken {turn}"), || lease.is_held(), lease.lost()).await?;
            Some(lease)
        }
        None => None,
    };
    other.close().await?;
    Ok(Held { guard, lease })
}

/// Checks that something is held, and that `lost()` says so too.
async fn stays<T: std::fmt::Debug>(
    what: &str,
    is_held: impl Fn() -> bool,
    lost: impl Future<Output = T>,
) -> Result<(), Failure> {
    let lost = timeout(Duration::from_millis(300), lost).await;
    let held = is_held();
    holds(format!("{what} is held; `is_held()` is {held}, `lost()` gave {lost:?}"), held && lost.is_err())
}

/// Checks that `is_held()` and `lost()` say the same.
async fn agree(
    what: &str,
    is_held: impl Fn() -> bool,
    lost: impl Future<Output = kv_core::Error>,
) -> Result<(), Failure> {
    let mut lost = pin!(lost);
    let mut told = timeout(Duration::from_millis(300), lost.as_mut()).await.ok();
    let is_held = is_held();
    if told.is_none() && !is_held {
        // Its time may have ended just before the second look.
        told = timeout(Duration::from_secs(1), lost.as_mut()).await.ok();
    }
    let lost = told.map(|e| e.to_string());
    let both = format!("`is_held()` is {is_held}, `lost()` gave {lost:?}");
    holds(
        format!("{what} of a runtime that ended is held, or known to be lost: {both}"),
        is_held == lost.is_none(),
    )
}

/// Checks that a release wakes a wait in line, and returns a lock that is held and renewed.
async fn locked(t: &Trial, kv: &Kv, other: &Kv, turn: &str) -> Result<Guard, Failure> {
    // A lock that a runtime leaves on the server when it ends goes after one of these.
    let (ttl, long) = (lock_ttl(t, TTL), lock_ttl(t, Duration::from_secs(15)));
    let name = format!("l/{turn}");
    let theirs = t.soon("a free lock", other.new_lock(&name).ttl(long).acquire());
    let theirs = theirs.await??;
    let waiting = tokio::spawn(kv.new_lock(&name).ttl(long).acquire());
    waits_in_line(t, kv, &name, 1).await?;
    let watch = Stopwatch::start();
    theirs.release().await?;
    let woken = t.soon("a waiter to be woken by a release", waiting).await;
    let guard = woken.map_err(|e| format!("{turn}: {e}"))???;
    // The release must wake the waiter, not a read at its next renewal, five seconds away.
    let in_time = watch.took().at_most("the turn of a waiter behind a release", Duration::from_secs(4));
    in_time.map_err(|e| format!("{turn}: {e}"))?;
    guard.release().await?;
    let guard = t.soon("a free lock", kv.new_lock("held").ttl(ttl).acquire()).await;
    let guard = guard.map_err(|e| format!("{turn}: {e}"))??;
    stays(&format!("a lock that was taken {turn}"), || guard.is_held(), guard.lost()).await?;
    if t.capabilities().watch != Watching::Unsupported {
        let watch = kv.lock_holder("held").watch();
        let mut holder = Follower::new(t, "a watch of a lock's holder", watch).await?;
        let first = holder.next().await.map_err(|e| format!("{turn}: {e}"))?;
        let fine = matches!(&first, WatchEvent::Put(entry) if entry.version.parts().0 == guard.token());
        holds(format!("a watch of the holder tells of it, {turn}; found {first:?}"), fine)?;
    }
    Ok(guard)
}

/// Checks that the lock and the lease are still held after their TTLs, and gives them back.
pub(super) async fn kept(t: &Trial, held: Held) -> Result<(), Failure> {
    let ranges =
        [t.capabilities().lock.as_ref().map(|locking| &locking.ttl), t.capabilities().lease.as_ref()];
    let longest = ranges.into_iter().flatten().filter_map(|range| {
        let ttl = range.grant(range.least.max(TTL).min(range.greatest)).ok()?;
        Some(ttl + ttl / 4)
    });
    t.note("more than the TTL of a lock and a lease");
    tokio::time::sleep(longest.max().unwrap_or_default()).await;
    if let Some(guard) = held.guard {
        still_held("a lock is renewed", &guard)?;
        holds("it was held until it was released", guard.release().await?)?;
    }
    if let Some(lease) = held.lease {
        still_held("a lease is renewed", &lease)?;
        holds("it was alive until it was revoked", lease.revoke().await?)?;
    }
    Ok(())
}

/// Gives back what was held in another runtime, and ignores the answers.
pub(super) async fn give_back(held: Held) {
    if let Some(guard) = held.guard {
        let _ = guard.release().await;
    }
    if let Some(lease) = held.lease {
        let _ = lease.revoke().await;
    }
}

pub(super) async fn opened(t: Trial) -> Verdict {
    let there = t.clone();
    let kv = in_a_runtime_that_ends(move || async move {
        let kv = there.open().await?;
        give_back(use_all(&there, &kv, "in the first").await?).await;
        Ok(kv)
    })
    .await?;
    // The second runtime has a thread of its own too, on which nothing is left of the first.
    let there = t.clone();
    in_a_runtime_that_ends(move || async move {
        let held = use_all(&there, &kv, "in the second").await?;
        kept(&there, held).await?;
        kv.close().await?;
        Ok(())
    })
    .await?;
    Ok(Ended::Kept)
}

pub(super) async fn first_used(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let (there, theirs) = (t.clone(), kv.clone());
    in_a_runtime_that_ends(move || async move {
        give_back(use_all(&there, &theirs, "in one that passes").await?).await;
        Ok(())
    })
    .await?;
    let held = use_all(&t, &kv, "in the one that stays").await?;
    kept(&t, held).await?;
    Ok(Ended::Kept)
}

pub(super) async fn held(t: Trial) -> Verdict {
    let c = t.capabilities();
    if c.lock.is_none() && c.lease.is_none() {
        return Ended::ignored("nothing is held: no leases, no locks");
    }
    let kv = t.open().await?;
    let (there, theirs) = (t.clone(), kv.clone());
    let held =
        in_a_runtime_that_ends(move || async move { use_all(&there, &theirs, "in one that ends").await })
            .await?;
    let Held { guard, lease } = held;
    if let Some(guard) = &guard {
        agree("a lock", || guard.is_held(), guard.lost()).await?;
    }
    if let Some(lease) = &lease {
        agree("a lease", || lease.is_held(), lease.lost()).await?;
    }
    give_back(Held { guard, lease }).await;
    // A lock and a lease that are taken anew are held, though the last ones were lost.
    let held = use_all(&t, &kv, "in the one that stays").await?;
    kept(&t, held).await?;
    Ok(Ended::Kept)
}
