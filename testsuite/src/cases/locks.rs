//! Locks: one holder at a time, in order, fenced, read by others.

mod broken;
mod changed;
mod ends;
mod given_up;
mod listed;

use super::{
    put_all,
    watches::{Follower, all},
};
use crate::{
    Ended, Failure, Trial, Verdict,
    check::{holds, refused, refused_at, same, still_held},
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use kv_core::{Condition, ErrorKind, Guard, Kv, Version, WatchEvent};
use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::task::JoinSet;

cases! {
    "lock.exclusive/contenders": "of 64 contenders over several clients one holds the lock at a time" => contenders,
    "lock.exclusive/tries": "of many who try at once at most one gets the lock" => tries,
    "lock.exclusive/renewed": "a held lock is kept alive beyond its TTL, and nobody else gets it" => renewed,
    "lock.per_guard/same-handle": "a second acquisition waits, also within one task and handle; there is no re-entrancy" => same_handle,
    "lock.per_guard/names": "locks of different names do not know each other" => different_names,
    "lock.fenced/token": "the token grows with every acquisition, over clients too" => token,
    "lock.fenced/held": "writes that depend on the lock happen while it is held" => fenced_while_held,
    "lock.fenced/released": "writes that depend on a lock that was released are refused" => fenced_when_released,
    "lock.fenced/taken": "writes that depend on a lock that another holds now are refused" => fenced_when_taken,
    "lock.fenced/closed": "writes that depend on a lock whose handle was closed are refused with `LockLost`" => fenced_when_closed,
    "lock.known_loss/closed": "`close` loses the guards at once" => ends::loss_by_close,
    "lock.known_loss/owns-nothing": "`lost()` keeps no lock alive, and is ready when the guard is gone" => ends::lost_owns_nothing,
    "lock.known_loss/while-held": "`while_held` gives the work's answer, and drops the work at the loss" => ends::while_held,
    "lock.fair/order": "waiters get the lock in the order of asking" => fair_order,
    "lock.fair/try": "`try_acquire` overtakes no waiter" => fair_try,
    "lock.fair/one-woken": "a release wakes the one who is next in line, not all" => one_woken,
    "lock.cancel/free": "an acquisition of a free lock, dropped at any point, leaves nothing behind" => ends::cancelled_when_free,
    "lock.cancel/waiting": "an acquisition in line, dropped at any point, leaves nothing behind" => ends::cancelled_in_line,
    "lock.cancel/beside-calls": "an acquisition that is dropped while other calls are cut off leaves nothing behind" => ends::cancelled_beside_calls,
    "lock.cancel/aborted": "tasks that are aborted while they acquire leave nothing behind" => ends::aborted,
    "lock.cancel/within": "`acquire_within` gives up in time, and leaves nothing behind" => ends::given_up,
    "lock.cancel/try": "`try_acquire` leaves no contender behind" => ends::tried,
    "lock.cancel/beside_a_holder": "what was begun of acquisitions that were given up goes soon, also while another lock is held" => given_up::beside_a_holder,
    "lock.cancel/dropped-guard": "dropping the guard releases the lock" => ends::dropped_guard,
    "lock.cancel/released": "`release` says that it was held, and the lock is free at once" => ends::released,
    "lock.freed/killed": "a killed holder's lock is free within its TTL and lateness" => ends::freed_in_time,
    "lock.freed/not-early": "a killed holder's lock is not free before its TTL" => ends::freed_not_early,
    "lock.freed/ttl-range": "a TTL of nothing, or above the greatest, is `InvalidArgument`" => ends::ttl_range,
    "lock.value/read": "others read the holder's value and token, and nothing when nobody holds it" => value_read,
    "lock.value/watched": "others see the holder come and go: `Put` at the token, `Delete`" => value_watched,
    "lock.value/apart": "locks are apart from the data: neither listed nor deleted with it, and of the same names" => apart,
    "lock.set_value/read": "others read what the holder changes its value to, with its token and a count that grows" => changed::read,
    "lock.set_value/watched": "others see each change of the holder's value: a `Put`, at a version that grows" => changed::watched,
    "lock.set_value/lost": "who holds the lock no more changes nothing, also where it was acquired again" => changed::lost,
    "lock.set_value/kept": "a changed value stays while the lock is kept alive" => changed::kept,
    "lock.break/token": "who gives the holder's token ends its acquisition: others see it end, and the next in line gets the lock" => broken::token,
    "lock.break/other": "any other token ends nothing" => broken::other,
    "lock.break/lost": "the holder learns of it within the TTL, and what depends on its lock is refused at once" => broken::lost,
    "lock.list/held": "the locks below a directory that are held are listed, in order, with who holds them, and no others" => listed::held,
    "lock.list/waiters": "a lock is listed with the number of those who stand in line, where the server knows it" => listed::waiters,
    "lock.list/many": "of many locks each that is held all the time is listed once, while others come and go" => listed::many,
    "key.normalised/lock": "`/a//b/` and `a/b` are one lock" => normalised,
    "key.refused/lock": "names of locks follow the rules of keys" => bad_names,
    "close/locks": "`close` ends waits for locks with `Closed`, and releases what was held" => ends::closed,
}

/// Runs the case where there are locks; elsewhere sees that they are refused.
async fn locking<F>(t: Trial, case: impl FnOnce(Trial, Kv) -> F) -> Verdict
where
    F: Future<Output = Result<(), Failure>>,
{
    let kv = t.open().await?;
    if t.capabilities().lock.is_none() {
        refused("acquire without locks", kv.new_lock("l").acquire().await, ErrorKind::Unsupported)?;
        refused("try_acquire without locks", kv.new_lock("l").try_acquire().await, ErrorKind::Unsupported)?;
        refused("lock_holder without locks", kv.lock_holder("l").await, ErrorKind::Unsupported)?;
        return Ended::ignored("no locks");
    }
    case(t, kv).await?;
    Ok(Ended::Kept)
}

/// Runs the case where writes can depend on a lock; elsewhere sees that they are refused.
async fn fencing<F>(t: Trial, case: impl FnOnce(Trial, Kv) -> F) -> Verdict
where
    F: Future<Output = Result<(), Failure>>,
{
    if t.capabilities().lock.as_ref().is_none_or(|locking| locking.fenced_writes) {
        return locking(t, case).await;
    }
    let kv = t.open().await?;
    let guard = kv.new_lock("l").acquire().await?;
    refused("a fenced put without fences", kv.put("d/a", "").fenced(&guard).await, ErrorKind::Unsupported)?;
    refused("a fenced delete without fences", kv.delete("d/a").fenced(&guard).await, ErrorKind::Unsupported)?;
    Ended::ignored("no writes that depend on a lock")
}

/// Returns the shortest TTL that the server grants to locks and that is at least this long, or the
/// greatest, where that is shorter.
pub(super) fn lock_ttl(t: &Trial, at_least: Duration) -> Duration {
    let range = t.capabilities().lock.as_ref().map(|locking| &locking.ttl);
    range.and_then(|range| range.grant(at_least.min(range.greatest)).ok()).unwrap_or(at_least)
}

/// Gets a lock that is free, or soon will be.
pub(super) async fn take(t: &Trial, kv: &Kv, name: &str) -> Result<Guard, Failure> {
    Ok(t.soon(&format!("the lock {name:?}"), kv.new_lock(name).acquire()).await??)
}

/// A resource that one contender may use at a time: notes the fencing tokens of those who come in,
/// and faults.
#[derive(Default)]
struct Resource(Mutex<(usize, Vec<u64>, Vec<String>)>);

impl Resource {
    fn enter(&self, token: u64) {
        let (inside, tokens, faults) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *inside += 1;
        if *inside > 1 {
            faults.push(format!("token {token} came in while {:?} was inside", tokens.last()));
        }
        if tokens.last().is_some_and(|last| *last >= token) {
            faults.push(format!("token {token} came after {:?}", tokens.last()));
        }
        tokens.push(token);
    }

    fn leave(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 -= 1;
    }
}

async fn contenders(t: Trial) -> Verdict {
    locking(t, async |t, kv| {
        let clients = [kv, t.open().await?, t.open().await?, t.open().await?];
        let (resource, mut contenders) = (Arc::new(Resource::default()), JoinSet::new());
        for n in 0..64 {
            let (resource, kv) = (resource.clone(), clients[n % clients.len()].clone());
            contenders.spawn(async move {
                let guard = kv.new_lock("l").acquire().await?;
                resource.enter(guard.token());
                kv.get("d/a").await?;
                tokio::task::yield_now().await;
                resource.leave();
                guard.release().await
            });
        }
        let done = async {
            while let Some(done) = contenders.join_next().await {
                holds("the lock was held until it was released", done??)?;
            }
            Ok::<_, Failure>(())
        };
        t.within(t.patience() * 3, "64 contenders to have the lock in turn", done).await??;
        let (_, tokens, faults) = &*resource.0.lock().unwrap_or_else(PoisonError::into_inner);
        same("contenders that had the lock", tokens.len(), 64)?;
        same("faults", faults.as_slice(), [""; 0])
    })
    .await
}

async fn tries(t: Trial) -> Verdict {
    locking(t, async |t, kv| {
        let clients = [kv.clone(), t.open().await?, t.open().await?];
        for _ in 0..5 {
            let tries = (0..24).map(|n| clients[n % 3].new_lock("l").try_acquire().boxed());
            let got: Vec<_> = all(24, tries).await?.into_iter().flatten().collect();
            holds(format!("at most one try gets the lock; {} did", got.len()), got.len() <= 1)?;
            for guard in got {
                guard.release().await?;
            }
            take(&t, &kv, "l").await?.release().await?;
        }
        Ok(())
    })
    .await
}

async fn renewed(t: Trial) -> Verdict {
    locking(t, async |t, kv| {
        // With this TTL a server that is busy for two seconds loses no lock.
        let (other, ttl) = (t.open().await?, lock_ttl(&t, Duration::from_secs(4)));
        let guard = kv.new_lock("l").ttl(ttl).acquire().await?;
        for _ in 0..15 {
            tokio::time::sleep(ttl / 5).await;
            still_held("a lock that is kept alive is held", &guard)?;
            let tried = other.new_lock("l").ttl(ttl).try_acquire().await?;
            holds("nobody else gets a lock that is kept alive", tried.is_none())?;
        }
        same("the holder's token", other.lock_holder("l").await?.map(|h| h.token), Some(guard.token()))?;
        holds("it was held until it was released", guard.release().await?)
    })
    .await
}

async fn same_handle(t: Trial) -> Verdict {
    locking(t, async |t, kv| {
        let guard = take(&t, &kv, "l").await?;
        let tried = kv.new_lock("l").try_acquire().await?;
        holds("a second try on the same handle gives nothing", tried.is_none())?;
        let waited = kv.new_lock("l").acquire_within(Duration::from_millis(100)).await?;
        holds("a second acquisition on the same handle waits", waited.is_none())?;
        let mut second = pin!(kv.new_lock("l").acquire());
        in_line(&t, &kv, ("l", 1), &mut second).await?;
        let first = guard.token();
        guard.release().await?;
        let second = t.soon("the lock after its release", second).await??;
        holds("the second acquisition has a token of its own", second.token() > first)
    })
    .await
}

async fn different_names(t: Trial) -> Verdict {
    locking(t, async |_, kv| {
        let mut guards = Vec::new();
        for name in ["l", "l/m", "l/m/n", "lm", "l m"] {
            let got = kv.new_lock(name).try_acquire().await?;
            guards.push(got.ok_or_else(|| format!("the lock {name:?} was not free"))?);
        }
        for guard in guards {
            holds(format!("{:?} was held", guard.name()), guard.release().await?)?;
        }
        Ok(())
    })
    .await
}

async fn token(t: Trial) -> Verdict {
    locking(t, async |t, kv| {
        let (clients, mut last) = ([kv, t.open().await?], 0);
        for n in 0..12 {
            let kv = &clients[n % 2];
            let guard = match n % 3 {
                0 => kv.new_lock("l").try_acquire().await?.ok_or("a free lock was not got")?,
                _ => take(&t, kv, "l").await?,
            };
            holds(format!("the token {} is above the last, {last}", guard.token()), guard.token() > last)?;
            last = guard.token();
            guard.release().await?;
        }
        Ok(())
    })
    .await
}

async fn fenced_while_held(t: Trial) -> Verdict {
    fencing(t, async |t, kv| {
        let (guard, other) = (take(&t, &kv, "l").await?, t.open().await?);
        let version = kv.put("d/a", "1").fenced(&guard).await?.version;
        same("the version of a fenced put", kv.get("d/a").await?.map(|e| e.version), Some(version))?;
        // Another client's write can depend on the guard too.
        let next = other.put("d/a", "2").if_version(version).fenced(&guard).await?.version;
        refused(
            "a fenced put at a stale version",
            kv.put("d/a", "3").if_version(version).fenced(&guard).await,
            ErrorKind::KeyModified,
        )?;
        let steps = kv.transact().when_held(&guard).when_version("d/a", next);
        let done = steps.then(kv.put("d/b", "")).then(kv.delete("d/a")).await?;
        holds(format!("a transaction of the holder commits; found {done:?}"), done.is_committed())?;
        kv.delete("d/b").fenced(&guard).await?;
        same("what is left", kv.list("d").await?, vec![])
    })
    .await
}

/// Checks that every kind of write that depends on this lock is refused, and that nothing is
/// written.
async fn refuses(what: &str, kv: &Kv, held: Condition) -> Result<(), Failure> {
    kv.put("d/kept", "kept").await?;
    let writes: [kv_core::Txn; 2] = [
        kv.transact().when(held.clone()).then(kv.put("d/new", "")),
        kv.transact().when(held.clone()).then(kv.delete("d/kept")),
    ];
    for write in writes {
        refused_at(format!("a write that depends on {what}"), &write.await?, 0)?;
    }
    let second = kv.transact().when_exists("d/kept").when(held).then(kv.put("d/new", "")).await?;
    refused_at(format!("a second condition on {what}"), &second, 1)?;
    let left: Vec<_> = kv.list("d").await?.into_iter().map(|entry| entry.key.to_string()).collect();
    same(format!("what is left after writes that depended on {what}"), left, ["d/kept"])
}

async fn fenced_when_released(t: Trial) -> Verdict {
    fencing(t, async |t, kv| {
        let guard = take(&t, &kv, "l").await?;
        let held = Condition::Held(guard.fence().clone());
        guard.release().await?;
        refuses("a lock that was released", &kv, held).await
    })
    .await
}

async fn fenced_when_taken(t: Trial) -> Verdict {
    fencing(t, async |t, kv| {
        let guard = take(&t, &kv, "l").await?;
        let held = Condition::Held(guard.fence().clone());
        guard.release().await?;
        let other = t.open().await?;
        let taken = take(&t, &other, "l").await?;
        refuses("a lock that another holds", &kv, held.clone()).await?;
        other.put("d/a", "").fenced(&taken).await?;
        // The first client takes the lock again: the fence of its earlier acquisition must not
        // count.
        taken.release().await?;
        other.delete("d/a").await?;
        let _again = take(&t, &kv, "l").await?;
        refuses("an earlier acquisition of the same client", &kv, held).await
    })
    .await
}

async fn fenced_when_closed(t: Trial) -> Verdict {
    fencing(t, async |t, kv| {
        let (guard, other) = (take(&t, &kv, "l").await?, t.open().await?);
        other.put("d/kept", "kept").await?;
        kv.close().await?;
        let lost = ErrorKind::LockLost;
        refused("a fenced put of a lost guard", other.put("d/new", "").fenced(&guard).await, lost)?;
        refused("a fenced delete of a lost guard", other.delete("d/kept").fenced(&guard).await, lost)?;
        refuses("a lock whose handle was closed", &other, Condition::Held(guard.fence().clone())).await
    })
    .await
}

/// Waits until so many wait in line for the lock, which is held. Where the server does not tell who
/// waits, this makes more round trips of the client than any backend needs to ask for a lock.
pub(super) async fn waits_in_line(t: &Trial, kv: &Kv, name: &str, waiters: u64) -> Result<(), Failure> {
    let coming = async {
        while kv.capabilities().lock.as_ref().is_some_and(|locking| locking.lists) {
            let listed = kv.locks("").deadline(t.patience()).await?;
            match listed.iter().find(|lock| lock.name.as_str() == name).map(|lock| lock.waiters) {
                Some(None) => break,
                Some(Some(now)) if now >= waiters => return Ok(()),
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
        for _ in 0..20 {
            kv.lock_holder(name).deadline(t.patience()).await?;
            tokio::task::yield_now().await;
        }
        Ok::<_, Failure>(())
    };
    t.soon(&format!("{waiters} to wait in line for the lock {name:?}"), coming).await?
}

/// Has the acquisition come into line behind a holder, as the one at this place, and drives it
/// until then.
pub(super) async fn in_line(
    t: &Trial,
    kv: &Kv,
    (name, place): (&str, u64),
    waiting: &mut (impl Future<Output = kv_core::Result<Guard>> + Unpin),
) -> Result<(), Failure> {
    tokio::select! {
        biased;
        got = waiting => Err(format!("a lock that is held was got: {got:?}").into()),
        waits = waits_in_line(t, kv, name, place) => waits,
    }
}

/// Returns the verdict of a case about fairness where the server promises none; `None` where it
/// does, or has no locks.
fn unfair(t: &Trial) -> Option<Verdict> {
    let locking = t.capabilities().lock.as_ref()?;
    (!locking.fair).then(|| Ended::ignored("the server does not keep an order of waiters"))
}

async fn fair_order(t: Trial) -> Verdict {
    if let Some(ignored) = unfair(&t) {
        return ignored;
    }
    locking(t, async |t, kv| {
        let clients = [kv.clone(), t.open().await?, t.open().await?];
        for kv in &clients {
            // A client's first lock may need more requests, which do not count here.
            take(&t, kv, "warm").await?.release().await?;
        }
        let guard = take(&t, &kv, "l").await?;
        type Waiting = BoxFuture<'static, kv_core::Result<(usize, Guard)>>;
        let mut waiting: FuturesUnordered<Waiting> = FuturesUnordered::new();
        for (n, place) in (0..6).zip(1..) {
            let kv = &clients[n % 3];
            let mut acquire = kv.new_lock("l").acquire().boxed();
            in_line(&t, kv, ("l", place), &mut acquire).await?;
            waiting.push(acquire.map(move |got| got.map(|guard| (n, guard))).boxed());
        }
        guard.release().await?;
        let mut order = Vec::new();
        while let Some(got) = t.soon("the next in line to get the lock", waiting.next()).await? {
            let (n, guard) = got?;
            order.push(n);
            guard.release().await?;
        }
        same("the order in which waiters got the lock", order, vec![0, 1, 2, 3, 4, 5])
    })
    .await
}

async fn one_woken(t: Trial) -> Verdict {
    const ROUNDS: usize = 3;
    const LAST: usize = 5;
    if let Some(ignored) = unfair(&t) {
        return ignored;
    }
    if t.harness().address().is_none() {
        return Ended::ignored(super::outages::NO_LINK);
    }
    locking(t, async |t, kv| {
        // The TTL is long, so that no renewal comes in between.
        let ttl = lock_ttl(&t, Duration::from_secs(60));
        let mut guard = t.soon("the lock", kv.new_lock("l").ttl(ttl).acquire()).await??;
        let (mut line, mut proxies) = (Vec::new(), Vec::new());
        for place in (1..).take(2 * ROUNDS + LAST) {
            let (kv, proxy) = t.open_behind_proxy().await.ok_or("a client behind a proxy")??;
            let mut acquire = kv.new_lock("l").ttl(ttl).acquire().boxed();
            in_line(&t, &kv, ("l", place), &mut acquire).await?;
            // Each wait goes on in a task of its own, as waits in programs do.
            line.push((kv, tokio::spawn(acquire)));
            proxies.push(proxy);
        }
        let last = &proxies[2 * ROUNDS + 1..];
        let said = || last.iter().map(|proxy| proxy.traffic().to_server).collect::<Vec<_>>();
        let mut fewest = last.len();
        for _ in 0..ROUNDS {
            // A contender that the first release wakes has asked the server by the second
            // acquisition.
            let before = said();
            for (_, next) in line.drain(..2) {
                guard.release().await?;
                guard = t.soon("the next in line to get the lock", next).await???;
            }
            fewest = fewest.min(said().iter().zip(&before).filter(|(now, before)| now != before).count());
        }
        // A contender may ask for a reason of its own, but not at every release.
        holds(format!("at least {fewest} of {} at the end of the line were woken", last.len()), fewest <= 1)?;
        guard.release().await?;
        for (kv, waiting) in line {
            waiting.abort();
            kv.close().await?;
        }
        Ok(())
    })
    .await
}

async fn fair_try(t: Trial) -> Verdict {
    if let Some(ignored) = unfair(&t) {
        return ignored;
    }
    locking(t, async |t, kv| {
        let (waiter, third) = (t.open().await?, t.open().await?);
        take(&t, &waiter, "warm").await?.release().await?;
        for _ in 0..5 {
            let guard = take(&t, &kv, "l").await?;
            let mut waiting = waiter.new_lock("l").acquire().boxed();
            in_line(&t, &waiter, ("l", 1), &mut waiting).await?;
            guard.release().await?;
            let tried = third.new_lock("l").try_acquire().await?;
            holds("a try after a release gives nothing while another waits", tried.is_none())?;
            t.soon("the waiter to get the lock", waiting).await??.release().await?;
        }
        Ok(())
    })
    .await
}

async fn value_read(t: Trial) -> Verdict {
    locking(t, async |t, kv| {
        let other = t.open().await?;
        same("the holder of a lock that nobody took", other.lock_holder("l").await?, None)?;
        for value in [&b"host-1:80"[..], b"", b"\xff\x00\r\n"] {
            let guard = kv.new_lock("l").value(value.to_vec()).acquire().await?;
            let holder = other.lock_holder("l").await?.ok_or("a held lock has a holder")?;
            same(
                "the token and value that others read",
                (holder.token, &holder.value[..]),
                (guard.token(), value),
            )?;
            guard.release().await?;
            same("the holder of a lock that was released", other.lock_holder("l").await?, None)?;
        }
        Ok(())
    })
    .await
}

async fn value_watched(t: Trial) -> Verdict {
    locking(t, async |t, kv| {
        let other = t.open().await?;
        let watch = other.lock_holder("l").watch();
        let mut follower = Follower::new(&t, "a watch of a lock's holder", watch).await?;
        same("events of a free lock before Synced", follower.synced().await?, vec![])?;
        for value in ["first", "", "third"] {
            let guard = kv.new_lock("l").value(value).acquire().await?;
            let at = Version::new(guard.token(), 0);
            let found = follower.change().await?;
            let came = matches!(&found, WatchEvent::Put(e)
                if e.key.as_str() == "l" && e.value == value && e.version == at);
            holds(format!("the event of a new holder {value:?} at {at:?}; found {found:?}"), came)?;
            let watch = kv.lock_holder("l").watch();
            let mut late = Follower::new(&t, "a late watch of a lock's holder", watch).await?;
            same("what a late watch of the holder tells first", late.synced().await?, vec![found])?;
            guard.release().await?;
            for follower in [&mut follower, &mut late] {
                let found = follower.change().await?;
                let gone = matches!(&found, WatchEvent::Delete { key, version }
                    if key.as_str() == "l" && *version >= at);
                holds(format!("the event of a release; found {found:?}"), gone)?;
            }
        }
        Ok(())
    })
    .await
}

async fn apart(t: Trial) -> Verdict {
    locking(t, async |t, kv| {
        put_all(&kv, ["l", "l/below"]).await?;
        let guard = kv.new_lock("l").value("holder").acquire().await?;
        let _below = take(&t, &kv, "l/below").await?;
        let listed: Vec<_> = kv.list("").await?.into_iter().map(|e| e.key.to_string()).collect();
        same("what is listed beside a held lock", listed, ["l", "l/below"])?;
        same(
            "the value of a key with a lock's name",
            kv.get("l").await?.as_ref().and_then(|e| e.text()),
            Some("l"),
        )?;
        kv.delete_tree("").await?;
        same("what is left in the root", kv.list("").await?, vec![])?;
        still_held("a lock outlives delete_tree of the root", &guard)?;
        let tried = t.open().await?.new_lock("l").try_acquire().await?;
        holds("nobody else gets it after delete_tree of the root", tried.is_none())?;
        let token = guard.token();
        same(
            "the holder after delete_tree of the root",
            kv.lock_holder("l").await?.map(|h| h.token),
            Some(token),
        )?;
        holds("it was held until it was released", guard.release().await?)?;
        holds("the token grows over delete_tree of the root", take(&t, &kv, "l").await?.token() > token)
    })
    .await
}

async fn normalised(t: Trial) -> Verdict {
    locking(t, async |_, kv| {
        let guard = kv.new_lock("/a//b/").acquire().await?;
        same("the name of the lock", guard.name().as_str(), "a/b")?;
        holds("it is the lock `a/b`", kv.new_lock("a/b").try_acquire().await?.is_none())?;
        let holder = kv.lock_holder("//a/b").await?;
        same("its holder", holder.map(|h| h.token), Some(guard.token()))
    })
    .await
}

async fn bad_names(t: Trial) -> Verdict {
    locking(t, async |_, kv| {
        for name in ["", "/", ".", "a/../b", ".kv/lock", " a", "a ", "a\nb", &"a".repeat(513)] {
            let bad = ErrorKind::InvalidKey;
            refused(format!("acquire of {name:?}"), kv.new_lock(name).acquire().await, bad)?;
            refused(format!("try_acquire of {name:?}"), kv.new_lock(name).try_acquire().await, bad)?;
            refused(format!("lock_holder of {name:?}"), kv.lock_holder(name).await, bad)?;
        }
        Ok(())
    })
    .await
}
