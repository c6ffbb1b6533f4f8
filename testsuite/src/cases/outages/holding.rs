//! Locks, leases and versions in an outage.

use super::*;
use crate::{
    cases::locks::{lock_ttl, take, waits_in_line},
    check::{holds, refused, same, still_held},
    lateness::{Stopwatch, Took},
};
use kv_core::{Guard, TtlRange, driver::Deadline};
use std::time::Instant;
use tokio::task::JoinSet;

/// Runs the case where there are locks, and a network.
pub(super) async fn locked<F>(t: Trial, case: impl FnOnce(Trial, Linked) -> F) -> Verdict
where
    F: Future<Output = Result<(), Failure>>,
{
    if t.capabilities().lock.is_none() {
        return Ended::ignored("no locks");
    }
    linked(t, case).await
}

fn locks_late(t: &Trial, ttl: Duration) -> Duration {
    t.capabilities().lock.as_ref().map_or(ttl, |locking| locking.ttl.lateness(ttl))
}

/// Cuts the link for two fifths of the TTL, right after a renewal or something else of this client
/// was answered: the next renewal fails, and the one after it has time.
async fn short_cut(t: &Trial, proxy: &Proxy, ttl: Duration) -> Result<(), Failure> {
    let before = proxy.traffic().to_client;
    t.within(ttl + t.patience(), "the answer to a renewal", proxy.answered_beyond(before)).await?;
    proxy.cut().await;
    // A renewal falls due after a third of the TTL, on a busy machine a little later.
    tokio::time::sleep(ttl.mul_f64(0.4)).await;
    proxy.heal().await;
    Ok(())
}

pub(super) async fn one_failure(t: Trial) -> Verdict {
    locked(t, async |t, link| {
        let ttl = lock_ttl(&t, Duration::from_secs(12));
        let guard = link.kv.new_lock("l").ttl(ttl).deadline(PATIENT).acquire().await?;
        let lost = guard.lost();
        let kept = async {
            short_cut(&t, &link.proxy, ttl).await?;
            // By then the lock would be lost, were it not renewed since.
            tokio::time::sleep(ttl).await;
            Ok::<_, Failure>(())
        };
        tokio::select! {
            lost = lost => return Err(format!("a renewal that failed lost the lock: {lost:?}").into()),
            kept = kept => kept?,
        }
        still_held("a renewal that failed is no loss", &guard)?;
        let holder = link.direct.lock_holder("l").await?.map(|holder| holder.token);
        same("the holder after a renewal that failed", holder, Some(guard.token()))?;
        // It is given back while there is a link, and does not stay for its TTL.
        Ok(link.kv.clone().with_deadline(PATIENT).close().await?)
    })
    .await
}

/// A holder that was cut off, and the contender that got the lock then.
struct Replaced {
    ttl: Duration,
    first: Guard,
    /// `first.is_held()` at the moment at which the second had got the lock.
    both: bool,
    second: Guard,
    /// The time from the cut to the second's acquisition.
    took: Took,
}

async fn replaced(t: &Trial, link: &Linked) -> Result<Replaced, Failure> {
    let ttl = lock_ttl(t, Duration::from_millis(1500));
    let first = link.kv.new_lock("l").ttl(ttl).deadline(PATIENT).acquire().await?;
    // The second one is held for the rest of the case.
    let waiting = link.direct.new_lock("l").ttl(lock_ttl(t, Duration::from_secs(15))).acquire();
    link.proxy.cut().await;
    let cut = Stopwatch::start();
    let what = "the lock of a holder who was cut off";
    let second = t.within(ttl + locks_late(t, ttl) + t.patience(), what, waiting).await??;
    let (both, took) = (first.is_held(), cut.took());
    Ok(Replaced { ttl, first, both, second, took })
}

pub(super) async fn exclusive_cut_off(t: Trial) -> Verdict {
    locked(t, async |t, link| {
        let Replaced { both, .. } = replaced(&t, &link).await?;
        holds("the first holder knows of its loss when the second has the lock", !both)
    })
    .await
}

