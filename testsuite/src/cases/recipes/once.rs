//! Cases of `Once`: writes that happen once, whoever tries.

use super::*;
use kv_recipes::{Effects, Once, Ran};

fn migration(kv: &Kv, ttl: Duration) -> Once {
    Once::new(kv, "migrations/7").ttl(ttl)
}

/// Has two keys written once, as this process.
async fn migrate(kv: &Kv, ttl: Duration, who: &str) -> Result<Ran> {
    migration(kv, ttl).run(|effects| async move { Ok(written(kv, effects, who)) }).await
}

fn written(kv: &Kv, effects: Effects, who: &str) -> Effects {
    effects.then(kv.put("schema/a", who)).then(kv.put("schema/b", who))
}

/// Runs as this process, whose writes wait until they are woken.
async fn begins(
    kv: Kv,
    ttl: Duration,
    began: oneshot::Sender<()>,
    woken: oneshot::Receiver<()>,
) -> Result<Ran, Failure> {
    let mut waits = Some((began, woken));
    let effects = |effects| {
        let (kv, waits) = (kv.clone(), waits.take());
        async move {
            if let Some((began, woken)) = waits {
                // The case reads it, or has failed.
                let _ = began.send(());
                let _ = woken.await;
            }
            Ok::<_, Error>(written(&kv, effects, "first"))
        }
    };
    let ran = migration(&kv, ttl).run(effects).await?;
    Ok(ran)
}

async fn cannot(t: &Trial) -> Result<Option<Ended>, Failure> {
    let what = async |kv: Kv| migrate(&kv, Duration::from_secs(15), "nobody").await;
    lacking(t, &[Need::Fences, Need::Transactions], what).await
}

/// Checks whose writes are there.
async fn wrote(kv: &Kv, who: Option<&str>) -> Result<(), Failure> {
    for key in ["schema/a", "schema/b"] {
        same(format!("who wrote {key}"), text(kv, key).await?.as_deref(), who)?;
    }
    same("whether it is marked", kv.exists("migrations/7").await?, who.is_some())
}

pub(super) async fn paused(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    let ((ttl, most), process, other) = (lock_times(&t, LIFE), Process::start()?, t.open().await?);
    let ((began, begun), (wake, woken)) = (oneshot::channel(), oneshot::channel());
    let there = t.clone();
    let first = process.run(async move { begins(there.open().await?, ttl, began, woken).await });
    t.soon("the first one to run", begun).await??;
    let still = process.pause().await?;
    let second = in_time(&t, most, "the turn of another", migrate(&other, ttl, "second")).await??;
    same("when it happened", second, Ran::Now)?;
    wake.send(()).map_err(|()| "the other process has ended")?;
    drop(still);
    same("when it happened for the first", t.soon("the first one to end", first).await???, Ran::Before)?;
    wrote(&other, Some("second")).await?;
    process.kill().await?;
    Ok(Ended::Kept)
}

pub(super) async fn killed(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    let ((ttl, most), process, other) = (lock_times(&t, LIFE), Process::start()?, t.open().await?);
    let ((began, begun), (_wake, woken)) = (oneshot::channel(), oneshot::channel());
    let there = t.clone();
    process.run(async move { begins(there.open().await?, ttl, began, woken).await });
    t.soon("the first one to run", begun).await??;
    process.kill().await?;
    wrote(&other, None).await?;
    let second = in_time(&t, most, "the turn of another", migrate(&other, ttl, "second")).await??;
    same("when it happened", second, Ran::Now)?;
    wrote(&other, Some("second")).await?;
    Ok(Ended::Kept)
}

pub(super) async fn cut_off(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    linked(t, async |t, Linked { kv, proxy, direct }| {
        let ((ttl, most), kv) = (lock_times(&t, LIFE), kv.with_deadline(EACH));
        let ((began, begun), (wake, woken)) = (oneshot::channel(), oneshot::channel());
        let first = tokio::spawn(begins(kv, ttl, began, woken));
        t.soon("the first one to run", begun).await??;
        proxy.cut().await;
        let second = in_time(&t, most, "the turn of another", migrate(&direct, ttl, "second")).await??;
        same("when it happened", second, Ran::Now)?;
        // Its function may have been dropped by then.
        let _ = wake.send(());
        proxy.heal().await;
        same("when it happened for the first", t.soon("the first one to end", first).await???, Ran::Before)?;
        wrote(&direct, Some("second")).await
    })
    .await
}

pub(super) async fn restart(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    served(t, async |t, server, kv| {
        let ((ttl, _), kv) = (lock_times(&t, LIFE), kv.with_deadline(EACH));
        same("when it happened", t.soon("the first one", migrate(&kv, ttl, "first")).await??, Ran::Now)?;
        server.kill().await;
        server.start().await;
        let answers = || async { Ok(kv.get("schema/a").await.is_ok()) };
        t.until("the server to answer again", answers).await?;
        let again = t.soon("the answer of the next one", migrate(&kv, ttl, "second")).await??;
        same("when it happened", again, Ran::Before)?;
        wrote(&kv, Some("first")).await
    })
    .await
}

pub(super) async fn answer_lost(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    linked(t, async |t, Linked { kv, proxy, direct }| {
        let ((ttl, most), kv) = (lock_times(&t, Duration::from_secs(10)), kv.with_deadline(EACH));
        proxy.hold_answer_to("schema/a");
        let runs = tokio::spawn(async move { migrate(&kv, ttl, "first").await });
        t.soon("the request that writes to pass the proxy", proxy.trapped()).await?;
        // It may be a request that looks first.
        let there = || async { direct.exists("schema/a").await };
        let _ = t.until_within(Duration::from_secs(1), "it to happen", there).await;
        proxy.reset().await;
        proxy.heal().await;
        let ran = t.within(most + t.patience(), "the end of the one whose answer was lost", runs).await???;
        same("when it happened", ran, Ran::Now)?;
        wrote(&direct, Some("first")).await?;
        let again = t.within(most, "the answer of the next one", migrate(&direct, ttl, "second")).await??;
        same("when it happened", again, Ran::Before)
    })
    .await
}

pub(super) async fn dropped(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    let ((ttl, _), kv, other) = (lock_times(&t, LONG), t.open().await?, t.open().await?);
    let ran = dropped_at_each_poll(&t, "a migration", || migrate(&kv, ttl, "first")).await?;
    // One that was dropped may have happened, and is marked then.
    wrote(&other, Some("first")).await?;
    let next = t.soon("the answer of the next one", migrate(&other, ttl, "second")).await??;
    same(format!("when it happened for the next one, behind {ran:?}"), next, Ran::Before)?;
    wrote(&other, Some("first")).await?;
    Ok(Ended::Kept)
}
