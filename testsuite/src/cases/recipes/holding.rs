//! Recipes of which one member holds what others wait for: a permit, a lock for reading or writing,
//! several locks.

use super::*;
use kv_core::{Condition, Guard};
use kv_recipes::{Locks, Permit, RwLock};

/// A way to hold something, and to want what nobody can have beside it.
pub(super) trait Holding: Send + Sync + 'static {
    const NEEDS: &'static [Need];

    /// Takes it; waits in line for it.
    fn take(kv: Kv, ttl: Duration) -> BoxFuture<'static, Result<Held>>;

    /// Takes what nobody has while another holds the former.
    fn take_other(kv: Kv, ttl: Duration) -> BoxFuture<'static, Result<Held>>;
}

pub(super) struct Semaphore;
pub(super) struct Reader;
pub(super) struct Writer;
pub(super) struct LockAll;

const BOTH: &[Need] = &[Need::Fences, Need::Leases, Need::Watches];

impl Holding for Semaphore {
    const NEEDS: &'static [Need] = BOTH;

    fn take(kv: Kv, ttl: Duration) -> BoxFuture<'static, Result<Held>> {
        let one = kv_recipes::Semaphore::new(&kv, "render", 1).ttl(ttl);
        Box::pin(async move { one.acquire().await.map(Held::Permit) })
    }

    fn take_other(kv: Kv, ttl: Duration) -> BoxFuture<'static, Result<Held>> {
        Self::take(kv, ttl)
    }
}

fn schema(kv: &Kv, ttl: Duration) -> RwLock {
    RwLock::new(kv, "schema").ttl(ttl)
}

fn read(kv: &Kv, ttl: Duration) -> BoxFuture<'static, Result<Held>> {
    let lock = schema(kv, ttl);
    Box::pin(async move { lock.read().await.map(Held::Permit) })
}

fn write(kv: &Kv, ttl: Duration) -> BoxFuture<'static, Result<Held>> {
    let lock = schema(kv, ttl);
    Box::pin(async move { lock.write().await.map(Held::Guard) })
}

impl Holding for Reader {
    const NEEDS: &'static [Need] = BOTH;

    fn take(kv: Kv, ttl: Duration) -> BoxFuture<'static, Result<Held>> {
        read(&kv, ttl)
    }

    fn take_other(kv: Kv, ttl: Duration) -> BoxFuture<'static, Result<Held>> {
        write(&kv, ttl)
    }
}

impl Holding for Writer {
    const NEEDS: &'static [Need] = BOTH;

    fn take(kv: Kv, ttl: Duration) -> BoxFuture<'static, Result<Held>> {
        write(&kv, ttl)
    }

    fn take_other(kv: Kv, ttl: Duration) -> BoxFuture<'static, Result<Held>> {
        read(&kv, ttl)
    }
}

fn all(kv: &Kv, names: [&str; 2], ttl: Duration) -> BoxFuture<'static, Result<Held>> {
    let all = kv_recipes::lock_all(kv, names).ttl(ttl);
    Box::pin(async move { all.acquire().await.map(Held::Locks) })
}

impl Holding for LockAll {
    const NEEDS: &'static [Need] = &[Need::Locks];

    fn take(kv: Kv, ttl: Duration) -> BoxFuture<'static, Result<Held>> {
        all(&kv, ["accounts/b", "accounts/a"], ttl)
    }

    fn take_other(kv: Kv, ttl: Duration) -> BoxFuture<'static, Result<Held>> {
        all(&kv, ["accounts/b", "accounts/c"], ttl)
    }
}

/// A permit (a reader's is one too), a lock or several locks, while they are held.
#[derive(Debug)]
pub(super) enum Held {
    Permit(Permit),
    Guard(Guard),
    Locks(Locks),
}

impl Held {
    fn is_held(&self) -> bool {
        match self {
            Self::Permit(permit) => permit.is_held(),
            Self::Guard(guard) => guard.is_held(),
            Self::Locks(locks) => locks.is_held(),
        }
    }

    /// Returns the greatest token of what is held.
    fn token(&self) -> u64 {
        match self {
            Self::Permit(permit) => permit.token(),
            Self::Guard(guard) => guard.token(),
            Self::Locks(locks) => locks.guards().iter().map(Guard::token).max().unwrap_or_default(),
        }
    }

    /// Returns the conditions of writes that must not happen once it is lost.
    fn conditions(&self) -> Vec<Condition> {
        let held = |guard: &Guard| Condition::Held(guard.fence().clone());
        match self {
            Self::Permit(permit) => vec![permit.condition()],
            Self::Guard(guard) => vec![held(guard)],
            Self::Locks(locks) => locks.guards().iter().map(held).collect(),
        }
    }

    async fn lost(&self) -> Error {
        match self {
            Self::Permit(permit) => permit.lost().await,
            Self::Guard(guard) => guard.lost().await,
            Self::Locks(locks) => locks.lost().await,
        }
    }

