//! Ends of locks: releases, waits that are given up, losses, `close`, holders that are killed.

use super::{in_line, lock_ttl, locking, take};
use crate::{
    Failure, Trial, Verdict,
    cases::{in_a_life_that_ends, polled_for_a_moment as polled},
    check::{holds, refused, same},
    lateness::{Stopwatch, Took},
};
use futures::FutureExt;
use kv_core::{ErrorKind, Guard, Kv, driver::Deadline};
use std::{
    future::pending,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Checks that nothing is left of earlier attempts: the lock is got within the default deadline,
/// and after its release nobody has it.
async fn is_free(t: &Trial, kv: &Kv, after: &str) -> Result<(), Failure> {
    t.note(format!("the lock to be free after {after}"));
    let got = kv.new_lock("l").acquire_within(Deadline::DEFAULT).await?;
    let guard = got.ok_or_else(|| format!("the lock is not free after {after}"))?;
    holds(format!("the lock is held after {after}"), guard.release().await?)?;
    // An attempt that was given up may still be on its way, and is undone when it arrives.
    let free = || async { Ok(kv.lock_holder("l").await?.is_none()) };
    t.until_within(Deadline::DEFAULT, &format!("nobody to hold the lock after {after}"), free).await
}

pub(super) async fn loss_by_close(t: Trial) -> Verdict {
    locking(t, async |t, kv| {
        let (first, second) = (take(&t, &kv, "l").await?, take(&t, &kv, "m").await?);
        let lost = first.lost();
        holds("a lock that was got is held", first.is_held() && second.is_held())?;
        let closing = kv.close();
        let mut closing = pin!(closing);
        // Polled once, `close` has begun.
        let begun = closing.as_mut().now_or_never();
        holds("no lock is held once `close` has begun", !first.is_held() && !second.is_held())?;
        if let Some(done) = begun { done } else { closing.await }?;
        let lost = t.soon("`lost()` after `close`", lost).await?;
        same("the reason of the loss", lost.kind(), ErrorKind::Closed)?;
        let again = t.soon("`lost()` that is asked after `close`", first.lost()).await?;
        same("the reason of the loss, asked later", again.kind(), ErrorKind::Closed)?;
        same("whether a release after `close` released it", first.release().await?, false)?;
        is_free(&t, &t.open().await?, "`close` of its holder").await
    })
    .await
}

pub(super) async fn lost_owns_nothing(t: Trial) -> Verdict {
    locking(t, async |t, kv| {
        let guard = take(&t, &kv, "l").await?;
        let (lost, second) = (guard.lost(), guard.lost());
        drop(guard);
        is_free(&t, &t.open().await?, "its guard was dropped and `lost()` was not").await?;
        t.soon("`lost()` after the guard was dropped", lost).await?;
        drop(kv);
        t.soon("`lost()` after guard and handle were dropped", second).await?;
        Ok(())
    })
    .await
}

/// Sets its flag when it is dropped.
struct Bell(Arc<AtomicBool>);

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

pub(super) async fn while_held(t: Trial) -> Verdict {
    locking(t, async |t, kv| {
        let guard = take(&t, &kv, "l").await?;
        same(
            "the answer of work under the lock",
            guard.while_held(async { Ok::<_, kv_core::Error>(42) }).await?,
            42,
        )?;
        let dropped = Arc::new(AtomicBool::new(false));
        let bell = Bell(dropped.clone());
        let work = guard.while_held(async move {
            let _bell = bell;
            pending::<kv_core::Result<()>>().await
        });
        let mut work = pin!(work);
        holds("work under the lock goes on while it is held", work.as_mut().now_or_never().is_none())?;
        kv.close().await?;
        let ended = t.soon("work under the lock to end at the loss", work).await?;
        refused("the answer of work that the loss ended", ended, ErrorKind::Closed)?;
        holds("the work is dropped at the loss", dropped.load(Ordering::SeqCst))
    })
    .await
}

pub(super) async fn cancelled_when_free(t: Trial) -> Verdict {
    locking(t, async |t, kv| {
        let other = t.open().await?;
        for times in 0..16 {
            drop(polled(kv.new_lock("l").acquire(), times).await.transpose()?);
            is_free(&t, &other, &format!("an acquire was dropped after {times} polls")).await?;
            drop(polled(kv.new_lock("l").try_acquire(), times).await.transpose()?);
            is_free(&t, &other, &format!("a try_acquire was dropped after {times} polls")).await?;
        }
        Ok(())
    })
    .await
}

pub(super) async fn cancelled_in_line(t: Trial) -> Verdict {
    locking(t, async |t, kv| {
        let (holder, other) = (t.open().await?, t.open().await?);
        for times in 0..12 {
            let guard = take(&t, &holder, "l").await?;
            let got = polled(kv.new_lock("l").acquire(), times).await.transpose()?;
            holds("a lock that is held is not got", got.is_none())?;
            guard.release().await?;
            is_free(&t, &other, &format!("a waiter was dropped after {times} polls")).await?;
        }
        // These waiters are dropped at the moment at which the lock is handed over to them.
        for _ in 0..5 {
            let guard = take(&t, &holder, "l").await?;
            let mut waiting = kv.new_lock("l").acquire().boxed();
            in_line(&t, &kv, ("l", 1), &mut waiting).await?;
            let (released, got) = tokio::join!(guard.release(), polled(waiting, 3));
            released?;
            drop(got.transpose()?);
            is_free(&t, &other, "a waiter was dropped while it was its turn").await?;
        }
        Ok(())
    })
    .await
}

pub(super) async fn cancelled_beside_calls(t: Trial) -> Verdict {
    locking(t, async |t, kv| {
        let other = t.open().await?;
        for n in 0..36_u32 {
            // A call that is cut off may have its connection given up, by which the acquisition was
            // sent; what undoes the acquisition must not come before it by another connection.
            let brief = Duration::from_micros(20 * u64::from(n));
            let cut_off = kv.get("k").deadline(brief).into_future();
            let acquisition = polled(kv.new_lock("l").acquire(), usize::try_from(n % 9)?);
            let (read, got) = tokio::join!(cut_off, acquisition);
            drop(got.transpose()?);
            if let Err(e) = read
                && !e.is_transient()
            {
                return Err(e.into());
            }
            is_free(&t, &other, "an acquire was dropped beside a read that was cut off").await?;
        }
        Ok(())
    })
    .await
}

pub(super) async fn aborted(t: Trial) -> Verdict {
    locking(t, async |t, kv| {
        let mut tasks = JoinSet::new();
        for n in 0..32 {
            let lock = kv.new_lock("l");
            let task = tasks.spawn(async move { lock.acquire().await.map(drop) });
            for _ in 0..n % 5 {
                tokio::task::yield_now().await;
            }
            task.abort();
        }
        while let Some(ended) = tasks.join_next().await {
            // Some tasks had ended before they were aborted.
            if let Ok(done) = ended {
                done?;
            }
        }
        is_free(&t, &t.open().await?, "tasks were aborted that acquired it").await
    })
    .await
}

pub(super) async fn given_up(t: Trial) -> Verdict {
    locking(t, async |t, kv| {
        let other = t.open().await?;
        for wait in [0, 1, 20, 100] {
            let guard = take(&t, &other, "l").await?;
            let wait = Duration::from_millis(wait);
            let waiting = kv.new_lock("l").acquire_within(wait);
            let got = t.within(wait + Deadline::DEFAULT, "acquire_within to give up", waiting).await??;
            holds("a lock that is held is not got", got.is_none())?;
            guard.release().await?;
            is_free(&t, &other, &format!("acquire_within gave up after {wait:?}")).await?;
        }
        let got = kv.new_lock("l").acquire_within(t.patience()).await?;
        holds("acquire_within gets a free lock", got.is_some())
    })
    .await
}

pub(super) async fn tried(t: Trial) -> Verdict {
    locking(t, async |t, kv| {
        let other = t.open().await?;
        let guard = take(&t, &other, "l").await?;
        for _ in 0..5 {
            holds("a held lock is not got", kv.new_lock("l").try_acquire().await?.is_none())?;
        }
        guard.release().await?;
        same("the holder after tries and a release", other.lock_holder("l").await?, None)?;
        let got = other.new_lock("l").try_acquire().await?;
        holds("a try gets a lock that only tries had asked for", got.is_some())
    })
    .await
}

pub(super) async fn dropped_guard(t: Trial) -> Verdict {
    locking(t, async |t, kv| {
        let other = t.open().await?;
        for _ in 0..5 {
            drop(take(&t, &kv, "l").await?);
            is_free(&t, &other, "its guard was dropped").await?;
        }
        let guard = take(&t, &kv, "l").await?;
        let mut waiting = other.new_lock("l").acquire().boxed();
        in_line(&t, &other, ("l", 1), &mut waiting).await?;
        drop(guard);
        let what = "a waiter to get the lock of a dropped guard";
        holds("the waiter holds it", t.within(Deadline::DEFAULT, what, waiting).await??.is_held())
    })
    .await
}

pub(super) async fn released(t: Trial) -> Verdict {
    locking(t, async |t, kv| {
        let other = t.open().await?;
        for n in 0..10 {
            let (holder, next) = if n % 2 == 0 { (&kv, &other) } else { (&other, &kv) };
            let guard = take(&t, holder, "l").await?;
            holds("`release` says that it was held", guard.release().await?)?;
            let got = next.new_lock("l").try_acquire().await?;
            let guard = got.ok_or("the lock is not free at once after its release")?;
            holds("`release` says that it was held", guard.release().await?)?;
        }
        Ok(())
    })
    .await
}

/// The times after which another got the lock of a holder that was killed.
struct Orphaned {
    ttl: Duration,
    /// The time from just before the lock was asked for until another got it.
    since_asked: Duration,
    /// The time from the holder's end until another got the lock.
    since_killed: Took,
}

async fn orphaned(t: &Trial) -> Result<Orphaned, Failure> {
    let ttl = lock_ttl(t, Duration::from_secs(1));
    let other = t.open().await?;
    let life = in_a_life_that_ends(t, move |kv: Kv| async move {
        let asked = Instant::now();
        let guard: Guard = kv.new_lock("l").ttl(ttl).acquire().await?;
        let token = guard.token();
        // A killed process gives nothing back.
        std::mem::forget(guard);
        Ok((asked, token))
    });
    let (asked, token) = life.await?;
    let killed = Stopwatch::start();
    let lateness = t.capabilities().lock.as_ref().map_or(ttl, |locking| locking.ttl.lateness(ttl));
    let what = "the lock of a holder that was killed";
    let got = t.within(ttl + lateness + t.patience(), what, other.new_lock("l").ttl(ttl).acquire()).await??;
    holds("the token grows over the holder's end", got.token() > token)?;
    Ok(Orphaned { ttl, since_asked: asked.elapsed(), since_killed: killed.took() })
}

pub(super) async fn freed_in_time(t: Trial) -> Verdict {
    locking(t, async |t, _| {
        let Orphaned { ttl, since_killed, .. } = orphaned(&t).await?;
        let lateness = t.capabilities().lock.as_ref().map_or(ttl, |locking| locking.ttl.lateness(ttl));
        // One second is for this machine to run the waiter whose turn it is.
        let most = ttl + lateness + Duration::from_secs(1);
        since_killed.at_most("the lock of a holder that was killed", most)
    })
    .await
}

pub(super) async fn freed_not_early(t: Trial) -> Verdict {
    locking(t, async |t, _| {
        let Orphaned { ttl, since_asked, .. } = orphaned(&t).await?;
        // Clocks may differ by one percent.
        holds(
            format!("it is not free within {ttl:?}; it was after {since_asked:?}"),
            since_asked >= ttl.mul_f64(0.99),
        )
    })
    .await
}

pub(super) async fn ttl_range(t: Trial) -> Verdict {
    locking(t, async |t, kv| {
        let greatest = t.capabilities().lock.as_ref().map(|locking| locking.ttl.greatest);
        let above = greatest.and_then(|ttl| ttl.checked_add(Duration::from_secs(1)));
        for ttl in [Some(Duration::ZERO), above].into_iter().flatten() {
            let lock = kv.new_lock("l").ttl(ttl);
            refused(
                format!("acquire with a TTL of {ttl:?}"),
                lock.clone().acquire().await,
                ErrorKind::InvalidArgument,
            )?;
            refused(
                format!("try_acquire with a TTL of {ttl:?}"),
                lock.try_acquire().await,
                ErrorKind::InvalidArgument,
            )?;
        }
        kv.new_lock("l").ttl(Duration::from_millis(1)).acquire().await?.release().await?;
        Ok(())
    })
    .await
}

pub(super) async fn closed(t: Trial) -> Verdict {
    locking(t, async |t, kv| {
        let other = t.open().await?;
        let held = take(&t, &other, "l").await?;
        let mine = take(&t, &kv, "mine").await?;
        let mut waits = JoinSet::new();
        for _ in 0..4 {
            waits.spawn(kv.new_lock("l").acquire());
        }
        let mut waiting = kv.new_lock("l").acquire().boxed();
        in_line(&t, &kv, ("l", 5), &mut waiting).await?;
        kv.close().await?;
        let ended = t.soon("a wait for a lock to end at `close`", waiting).await?;
        refused("a wait for a lock at `close`", ended, ErrorKind::Closed)?;
        while let Some(ended) = t.soon("waits for a lock to end at `close`", waits.join_next()).await? {
            refused("a wait for a lock at `close`", ended?, ErrorKind::Closed)?;
        }
        refused("acquire after `close`", kv.new_lock("n").acquire().await, ErrorKind::Closed)?;
        refused("try_acquire after `close`", kv.new_lock("n").try_acquire().await, ErrorKind::Closed)?;
        holds("a guard is lost at `close`", !mine.is_held())?;
        let got = other.new_lock("mine").acquire_within(Deadline::DEFAULT).await?;
        holds("what was held is released at `close`", got.is_some())?;
        holds("who else holds a lock keeps it", held.release().await?)?;
        is_free(&t, &other, "`close` of those who waited for it").await
    })
    .await
}
