//! Barriers, of one gate and of members that go in together.

use super::*;
use kv_recipes::{Barrier, DoubleBarrier, Inside};
use tokio::task::JoinHandle;

fn gate(kv: &Kv) -> Barrier {
    Barrier::new(kv, "gate").deadline(Duration::from_secs(20))
}

async fn cannot_wait(t: &Trial) -> Result<Option<Ended>, Failure> {
    lacking(t, &[Need::Watches], async |kv| gate(&kv).wait().await).await
}

/// Has somebody wait at a raised barrier, for long enough to see it.
async fn waits(barrier: Barrier) -> Result<JoinHandle<Result<()>>, Failure> {
    let mut waits = tokio::spawn(async move { barrier.wait().await });
    let ended = tokio::time::timeout(SLACK / 4, &mut waits).await;
    holds(format!("who waits at a raised barrier waits on; found {ended:?}"), ended.is_err())?;
    Ok(waits)
}

pub(super) async fn wait_cut_off(t: Trial) -> Verdict {
    if let Some(ended) = cannot_wait(&t).await? {
        return Ok(ended);
    }
    linked(t, async |t, Linked { kv, proxy, direct }| {
        gate(&direct).raise().await?;
        let waits = waits(gate(&kv.with_deadline(EACH))).await?;
        proxy.cut().await;
        gate(&direct).lift().await?;
        holds("who is cut off waits", !waits.is_finished())?;
        proxy.heal().await;
        Ok(t.soon("a wait to end when the barrier is lifted", waits).await???)
    })
    .await
}

pub(super) async fn wait_restart(t: Trial) -> Verdict {
    if let Some(ended) = cannot_wait(&t).await? {
        return Ok(ended);
    }
    served(t, async |t, server, kv| {
        let kv = kv.with_deadline(EACH);
        gate(&kv).raise().await?;
        let waits = waits(gate(&kv)).await?;
        server.kill().await;
        server.start().await;
        let is_raised = || async { Ok(gate(&kv).is_raised().await.unwrap_or_default()) };
        t.until("the server to answer that the barrier is raised", is_raised).await?;
        holds("it waits while the barrier is raised", !waits.is_finished())?;
        gate(&kv).lift().await?;
        Ok(t.soon("a wait to end when the barrier is lifted", waits).await???)
    })
    .await
}

pub(super) async fn wait_paused(t: Trial) -> Verdict {
    if let Some(ended) = cannot_wait(&t).await? {
        return Ok(ended);
    }
    let (process, other) = (Process::start()?, t.open().await?);
    gate(&other).raise().await?;
    let (there, (tell, told)) = (t.clone(), oneshot::channel());
    let mut waiter = process.run(async move {
        let kv = there.open().await?;
        holds("the barrier is raised", gate(&kv).is_raised().await?)?;
        // The case reads it, or has failed.
        let _ = tell.send(());
        gate(&kv).wait().await?;
        Ok(kv.close().await?)
    });
    t.soon("the other process to see the barrier", told).await??;
    let ended = tokio::time::timeout(SLACK / 4, &mut waiter).await;
    holds(format!("who waits at a raised barrier waits on; found {ended:?}"), ended.is_err())?;
    let still = process.pause().await?;
    gate(&other).lift().await?;
    drop(still);
    t.soon("the wait of who was paused to end", waiter).await???;
    process.kill().await?;
    Ok(Ended::Kept)
}

pub(super) async fn wait_killed(t: Trial) -> Verdict {
    if let Some(ended) = cannot_wait(&t).await? {
        return Ok(ended);
    }
    let (process, other) = (Process::start()?, t.open().await?);
    let (there, (tell, told)) = (t.clone(), oneshot::channel());
    process.run(async move {
        let kv = there.open().await?;
        gate(&kv).raise().await?;
        // The case reads it, or has failed.
        let _ = tell.send(());
        gate(&kv).wait().await?;
        Ok(())
    });
    t.soon("the other process to raise the barrier", told).await??;
    let mut waits = waits(gate(&other)).await?;
    process.kill().await?;
    let ended = tokio::time::timeout(SLACK, &mut waits).await;
    holds(format!("a barrier outlives who raised it; the wait ended with {ended:?}"), ended.is_err())?;
    holds("it is raised still", gate(&other).is_raised().await?)?;
    gate(&other).lift().await?;
    t.soon("a wait to end when the barrier is lifted", waits).await???;
    Ok(Ended::Kept)
}

