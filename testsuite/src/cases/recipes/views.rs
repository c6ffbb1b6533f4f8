//! Views.

use super::*;
use crate::cases::watches::no_more_told;
use kv_core::Bytes;
use kv_recipes::View;

async fn cannot(t: &Trial) -> Result<Option<Ended>, Failure> {
    lacking(t, &[Need::Watches], async |kv| View::raw(&kv, "routes").await.map(drop)).await
}

fn shown(view: &View<Bytes>) -> Vec<(String, String)> {
    let text = |value: &Bytes| String::from_utf8_lossy(value).into_owned();
    let shown = view.entries().into_iter();
    shown
        .map(|entry| (entry.name.to_string(), entry.value.map(|value| text(&value)).unwrap_or_default()))
        .collect()
}

fn pairs(set: &[(&str, &str)]) -> Vec<(String, String)> {
    set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const BEFORE: &[(&str, &str)] = &[("a", "1"), ("b", "1")];
const AFTER: &[(&str, &str)] = &[("a", "2"), ("c", "1")];

/// Makes what is there before.
async fn prepare(kv: &Kv) -> Result<()> {
    kv.put("routes/a", "1").await?;
    kv.put("routes/b", "1").await?;
    Ok(())
}

/// Changes a key, deletes one, and makes one.
async fn change(kv: &Kv) -> Result<()> {
    kv.put("routes/a", "2").await?;
    kv.delete("routes/b").await?;
    kv.put("routes/c", "1").await?;
    Ok(())
}

/// Waits until the view shows what is there then.
async fn catches_up(t: &Trial, view: &View<Bytes>) -> Result<(), Failure> {
    let mut changes = view.changes();
    let coming = async {
        while shown(view) != pairs(AFTER) {
            changes.next().await?;
        }
        Ok::<_, Error>(())
    };
    t.soon("a view to catch up", coming).await??;
    Ok(())
}

/// Checks that the view is told of what is written behind an outage.
async fn goes_on(t: &Trial, view: &View<Bytes>, kv: &Kv) -> Result<(), Failure> {
    let written = kv.put("routes/a", "3").await?;
    Ok(t.soon("a change behind an outage", view.wait_for("a", written.version)).await??)
}

pub(super) async fn paused(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    let (process, other) = (Process::start()?, t.open().await?);
    prepare(&other).await?;
    let ((tell, told), (wake, woken)) = (oneshot::channel(), oneshot::channel::<()>());
    let there = t.clone();
    let reader = process.run(async move {
        let kv = there.open().await?;
        let view = View::raw(&kv, "routes").await?;
        same("the view", shown(&view), pairs(BEFORE))?;
        // The case reads it, or has failed.
        let _ = tell.send(());
        woken.await?;
        catches_up(&there, &view).await?;
        Ok(kv.close().await?)
    });
    t.soon("a view", told).await??;
    let still = process.pause().await?;
    change(&other).await?;
    wake.send(()).map_err(|()| "the other process has ended")?;
    drop(still);
    t.soon("the other process to end its work", reader).await???;
    process.kill().await?;
    Ok(Ended::Kept)
}

pub(super) async fn cut_off(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    linked(t, async |t, Linked { kv, proxy, direct }| {
        prepare(&direct).await?;
        let view = t.soon("a view", View::raw(&kv.with_deadline(EACH), "routes").into_future()).await??;
        same("the view", shown(&view), pairs(BEFORE))?;
        proxy.cut().await;
        let cut = Instant::now();
        change(&direct).await?;
        let version = direct.get("routes/c").await?.ok_or("the key is gone")?.version;
        same("the view that is cut off", shown(&view), pairs(BEFORE))?;
        let away = cut.elapsed();
        holds("the age of a view that is cut off grows", view.age() >= away)?;
        proxy.heal().await;
        catches_up(&t, &view).await?;
        view.wait_for("c", version).await?;
        t.soon("a view to be current", view.synced_now()).await??;
        same("the view that is current", shown(&view), pairs(AFTER))?;
        goes_on(&t, &view, &direct).await
    })
    .await
}

pub(super) async fn restart(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    served(t, async |t, server, kv| {
        let (kv, other) = (kv.with_deadline(EACH), t.open().await?);
        prepare(&other).await?;
        let view = t.soon("a view", View::raw(&kv, "routes").into_future()).await??;
        server.kill().await;
        same("the view while the server is away", shown(&view), pairs(BEFORE))?;
        server.start().await;
        let empty = Arc::new(AtomicUsize::new(0));
        let watches = tokio::spawn({
            let (view, empty) = (view.clone(), empty.clone());
            async move {
                let mut changes = view.changes();
                while changes.next().await.is_ok() {
                    empty.fetch_add(usize::from(view.is_empty()), SeqCst);
                }
            }
        });
        let answers = || async { Ok(other.get("routes/a").await.is_ok()) };
        t.until("the server to answer again", answers).await?;
        change(&other).await?;
        catches_up(&t, &view).await?;
        goes_on(&t, &view, &other).await?;
        watches.abort();
        same("how often the view was empty", empty.load(SeqCst), 0)
    })
    .await
}

pub(super) async fn answer_lost(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    linked(t, async |t, Linked { kv, proxy, direct }| {
        let (kv, within) = (kv.with_deadline(EACH), t.patience());
        prepare(&direct).await?;
        for answers in 0..4 {
            let what = format!("a view, with a lost answer behind {answers} others");
            let open = View::raw(&kv, "routes").into_future();
            let view = loses_answer(&t, &proxy, answers, within, &what, open).await??;
            same("the view", shown(&view), pairs(BEFORE))?;
            let what = format!("a view to be current, with a lost answer behind {answers} others");
            loses_answer(&t, &proxy, answers, within, &what, view.synced_now()).await??;
            same("the view that is current", shown(&view), pairs(BEFORE))?;
        }
        Ok(())
    })
    .await
}

pub(super) async fn dropped(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    linked(t, async |t, Linked { kv, proxy, direct }| {
        let kv = kv.with_deadline(EACH);
        prepare(&direct).await?;
        let open = || View::raw(&kv, "routes").into_future();
        let view = dropped_at_each_poll(&t, "a view", open).await?;
        same("the view", shown(&view), pairs(BEFORE))?;
        drop(view);
        no_more_told(&t, &kv, &proxy, &direct, "routes").await
    })
    .await
}
