//! Ids that are taken from the store by blocks.

use super::*;
use kv_recipes::IdBlocks;
use std::collections::BTreeSet;

/// The number of ids that a process takes from the store at once.
const SIZE: u64 = 10;
/// The time that a block has which cannot be taken.
const SHORT: Duration = Duration::from_secs(3);

fn orders(kv: &Kv) -> IdBlocks {
    IdBlocks::new(kv, "orders/ids").size(SIZE).deadline(Duration::from_secs(20))
}

/// Takes so many ids, one after the other.
async fn take(ids: &IdBlocks, count: usize) -> Result<Vec<u64>> {
    let mut taken = Vec::new();
    for _ in 0..count {
        taken.push(ids.next().await?);
    }
    Ok(taken)
}

/// Checks that the ids of each process grow, and that none was given out twice.
fn each_once(processes: &[&[u64]]) -> Result<(), Failure> {
    let mut all = BTreeSet::new();
    for ids in processes {
        holds(format!("the ids of one process grow; found {ids:?}"), ids.is_sorted_by(|a, b| a < b))?;
        for id in *ids {
            holds(format!("{id} is given out once; found {processes:?}"), all.insert(*id))?;
        }
    }
    Ok(())
}

pub(super) async fn paused(t: Trial) -> Verdict {
    let (process, other) = (Process::start()?, t.open().await?);
    let ((tell, told), (wake, woken)) = (oneshot::channel(), oneshot::channel::<()>());
    let there = t.clone();
    let takes = process.run(async move {
        let kv = there.open().await?;
        let ids = orders(&kv);
        let mut taken = take(&ids, 3).await?;
        // The case reads it, or has failed.
        let _ = tell.send(());
        woken.await?;
        taken.extend(take(&ids, 20).await?);
        kv.close().await?;
        Ok(taken)
    });
    t.soon("the first ids", told).await??;
    let still = process.pause().await?;
    let ours = take(&orders(&other), 25).await?;
    wake.send(()).map_err(|()| "the other process has ended")?;
    drop(still);
    let theirs = t.soon("the ids of who was paused", takes).await???;
    each_once(&[&theirs, &ours])?;
    same("the ids of its block", theirs[..10].to_vec(), (1..=SIZE).collect::<Vec<_>>())?;
    process.kill().await?;
    Ok(Ended::Kept)
}

pub(super) async fn killed(t: Trial) -> Verdict {
    let (process, other) = (Process::start()?, t.open().await?);
    let (tell, told) = oneshot::channel();
    let there = t.clone();
    process.run(async move {
        let taken = take(&orders(&there.open().await?), 11).await?;
        // The case reads it, or has failed.
        let _ = tell.send(taken);
        for_ever::<Result<(), Failure>>().await
    });
    let theirs = t.soon("the ids of another process", told).await??;
    process.kill().await?;
    let ours = take(&orders(&other), 30).await?;
    each_once(&[&theirs, &ours])?;
    same("the first id behind the blocks of the dead", ours.first().copied(), Some(2 * SIZE + 1))?;
    Ok(Ended::Kept)
}

pub(super) async fn cut_off(t: Trial) -> Verdict {
    linked(t, async |t, Linked { kv, proxy, direct }| {
        let (near, far) = (orders(&kv.with_deadline(EACH)), orders(&direct));
        let mut ours = t.soon("the first ids", take(&near, 5)).await??;
        proxy.cut().await;
        ours.extend(t.soon("the rest of a block", take(&near, 5)).await??);
        let short = near.clone().deadline(SHORT);
        fails_in_time(&t, SHORT, "an id of the next block over a cut link", short.next()).await?;
        proxy.heal().await;
        let theirs = take(&far, 25).await?;
        ours.extend(t.soon("ids when the link is back", take(&near, 15)).await??);
        each_once(&[&ours, &theirs])
    })
    .await
}

pub(super) async fn restart(t: Trial) -> Verdict {
    served(t, async |t, server, kv| {
        let (near, other) = (orders(&kv.with_deadline(EACH)), t.open().await?);
        let mut ours = t.soon("the first ids", take(&near, 5)).await??;
        server.kill().await;
        ours.extend(t.soon("the rest of a block", take(&near, 5)).await??);
        let short = near.clone().deadline(SHORT);
        fails_in_time(&t, SHORT, "an id of the next block without a server", short.next()).await?;
        server.start().await;
        ours.extend(t.soon("ids when the server is back", take(&near, 15)).await??);
        let theirs = t.soon("ids of another when the server is back", take(&orders(&other), 15)).await??;
        each_once(&[&ours, &theirs])
    })
    .await
}

pub(super) async fn answer_lost(t: Trial) -> Verdict {
    linked(t, async |t, Linked { kv, proxy, direct }| {
        let (near, far) = (orders(&kv.with_deadline(EACH)), orders(&direct));
        let mut free = 1;
        for answers in 0..4 {
            let (request, within) = (("orders/ids", answers), t.patience());
            let what = format!("a block, with a lost answer behind {answers} others");
            let ours = loses_answer_to(&t, &proxy, request, within, &what, near.block(SIZE)).await??;
            for block in [ours, far.block(SIZE).await?] {
                holds(format!("{block:?} begins with {free} or later"), block.start >= free)?;
                free = block.end;
            }
        }
        Ok(())
    })
    .await
}

pub(super) async fn dropped(t: Trial) -> Verdict {
    let (kv, other) = (t.open().await?, t.open().await?);
    let (near, far) = (orders(&kv).size(2), orders(&other).size(2));
    let mut ours = vec![dropped_at_each_poll(&t, "an id", || near.next()).await?];
    ours.extend(take(&near, 9).await?);
    let theirs = take(&far, 9).await?;
    ours.extend(take(&near, 9).await?);
    each_once(&[&ours, &theirs])?;
    Ok(Ended::Kept)
}