pub(super) async fn set_answer_lost(t: Trial) -> Verdict {
    linked(t, async |t, Linked { kv, proxy, direct }| {
        let (near, far) = (gate(&kv.with_deadline(EACH)), gate(&direct));
        for (answers, raised) in (0..3).flat_map(|answers| [(answers, true), (answers, false)]) {
            let what = format!("a change to {raised}, with a lost answer behind {answers} others");
            let change = async {
                match raised {
                    true => near.raise().await,
                    false => near.lift().await,
                }
            };
            loses_answer_to(&t, &proxy, ("gate", answers), t.patience(), &what, change).await??;
            same(format!("whether it is raised behind {what}"), far.is_raised().await?, raised)?;
        }
        Ok(())
    })
    .await
}

pub(super) async fn set_dropped(t: Trial) -> Verdict {
    if let Some(ended) = cannot_wait(&t).await? {
        return Ok(ended);
    }
    let (kv, other) = (t.open().await?, t.open().await?);
    let (near, far) = (gate(&kv), gate(&other));
    dropped_at_each_poll(&t, "the raising of a barrier", || near.raise()).await?;
    for polls in 1..=10 {
        // Once it knows the barrier, it is polled when something comes.
        let passed = tokio::time::timeout(Duration::from_millis(50), polled(near.wait(), polls)).await;
        holds("nobody passes a raised barrier", !matches!(passed, Ok(Some(_))))?;
    }
    // The last one is dropped first of all, and has the most left to do.
    for polls in (1..=10).rev() {
        far.lift().await?;
        // It may have happened, or may not.
        drop(polled(Box::pin(near.raise()), polls).await);
        far.lift().await?;
        t.soon("the end of a barrier that was lifted", far.wait()).await??;
    }
    let late = async {
        while !far.is_raised().await? {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, Error>(())
    };
    let late = tokio::time::timeout(SLACK / 4, late).await;
    holds(format!("no change that was dropped comes late; found {late:?}"), late.is_err())?;
    Ok(Ended::Kept)
}

fn two(kv: &Kv, ttl: Duration) -> DoubleBarrier {
    DoubleBarrier::new(kv, "round", 2).ttl(ttl)
}

fn enters(kv: &Kv, ttl: Duration) -> JoinHandle<Result<Inside>> {
    let barrier = two(kv, ttl);
    tokio::spawn(async move { barrier.enter().await })
}

async fn cannot(t: &Trial) -> Result<Option<Ended>, Failure> {
    let what = async |kv| two(&kv, Duration::from_secs(15)).enter().await.map(drop);
    lacking(t, &[Need::Leases, Need::Watches], what).await
}

/// Has a member go in, in another process, together with one that is returned; the other one tells
/// why it counts as gone, once it does.
async fn goes_in_with(
    process: &Process,
    t: &Trial,
    kv: &Kv,
    ttl: Duration,
) -> Result<(Inside, oneshot::Receiver<Error>), Failure> {
    let (there, (tell, is_inside), (tell_loss, lost)) = (t.clone(), oneshot::channel(), oneshot::channel());
    process.run(async move {
        let inside = two(&there.open().await?, ttl).enter().await?;
        // The case reads them, or has ended.
        let _ = tell.send(());
        let _ = tell_loss.send(inside.lost().await);
        Ok(())
    });
    let inside = t.soon("two members to go in", two(kv, ttl).enter()).await??;
    t.soon("the other member to be inside", is_inside).await??;
    Ok((inside, lost))
}

pub(super) async fn paused(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    let ((ttl, most), process, other) = (both_times(&t, LIFE), Process::start()?, t.open().await?);
    let (inside, lost) = goes_in_with(&process, &t, &other, ttl).await?;
    let still = process.pause().await?;
    in_time(&t, most, "all others to be gone", inside.leave()).await??;
    drop(still);
    let why = t.soon("the member that was paused to know that it is gone", lost).await??;
    same("why it is gone", why.kind(), ErrorKind::LeaseLost)?;
    process.kill().await?;
    Ok(Ended::Kept)
}

pub(super) async fn killed(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    let ((ttl, most), process, other) = (both_times(&t, LIFE), Process::start()?, t.open().await?);
    let (inside, _) = goes_in_with(&process, &t, &other, ttl).await?;
    process.kill().await?;
    in_time(&t, most, "all others to be gone", inside.leave()).await??;
    Ok(Ended::Kept)
}

/// Checks that both go in, and out.
async fn both(t: &Trial, members: [JoinHandle<Result<Inside>>; 2]) -> Result<(), Failure> {
    let [a, b] = members;
    let (a, b) = (t.soon("the first member to go in", a).await???, t.soon("the second one", b).await???);
    same("the rounds", a.round(), b.round())?;
    let (a, b) = t.soon("both to leave", futures::future::join(a.leave(), b.leave())).await?;
    a?;
    Ok(b?)
}

pub(super) async fn cut_off(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    linked(t, async |t, Linked { kv, proxy, direct }| {
        let (ttl, most) = both_times(&t, LIFE);
        let waits = enters(&kv.with_deadline(EACH), ttl);
        let there = || async { Ok(!direct.list("round/members").await?.is_empty()) };
        t.until("the first member to be there", there).await?;
        proxy.cut().await;
        let what = "the end of the place of the member that is cut off";
        let gone = || async { Ok(direct.list("round/members").await?.is_empty()) };
        in_time(&t, most, what, t.until_within(most + t.patience(), what, gone)).await??;
        holds("it waits", !waits.is_finished())?;
        proxy.heal().await;
        both(&t, [waits, enters(&direct, ttl)]).await
    })
    .await
}

pub(super) async fn restart(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    served(t, async |t, server, kv| {
        let ((ttl, _), kv) = (both_times(&t, LONG / 2), kv.with_deadline(EACH));
        let mut waits = enters(&kv, ttl);
        let there = || async { Ok(!kv.list("round/members").await?.is_empty()) };
        t.until("the first member to be there", there).await?;
        server.kill().await;
        server.start().await;
        t.until("the server to answer again", there).await?;
        let ended = tokio::time::timeout(SLACK / 4, &mut waits).await;
        holds(format!("it waits on; found {ended:?}"), ended.is_err())?;
        both(&t, [waits, enters(&kv, ttl)]).await
    })
    .await
}

pub(super) async fn answer_lost(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    linked(t, async |t, Linked { kv, proxy, direct }| {
        let ((ttl, most), kv) = (both_times(&t, LIFE), kv.with_deadline(EACH));
        // What names the member's own key writes it, or looks for it.
        let requests = (0..4).map(|answers| ("round", answers));
        for request in requests.chain((0..3).map(|answers| ("round/members/", answers))) {
            let (barrier, within) = (two(&kv, ttl), most + t.patience());
            let other = enters(&direct, ttl);
            let what = format!("a member, with a lost answer behind so many others: {request:?}");
            let inside = loses_answer_to(&t, &proxy, request, within, &what, barrier.enter()).await??;
            let other = t.within(within, "the other member to go in", other).await???;
            same("the rounds", inside.round(), other.round())?;
            let leaving = Box::pin(futures::future::join(inside.leave(), other.leave()));
            let (a, b) = t.within(within, "both to leave", leaving).await?;
            a?;
            b?;
            // A second place of one member would be there for as long as its TTL.
            let gone = || async { Ok(direct.list("round/members").await?.is_empty()) };
            t.until("members that have left to be gone", gone).await?;
        }
        Ok(())
    })
    .await
}

pub(super) async fn dropped(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    let ((ttl, _), kv, other) = (both_times(&t, LONG), t.open().await?, t.open().await?);
    // One that was dropped counts as there until it is gone.
    let gone = || async { Ok(other.list("round/members").await?.is_empty()) };
    for polls in 1..=20 {
        // Once it waits, it is polled when something comes.
        let barrier = two(&kv, ttl);
        let waits = polled(barrier.enter(), polls);
        let got = tokio::time::timeout(Duration::from_millis(100), waits).await;
        holds("nobody goes in alone", !matches!(got, Ok(Some(_))))?;
        t.until("a member that was dropped to go", gone).await?;
    }
    both(&t, [enters(&kv, ttl), enters(&other, ttl)]).await?;
    Ok(Ended::Kept)
}

pub(super) async fn deleted(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    let ((ttl, _), kv, other) = (both_times(&t, LONG), t.open().await?, t.open().await?);
    // One that waits, and whose key is deleted, comes again.
    let waits = enters(&kv, ttl);
    let members = async || other.list("round/members").await;
    let there = || async { Ok(!members().await?.is_empty()) };
    t.until("the first member to be there", there).await?;
    let first = members().await?.swap_remove(0).key;
    holds("the key of a member is there", other.delete(&first).await?)?;
    let again = || async { Ok(members().await?.iter().any(|entry| entry.key != first)) };
    t.until("a member that waits to come again", again).await?;
    let enters = enters(&other, ttl);
    let a = t.soon("the member whose key was deleted to go in", waits).await???;
    let b = t.soon("the other member to go in", enters).await???;
    // Of one that is inside the others believe that it has left.
    let losses = futures::future::join(a.lost(), b.lost());
    for entry in members().await? {
        other.delete(&entry.key).await?;
    }
    let (one, two) = t.soon("members whose keys are deleted to know that they are gone", losses).await?;
    same("why they are gone", (one.kind(), two.kind()), (ErrorKind::LeaseLost, ErrorKind::LeaseLost))?;
    holds("they know it without waiting for it", !a.is_held() && !b.is_held())?;
    let (a, b) = t.soon("both to leave", futures::future::join(a.leave(), b.leave())).await?;
    a?;
    b?;
    Ok(Ended::Kept)
}