    async fn release(self) -> Result<bool> {
        match self {
            Self::Permit(permit) => permit.release().await,
            Self::Guard(guard) => guard.release().await,
            Self::Locks(locks) => locks.release().await,
        }
    }
}

/// Checks that a write on these conditions happens, or is refused, where writes can depend on a
/// lock.
async fn writes(t: &Trial, kv: &Kv, conditions: &[Condition], in_time: bool) -> Result<(), Failure> {
    if t.capabilities().lock.as_ref().is_some_and(|locking| locking.fenced_writes) {
        let written = write_if(kv, conditions, "").await?;
        same(format!("whether a write happens that is in time: {in_time}"), written, in_time)?;
    }
    Ok(())
}

/// Writes a key on these conditions; returns whether it was written.
async fn write_if(kv: &Kv, conditions: &[Condition], value: &str) -> Result<bool> {
    let txn = conditions.iter().cloned().fold(kv.transact(), kv_core::Txn::when);
    Ok(txn.then(kv.put("written", value)).await?.is_committed())
}

async fn give_back(held: Held) -> Result<(), Failure> {
    let conditions = format!("{:?}", held.conditions());
    holds(format!("{conditions} was held until it was released"), held.release().await?)
}

async fn cannot<H: Holding>(t: &Trial) -> Result<Option<Ended>, Failure> {
    let what = async |kv| H::take(kv, Duration::from_secs(15)).await.map(|held| held.token());
    lacking(t, H::NEEDS, what).await
}

pub(super) async fn paused<H: Holding>(t: Trial) -> Verdict {
    if let Some(ended) = cannot::<H>(&t).await? {
        return Ok(ended);
    }
    let ((ttl, most), process, other) = (both_times(&t, LIFE), Process::start()?, t.open().await?);
    let ((tell, told), (wake, woken)) = (oneshot::channel(), oneshot::channel::<()>());
    let there = t.clone();
    let holder = process.run(async move {
        let kv = there.open().await?;
        let held = H::take(kv.clone(), ttl).await?;
        // The case reads it, or has failed.
        let _ = tell.send((held.token(), held.conditions()));
        woken.await?;
        let is_held = held.is_held();
        there.soon("the loss of what was held", held.lost()).await?;
        not_held("a release behind the loss", held.release().await)?;
        kv.close().await?;
        Ok(is_held)
    });
    let (token, conditions) = t.soon("what is free", told).await??;
    writes(&t, &other, &conditions, true).await?;
    let still = process.pause().await?;
    let second = in_time(&t, most, "what a paused process held", H::take_other(other.clone(), ttl)).await??;
    holds("the token grows", second.token() > token)?;
    writes(&t, &other, &conditions, false).await?;
    wake.send(()).map_err(|()| "the other process has ended")?;
    drop(still);
    let was_held = t.soon("the other process to go on", holder).await???;
    same("what `is_held` says when it goes on", was_held, false)?;
    give_back(second).await?;
    process.kill().await?;
    Ok(Ended::Kept)
}

pub(super) async fn killed<H: Holding>(t: Trial) -> Verdict {
    if let Some(ended) = cannot::<H>(&t).await? {
        return Ok(ended);
    }
    let ((ttl, most), process, other) = (both_times(&t, LIFE), Process::start()?, t.open().await?);
    let (tell, told) = oneshot::channel();
    let there = t.clone();
    process.run(async move {
        let kv = there.open().await?;
        let held = H::take(kv, ttl).await?;
        // The case reads it, or has failed.
        let _ = tell.send(held.token());
        for_ever::<Result<(), Failure>>().await
    });
    let token = t.soon("what is free", told).await??;
    let waits = tokio::spawn(H::take_other(other, ttl));
    process.kill().await?;
    let second = in_time(&t, most, "what a process held that died", waits).await???;
    holds("the token grows", second.token() > token)?;
    give_back(second).await?;
    Ok(Ended::Kept)
}

pub(super) async fn cut_off<H: Holding>(t: Trial) -> Verdict {
    if let Some(ended) = cannot::<H>(&t).await? {
        return Ok(ended);
    }
    linked(t, async |t, Linked { kv, proxy, direct }| {
        let ((ttl, most), kv) = (both_times(&t, LIFE), kv.with_deadline(EACH));
        let first = t.soon("what is free", H::take(kv.clone(), ttl)).await??;
        let conditions = first.conditions();
        let waits = tokio::spawn(H::take_other(direct.clone(), ttl));
        proxy.cut().await;
        let second = in_time(&t, most, "what one held who is cut off", waits).await???;
        holds("who is cut off knows of the loss when another has it", !first.is_held())?;
        proxy.heal().await;
        writes(&t, &direct, &conditions, false).await?;
        not_held("a release behind the loss", first.release().await)?;
        give_back(second).await
    })
    .await
}

