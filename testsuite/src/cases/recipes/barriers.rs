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
    let ((ttl, most), process, other) = (both_times(&t, EACH), Process::start()?, t.open().await?);
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
    let ((ttl, most), process, other) = (both_times(&t, EACH), Process::start()?, t.open().await?);
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
        let (ttl, most) = both_times(&t, EACH);
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