pub(super) async fn freed_cut_off(t: Trial) -> Verdict {
    locked(t, async |t, link| {
        let Replaced { ttl, took, .. } = replaced(&t, &link).await?;
        let most = ttl + locks_late(&t, ttl) + SLACK;
        took.at_most("the lock of a holder who was cut off", most)
    })
    .await
}

pub(super) async fn freed_when_lost(t: Trial) -> Verdict {
    locked(t, async |t, link| {
        let ttl = lock_ttl(&t, Duration::from_secs(2));
        let guard = link.kv.new_lock("l").ttl(ttl).deadline(PATIENT).acquire().await?;
        let before = link.proxy.traffic().to_client;
        let renewed = link.proxy.answered_beyond(before);
        t.within(ttl + t.patience(), "the answer to a renewal", renewed).await?;
        link.proxy.freeze();
        t.within(ttl + t.patience(), "the loss of the lock", guard.lost()).await?;
        // The client must not go on to keep the lock alive on the server now.
        link.proxy.thaw();
        let most = ttl + locks_late(&t, ttl) + t.patience();
        let second = link.direct.new_lock("l").ttl(ttl).acquire_within(most).await?;
        let second = second.ok_or_else(|| format!("not free within {most:?} of the loss"))?;
        holds("the token grows over a loss", second.token() > guard.token())
    })
    .await
}

pub(super) async fn fenced_cut_off(t: Trial) -> Verdict {
    if t.capabilities().lock.as_ref().is_some_and(|locking| !locking.fenced_writes) {
        return Ended::ignored("no writes that depend on a lock");
    }
    locked(t, async |t, link| {
        let Replaced { first, second, .. } = replaced(&t, &link).await?;
        let Linked { kv, proxy, direct } = &link;
        holds("the token grows over a loss", second.token() > first.token())?;
        let late = direct.put("d/a", "late").fenced(&first).await;
        refused("a fenced put of a holder who was replaced", late, ErrorKind::LockLost)?;
        proxy.heal().await;
        t.until("reads to succeed again", || async { Ok(kv.get("d/a").await.is_ok()) }).await?;
        let late = kv.put("d/a", "late").fenced(&first).deadline(PATIENT).await;
        refused("the same when its link is whole again", late, ErrorKind::LockLost)?;
        direct.put("d/a", "now").fenced(&second).await?;
        same("what is written", direct.get("d/a").await?.as_ref().and_then(|e| e.text()), Some("now"))
    })
    .await
}

pub(super) async fn late_release(t: Trial) -> Verdict {
    locked(t, async |t, link| {
        let Replaced { first, second, .. } = replaced(&t, &link).await?;
        let Linked { kv, proxy, direct } = &link;
        proxy.heal().await;
        t.until("reads to succeed again", || async { Ok(kv.get("d/a").await.is_ok()) }).await?;
        same("whether a release after the loss released it", first.release().await?, false)?;
        let holder = direct.lock_holder("l").await?.map(|holder| holder.token);
        same("the holder after the other's late release", holder, Some(second.token()))?;
        holds("who got it holds it", second.release().await?)
    })
    .await
}