pub(super) async fn restart<H: Holding>(t: Trial) -> Verdict {
    if let Some(ended) = cannot::<H>(&t).await? {
        return Ok(ended);
    }
    served(t, async |t, server, kv| {
        let ((ttl, most), kv) = (both_times(&t, Duration::from_secs(10)), kv.with_deadline(EACH));
        let first = t.soon("what is free", H::take(kv, ttl)).await??;
        let other = t.open().await?.with_deadline(EACH);
        server.kill().await;
        server.start().await;
        let mut waits = tokio::spawn(H::take_other(other, ttl));
        // It is renewed or lost until then.
        if let Ok(second) = tokio::time::timeout(ttl / 2, &mut waits).await {
            holds("nobody has it beside another after a restart", !first.is_held())?;
            return give_back(second??).await;
        }
        // It is lost already, or ends here.
        let _ = first.release().await;
        let second = t.within(most + t.patience(), "what is given back after a restart", waits).await???;
        give_back(second).await
    })
    .await
}

pub(super) async fn answer_lost<H: Holding>(t: Trial) -> Verdict {
    if let Some(ended) = cannot::<H>(&t).await? {
        return Ok(ended);
    }
    linked(t, async |t, Linked { kv, proxy, direct }| {
        let ((ttl, most), kv) = (both_times(&t, LIFE), kv.with_deadline(EACH));
        for answers in 0..6 {
            let what = format!("what is free, with a lost answer behind {answers} others");
            let (within, taking) = (most + t.patience(), H::take(kv.clone(), ttl));
            let held = loses_answer(&t, &proxy, answers, within, &what, taking).await??;
            give_back(held).await?;
        }
        let second = t.within(most, "what was given back", H::take_other(direct, ttl)).await??;
        give_back(second).await
    })
    .await
}

pub(super) async fn dropped<H: Holding>(t: Trial) -> Verdict {
    if let Some(ended) = cannot::<H>(&t).await? {
        return Ok(ended);
    }
    let ((ttl, _), kv, other) = (both_times(&t, LONG), t.open().await?, t.open().await?);
    let take = || H::take(kv.clone(), ttl);
    let first = dropped_at_each_poll(&t, "what is free", take).await?;
    for polls in 1..=20 {
        // Once it is in line, it is polled when something comes.
        let waits = polled(H::take_other(other.clone(), ttl), polls);
        let got = tokio::time::timeout(Duration::from_millis(100), waits).await;
        holds("nobody has it beside another", !matches!(got, Ok(Some(_))))?;
    }
    give_back(first).await?;
    let second = t.soon("what nobody has, or waits for", H::take_other(other, ttl)).await??;
    give_back(second).await?;
    let third = t.soon("what nobody has, or waits for", H::take(kv, ttl)).await??;
    give_back(third).await?;
    Ok(Ended::Kept)
}

pub(super) async fn deleted<H: Holding>(t: Trial) -> Verdict {
    if let Some(ended) = cannot::<H>(&t).await? {
        return Ok(ended);
    }
    let ((ttl, _), kv, other) = (both_times(&t, LONG), t.open().await?, t.open().await?);
    for replaces in [false, true] {
        let held = t.soon("what is free", H::take(kv.clone(), ttl)).await??;
        let Held::Permit(permit) = &held else { return Err("this is held without a key".into()) };
        // The work has begun when the key goes.
        let (conditions, lost) = (held.conditions(), tokio::spawn(permit.lost()));
        let ((began, begun), work) = (oneshot::channel(), for_ever::<Result<()>>());
        let work = async {
            // The other side of the case has failed if nobody hears it.
            let _ = began.send(());
            work.await
        };
        let taken = async {
            begun.await?;
            match replaces {
                true => drop(other.put(permit.key(), "another's").await?),
                false => holds("the key of a permit is there", other.delete(permit.key()).await?)?,
            }
            Ok::<_, Failure>(())
        };
        let ends = Box::pin(async { tokio::join!(permit.while_held(work), taken) });
        let (ended, taken) = t.soon("the end of work whose permit is gone", ends).await?;
        taken?;
        refused("work whose permit is gone", ended, ErrorKind::LeaseLost)?;
        same("what `is_held` says of a permit that is gone", permit.is_held(), false)?;
        same("what is left of a permit that is gone", permit.remaining(), Duration::ZERO)?;
        let why = t.soon("the loss of a permit that is gone", lost).await??;
        same("why it is lost", why.kind(), ErrorKind::LeaseLost)?;
        writes(&t, &other, &conditions, false).await?;
        let key = permit.key().clone();
        not_held("a release of what is gone", held.release().await)?;
        if replaces {
            same(
                "what stands in the place of a permit",
                text(&other, key.as_str()).await?.as_deref(),
                Some("another's"),
            )?;
            other.delete(&key).await?;
        }
        let second = t.soon("what is given back", H::take_other(other.clone(), ttl)).await??;
        give_back(second).await?;
    }
    Ok(Ended::Kept)
}
