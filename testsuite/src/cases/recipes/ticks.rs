//! Ticks: work that one of several members does, each period.

use super::*;
use kv_recipes::{Tick, Ticks};
use tokio::task::JoinHandle;

/// A tick that has begun: its number, whether it is run again, and the proof of running it.
type Told = (u64, bool, Fence);

const PERIOD: Duration = Duration::from_millis(100);

fn report(kv: &Kv, ttl: Duration) -> Ticks {
    Ticks::every(kv, "report", PERIOD).ttl(ttl)
}

async fn cannot(t: &Trial) -> Result<Option<Ended>, Failure> {
    let what = async |kv| Err::<(), _>(report(&kv, Duration::from_secs(15)).run(|_| for_ever()).await);
    lacking(t, &[Need::Fences, Need::Watches], what).await
}

/// Takes part with work that never ends in its first tick, and at once in those behind it; tells of
/// each tick that begins.
async fn hangs(
    kv: Kv,
    ttl: Duration,
    newest: Newest,
    tell: mpsc::UnboundedSender<Told>,
) -> Result<(), Failure> {
    let mut is_first = true;
    let work = |tick: Tick| {
        let (fence, hangs) = (tick.fence().clone(), std::mem::take(&mut is_first));
        let token = fence.token();
        // The case reads it, or has failed.
        let _ = tell.send((tick.number(), tick.is_again(), fence));
        newest.watches(token, async move {
            if hangs {
                loop {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        })
    };
    Err(report(&kv, ttl).run(work).await.into())
}

/// Takes part with work that ends at once, and tells of each tick that begins.
fn takes_part(kv: Kv, ttl: Duration) -> (JoinHandle<Error>, mpsc::UnboundedReceiver<Told>) {
    let (tell, told) = mpsc::unbounded_channel();
    let part = tokio::spawn(async move {
        let work = |tick: Tick| {
            let _ = tell.send((tick.number(), tick.is_again(), tick.fence().clone()));
            async {}
        };
        report(&kv, ttl).run(work).await
    });
    (part, told)
}

/// Waits for the next tick of a member.
async fn next(t: &Trial, told: &mut mpsc::UnboundedReceiver<Told>) -> Result<Told, Failure> {
    Ok(t.soon("a tick", told.recv()).await?.ok_or("the member has ended")?)
}

/// Checks that a tick is the one that was begun before, and that who began it can write no more.
async fn is_run_again(kv: &Kv, first: &Told, again: &Told) -> Result<(), Failure> {
    same("the number of the tick that is run again", (again.0, again.1), (first.0, true))?;
    let late = kv.put("report/last", "late").fenced(&first.2).await;
    refused("a late write of who ran it before", late, ErrorKind::LockLost).map(drop)
}

pub(super) async fn paused(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    let ((ttl, most), process, other) = (lock_times(&t, LIFE), Process::start()?, t.open().await?);
    let (newest, (tell, mut told)) = (Newest::default(), mpsc::unbounded_channel());
    let (there, theirs) = (t.clone(), newest.clone());
    process.run(async move { hangs(there.open().await?, ttl, theirs, tell).await });
    let first = next(&t, &mut told).await?;
    let still = process.pause().await?;
    let (part, mut ticks) = takes_part(other.clone(), ttl);
    let again = in_time(&t, most, "the tick of who is paused", ticks.recv()).await?.ok_or("it has ended")?;
    newest.is(again.2.token());
    is_run_again(&other, &first, &again).await?;
    drop(still);
    t.soon("the other process to go on", process.run(async { Ok(()) })).await???;
    // Either of them may be the next.
    let following = t.soon("the next tick", async {
        tokio::select! {
            tick = ticks.recv() => tick,
            tick = told.recv() => tick,
        }
    });
    let following = following.await?.ok_or("both have ended")?;
    holds("the numbers grow", following.0 > again.0)?;
    newest.never_late("the work of a tick of who was paused")?;
    part.abort();
    process.kill().await?;
    Ok(Ended::Kept)
}

pub(super) async fn killed(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    let ((ttl, most), process, other) = (lock_times(&t, LIFE), Process::start()?, t.open().await?);
    let (tell, mut told) = mpsc::unbounded_channel();
    let there = t.clone();
    process.run(async move { hangs(there.open().await?, ttl, Newest::default(), tell).await });
    let first = next(&t, &mut told).await?;
    let (part, mut ticks) = takes_part(other.clone(), ttl);
    process.kill().await?;
    let again = in_time(&t, most, "the tick of who died", ticks.recv()).await?.ok_or("it has ended")?;
    is_run_again(&other, &first, &again).await?;
    part.abort();
    Ok(Ended::Kept)
}

pub(super) async fn cut_off(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    linked(t, async |t, Linked { kv, proxy, direct }| {
        let ((ttl, most), kv) = (lock_times(&t, LIFE), kv.with_deadline(EACH));
        let (newest, (tell, mut told)) = (Newest::default(), mpsc::unbounded_channel());
        let hangs = tokio::spawn(hangs(kv, ttl, newest.clone(), tell));
        let first = next(&t, &mut told).await?;
        let (part, mut ticks) = takes_part(direct.clone(), ttl);
        proxy.cut().await;
        let again =
            in_time(&t, most, "the tick of who is cut off", ticks.recv()).await?.ok_or("it has ended")?;
        newest.is(again.2.token());
        is_run_again(&direct, &first, &again).await?;
        next(&t, &mut ticks).await?;
        newest.never_late("the work of a tick of who is cut off")?;
        proxy.heal().await;
        hangs.abort();
        part.abort();
        Ok(())
    })
    .await
}

pub(super) async fn restart(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    served(t, async |t, server, kv| {
        let (ttl, _) = lock_times(&t, LIFE);
        let (part, mut ticks) = takes_part(kv.with_deadline(EACH), ttl);
        let first = next(&t, &mut ticks).await?;
        server.kill().await;
        while ticks.try_recv().is_ok() {}
        server.start().await;
        let mut last = first.0;
        for _ in 0..3 {
            let (number, is_again, _) = next(&t, &mut ticks).await?;
            holds(format!("{number} comes after {last}"), number > last || is_again && number == last)?;
            last = number;
        }
        part.abort();
        Ok(())
    })
    .await
}

pub(super) async fn answer_lost(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    linked(t, async |t, Linked { kv, proxy, direct }| {
        let (ttl, most) = lock_times(&t, Duration::from_secs(10));
        let (part, mut ticks) = takes_part(kv.with_deadline(EACH), ttl);
        let mut last = 0;
        for answers in 0..6 {
            let what = format!("ticks, with a lost answer behind {answers} others");
            let go_on = async {
                for _ in 0..4 {
                    let (number, is_again, _) = ticks.recv().await.ok_or("the member has ended")?;
                    same(
                        "the next tick, and whether it is run again",
                        (number, is_again),
                        (last + 1, false),
                    )?;
                    last = number;
                }
                Ok::<_, Failure>(())
            };
            let within = most + t.patience();
            loses_answer_to(&t, &proxy, ("report", answers), within, &what, go_on).await??;
            while let Ok((number, is_again, _)) = ticks.try_recv() {
                same("a tick, and whether it is run again", (number, is_again), (last + 1, false))?;
                last = number;
            }
        }
        holds("others can read of the ticks", direct.exists("report").await?)?;
        part.abort();
        Ok(())
    })
    .await
}

pub(super) async fn dropped(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    let ((ttl, _), kv, other) = (lock_times(&t, LONG), t.open().await?, t.open().await?);
    let (tell, mut told) = mpsc::unbounded_channel();
    let hangs = tokio::spawn(hangs(kv, ttl, Newest::default(), tell));
    let first = next(&t, &mut told).await?;
    let (part, mut ticks) = takes_part(other.clone(), ttl);
    hangs.abort();
    let again = next(&t, &mut ticks).await?;
    is_run_again(&other, &first, &again).await?;
    part.abort();
    Ok(Ended::Kept)
}