pub(super) async fn exclusive_restart(t: Trial) -> Verdict {
    if t.capabilities().lock.is_none() {
        return Ended::ignored("no locks");
    }
    served(t, async |t, server, kv| {
        let ttl = lock_ttl(&t, Duration::from_secs(2));
        let guard = kv.new_lock("l").ttl(ttl).deadline(PATIENT).acquire().await?;
        server.stop().await;
        server.start().await;
        let other = t.open().await?;
        let began = Instant::now();
        // A lock that was lost meanwhile may be free as late as that of a holder that died.
        let late = ttl + locks_late(&t, ttl) + t.patience();
        while began.elapsed() < if guard.is_held() { ttl + ttl / 4 } else { late } {
            let got = match other.new_lock("l").ttl(ttl).try_acquire().await {
                Ok(got) => got,
                Err(e) if of_an_outage(&e) => None,
                Err(e) => return Err(e.into()),
            };
            if let Some(second) = got {
                holds("no two hold the lock after a restart", !(guard.is_held() && second.is_held()))?;
                return holds("the token grows over a restart", second.token() > guard.token());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        still_held("somebody holds the lock after a restart", &guard)
    })
    .await
}

pub(super) async fn token_restart(t: Trial) -> Verdict {
    if t.capabilities().lock.is_none() {
        return Ended::ignored("no locks");
    }
    served(t, async |t, server, kv| {
        let (kv, mut last) = (kv.with_deadline(PATIENT), 0);
        for _ in 0..2 {
            let guard = take(&t, &kv, "l").await?;
            holds(format!("the token {} is above the last, {last}", guard.token()), guard.token() > last)?;
            last = guard.token();
            guard.release().await?;
            server.stop().await;
            server.start().await;
            t.until("reads to succeed again", || async { Ok(kv.get("d/a").await.is_ok()) }).await?;
        }
        let other = take(&t, &t.open().await?, "l").await?;
        holds(
            format!("a new client's token {} is above the last, {last}", other.token()),
            other.token() > last,
        )
    })
    .await
}

pub(super) async fn lost_acquisition(t: Trial) -> Verdict {
    locked(t, async |t, link| {
        let Linked { kv, proxy, direct } = &link;
        let ttl = lock_ttl(&t, Duration::from_secs(10));
        // A client's first lock may need more requests, which do not count here.
        kv.new_lock("warm").ttl(ttl).deadline(PATIENT).acquire().await?.release().await?;
        proxy.hold_answer_to("lost-lock");
        let mut waiting = JoinSet::new();
        waiting.spawn(kv.new_lock("lost-lock").ttl(ttl).acquire());
        t.soon("a request with the lock's name to pass the proxy", proxy.trapped()).await?;
        // The trapped request need not be the one that gets the lock.
        let held = || async { Ok(direct.lock_holder("lost-lock").await?.is_some()) };
        let _ = t.until_within(DEADLINE / 2, "the lock to be held", held).await;
        proxy.reset().await;
        proxy.heal().await;
        let answer =
            t.soon("the answer of an acquisition that lost its connection", waiting.join_next()).await?;
        match answer.ok_or("the acquisition was begun")?? {
            Ok(guard) => still_held("a lock that was got is held", &guard)?,
            Err(e) => holds(format!("the acquisition failed by the outage; found {e:?}"), of_an_outage(&e))?,
        }
        let (time, what) =
            (ttl + locks_late(&t, ttl) + SLACK, "the lock of an acquisition whose answer was lost");
        let watch = Stopwatch::start();
        let next = direct.new_lock("lost-lock").ttl(ttl).acquire();
        let next = t.within(time + t.patience(), what, next).await??;
        watch.took().at_most(what, time)?;
        next.release().await?;
        Ok(())
    })
    .await
}

pub(super) async fn lost_place(t: Trial) -> Verdict {
    locked(t, async |t, link| {
        let Linked { kv, proxy, direct } = &link;
        for _ in 0..3 {
            let guard = take(&t, direct, "l").await?;
            let mut waiting = JoinSet::new();
            waiting.spawn(kv.new_lock("l").deadline(Duration::from_secs(5)).acquire());
            waits_in_line(&t, kv, "l", 1).await?;
            proxy.reset().await;
            kv.lock_holder("l").deadline(PATIENT).await?;
            guard.release().await?;
            let got =
                t.soon("a waiter whose connection was lost to get the lock", waiting.join_next()).await?;
            got.ok_or("the wait was begun")???.release().await?;
        }
        Ok(())
    })
    .await
}

/// Runs the case where there are leases, and a network.
async fn leased<F>(t: Trial, case: impl FnOnce(Trial, Linked, TtlRange) -> F) -> Verdict
where
    F: Future<Output = Result<(), Failure>>,
{
    let Some(range) = t.capabilities().lease.clone() else { return Ended::ignored("no leases") };
    linked(t, |t, link| case(t, link, range)).await
}

pub(super) async fn lease_short_cut(t: Trial) -> Verdict {
    leased(t, async |t, link, range| {
        let ttl = range.grant(Duration::from_secs(12))?;
        let lease = link.kv.lease(ttl).deadline(PATIENT).await?;
        let version = link.kv.put("d/a", "").lease(&lease).deadline(PATIENT).await?.version;
        short_cut(&t, &link.proxy, ttl).await?;
        tokio::time::sleep(ttl).await;
        still_held("a cut shorter than its TTL does not end a lease", &lease)?;
        let found = link.direct.get("d/a").await?.map(|entry| entry.version);
        same("the version of a key of the lease", found, Some(version))?;
        Ok(link.kv.clone().with_deadline(PATIENT).close().await?)
    })
    .await
}

/// Runs with the default deadline, and without another call that could find out what became of the
/// connection.
pub(super) async fn dead_link(t: Trial) -> Verdict {
    leased(t, async |t, link, range| {
        let kv = link.kv.with_deadline(Deadline::DEFAULT);
        let ttl = range.grant(Duration::from_secs(5))?;
        let lease = kv.lease(ttl).await?;
        let version = kv.put("d/a", "").lease(&lease).await?.version;
        let guard = match t.capabilities().lock {
            Some(_) => Some(kv.new_lock("l").ttl(lock_ttl(&t, ttl)).acquire().await?),
            None => None,
        };
        link.proxy.strand();
        tokio::time::sleep(guard.as_ref().map_or(ttl, |guard| guard.ttl().max(ttl)) * 3 / 2).await;
        still_held("a lease whose connection went silent", &lease)?;
        let found = link.direct.get("d/a").await?.map(|entry| entry.version);
        same("the version of a key of the lease", found, Some(version))?;
        guard.map_or(Ok(()), |guard| still_held("a lock whose connection went silent", &guard))
    })
    .await
}

/// The deadline of a handle is that of its calls, and of no renewal.
pub(super) async fn short_deadline(t: Trial) -> Verdict {
    leased(t, async |t, link, range| {
        let (kv, way) = (link.kv.with_deadline(Duration::from_millis(150)), Duration::from_millis(100));
        let ttl = range.grant(Duration::from_secs(6))?;
        let lease = loop {
            match kv.lease(ttl).await {
                Err(e) if of_an_outage(&e) => {} // the machine is busy
                lease => break lease?,
            }
        };
        let guard = match t.capabilities().lock {
            Some(_) => Some(kv.new_lock("l").ttl(lock_ttl(&t, ttl)).acquire().await?),
            None => None,
        };
        link.proxy.delay(way);
        tokio::time::sleep(guard.as_ref().map_or(ttl, |guard| guard.ttl().max(ttl)) * 3 / 2).await;
        still_held("a lease over a link that is slower than its handle waits", &lease)?;
        guard.map_or(Ok(()), |guard| {
            still_held("a lock over a link that is slower than its handle waits", &guard)
        })
    })
    .await
}

/// Cuts the link until the client has noticed it, and heals it.
async fn cut_and_heal(kv: &Kv, proxy: &Proxy) -> Result<(), Failure> {
    proxy.cut().await;
    let asked = kv.get("up").deadline(Duration::from_millis(400)).await;
    holds("a read behind a cut fails", asked.is_err())?;
    proxy.heal().await;
    Ok(())
}

pub(super) async fn ended_after_cut(t: Trial) -> Verdict {
    leased(t, async |t, link, range| {
        let Linked { kv, proxy, direct } = link;
        let (kv, ttl) = (kv.with_deadline(PATIENT), range.grant(Duration::from_secs(20))?);
        for _ in 0..3 {
            let lease = kv.lease(ttl).await?;
            kv.put("d/a", "").lease(&lease).await?;
            let guard = match t.capabilities().lock {
                Some(_) => Some(kv.new_lock("l").ttl(lock_ttl(&t, ttl)).acquire().await?),
                None => None,
            };
            cut_and_heal(&kv, &proxy).await?;
            holds("a lease that was held is revoked", lease.revoke().await?)?;
            holds("the keys of a lease that was revoked are gone", !direct.exists("d/a").await?)?;
            if let Some(guard) = guard {
                cut_and_heal(&kv, &proxy).await?;
                holds("a lock that was held is released", guard.release().await?)?;
                same("the holder of a lock that was released", direct.lock_holder("l").await?, None)?;
            }
        }
        Ok(())
    })
    .await
}

pub(super) async fn lease_cut_off(t: Trial) -> Verdict {
    leased(t, async |t, link, range| {
        let Linked { kv, proxy, direct } = &link;
        let ttl = range.grant(Duration::from_secs(8))?;
        let lease = kv.lease(ttl).deadline(PATIENT).await?;
        kv.put("d/a", "").lease(&lease).deadline(PATIENT).await?;
        let lost = lease.lost();
        proxy.cut().await;
        let watch = Stopwatch::start();
        let known = ttl - ttl / 10 + Duration::from_millis(250) + SLACK;
        let what = "the loss of a lease that is cut off";
        let lost = t.within(known + t.patience(), what, lost).await?;
        watch.took().at_most(what, known)?;
        same("the kind of the loss", lost.kind(), ErrorKind::LeaseLost)?;
        holds("a lease that was lost is not alive", !lease.is_held())?;
        let (goes, what) = (ttl + range.lateness(ttl) + SLACK, "the end of the keys of a lost lease");
        let gone = || async { Ok(!direct.exists("d/a").await?) };
        t.until_within(goes + t.patience(), what, gone).await?;
        watch.took().at_most(what, goes)?;
        proxy.heal().await;
        t.until("reads to succeed again", || async { Ok(kv.get("d/a").await.is_ok()) }).await?;
        let late = kv.put("d/b", "").lease(&lease).deadline(PATIENT).await;
        refused("a put under a lost lease", late, ErrorKind::LeaseLost)?;
        same("what is there of a lost lease", direct.list("d").await?, vec![])
    })
    .await
}

pub(super) async fn versions_restart(t: Trial) -> Verdict {
    served(t, async |t, server, kv| {
        let kv = kv.with_deadline(PATIENT);
        let kv = kv.with_deadline(PATIENT);
        let stale = kv.put("d/a", "old").await?.version;
        let now = kv.put("d/a", "new").await?.version;
        let gone = kv.put("d/gone", "").await?.version;
        kv.delete("d/gone").await?;
        server.stop().await;
        server.start().await;
        t.until("reads to succeed again", || async { Ok(kv.get("d/a").await.is_ok()) }).await?;
        let found = kv.get("d/a").await?.map(|entry| (entry.value, entry.version));
        same("value and version after a restart", found, Some(("new".into(), now)))?;
        same("a deleted key after a restart", kv.get("d/gone").await?, None)?;
        let modified = ErrorKind::KeyModified;
        refused("a put at a stale version", kv.put("d/a", "").if_version(stale).await, modified)?;
        let next = kv.put("d/a", "newer").if_version(now).await?.version;
        holds(format!("the version goes up over a restart: {next:?} after {now:?}"), next > now)?;
        let anew = kv.put("d/gone", "anew").await?.version;
        holds(
            format!("the version goes up over deletion and restart: {anew:?} after {gone:?}"),
            anew > gone,
        )?;
        refused(
            "a put at the version before the deletion",
            kv.atomic_put("d/gone", "", gone).await,
            modified,
        )?;
        let parsed: Version = now.to_string().parse()?;
        same("a version that was printed and parsed", parsed, now)
    })
    .await
}
