//! Counters.

use super::*;
use kv_recipes::Counter;
use std::convert::Infallible;

const EACH_COUNTS: i64 = 20;

fn hits(kv: &Kv) -> Counter {
    Counter::new(kv, "hits").deadline(Duration::from_secs(20))
}

async fn cannot(t: &Trial) -> Result<Option<Ended>, Failure> {
    let what = async |kv| hits(&kv).add(1).await;
    lacking(t, &[Need::Transactions, Need::Leases], what).await
}

async fn count(counter: &Counter, times: i64) -> Result<i64> {
    let mut last = 0;
    for _ in 0..times {
        last = counter.add(1).await?;
    }
    Ok(last)
}

/// Counts, and returns how many changes may or may not have been added.
async fn count_what_can_be_known(counter: &Counter, times: i64) -> Result<i64> {
    let mut unknown = 0;
    for _ in 0..times {
        match counter.add(1).await {
            Err(e) if e.kind() == ErrorKind::OutcomeUnknown => unknown += 1,
            answer => drop(answer?),
        }
    }
    Ok(unknown)
}

pub(super) async fn paused(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    let ((ttl, most), process, other) = (both_times(&t, LIFE), Process::start()?, t.open().await?);
    let (tell, told) = oneshot::channel();
    let there = t.clone();
    let counts = process.run(async move {
        let kv = there.open().await?;
        let counter = hits(&kv).ttl(ttl).deadline(LONG);
        count(&counter, EACH_COUNTS / 2).await?;
        // The case reads it, or has failed.
        let _ = tell.send(());
        let unknown = count_what_can_be_known(&counter, EACH_COUNTS / 2).await?;
        kv.close().await?;
        Ok(unknown)
    });
    t.soon("half of what is to be counted", told).await??;
    let still = process.pause().await?;
    let theirs = hits(&other).deadline(most + t.patience());
    count(&theirs, EACH_COUNTS).await?;
    // The lease of what it marks its changes by has ended then.
    tokio::time::sleep(ttl + ttl / 4).await;
    drop(still);
    let has_ended = AtomicBool::new(false);
    let ends = async {
        let ended = t.soon("the other process to count on", counts).await;
        has_ended.store(true, SeqCst);
        ended
    };
    let beside = async {
        let mut all = 2 * EACH_COUNTS;
        while !has_ended.load(SeqCst) {
            theirs.add(1).await?;
            all += 1;
        }
        Ok::<_, Error>(all)
    };
    let (ended, all) = tokio::join!(ends, beside);
    let (unknown, all) = (ended???, all?);
    // At most the one that was under way: its answer can be lost with the connection, and its
    // marker with the lease.
    holds(format!("at most one change is unknown; found {unknown}"), unknown <= 1)?;
    let sum = theirs.get().await?;
    holds(format!("{sum} is {all}, or {unknown} less"), (all - unknown..=all).contains(&sum))?;
    process.kill().await?;
    Ok(Ended::Kept)
}

/// Counts, again and again, and tells each number.
async fn counts_on(counter: Counter, tell: mpsc::UnboundedSender<i64>) -> Result<Infallible, Failure> {
    loop {
        let number = counter.add(1).await?;
        // The case reads it, or has failed.
        let _ = tell.send(number);
    }
}

pub(super) async fn killed(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    let ((ttl, most), process, other) = (both_times(&t, LIFE), Process::start()?, t.open().await?);
    let (tell, mut told) = mpsc::unbounded_channel();
    let there = t.clone();
    process.run(async move { counts_on(hits(&there.open().await?).ttl(ttl), tell).await });
    for _ in 0..EACH_COUNTS {
        t.soon("a number of another process", told.recv()).await?.ok_or("it counts no more")?;
    }
    process.kill().await?;
    let mut last = EACH_COUNTS;
    while let Ok(number) = told.try_recv() {
        last = number;
    }
    // One that was under way may have been counted.
    let counter = hits(&other).ttl(ttl).deadline(most + t.patience());
    let next = in_time(&t, most, "a number behind the death of another process", counter.add(1)).await??;
    holds(format!("{next} is one or two more than {last}"), [last + 1, last + 2].contains(&next))?;
    same("the next one", counter.add(1).await?, next + 1)?;
    Ok(Ended::Kept)
}

pub(super) async fn cut_off(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    linked(t, async |t, Linked { kv, proxy, direct }| {
        let within = Duration::from_secs(3);
        let (near, far) = (hits(&kv.with_deadline(EACH)).deadline(within), hits(&direct));
        t.soon("a first number", count(&near, 2)).await??;
        proxy.cut().await;
        let e = fails_in_time(&t, within, "a change over a cut link", near.add(1)).await?;
        proxy.heal().await;
        let sum = far.get().await?;
        let fine = sum == 2 || sum == 3 && e.kind() == ErrorKind::OutcomeUnknown;
        holds(format!("{sum} is what was told by {e:?}"), fine)
    })
    .await
}

pub(super) async fn restart(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    served(t, async |t, server, kv| {
        let (within, kv) = (Duration::from_secs(3), kv.with_deadline(EACH));
        let (near, far) = (hits(&kv), hits(&t.open().await?));
        t.soon("a first number", count(&near, 2)).await??;
        server.kill().await;
        let short = near.clone().deadline(within);
        let e = fails_in_time(&t, within, "a change without a server", short.add(1)).await?;
        server.start().await;
        for _ in 0..3 {
            // Each knows the number by what it wrote itself.
            t.soon("a change when the server is back", near.add(1)).await??;
            t.soon("a change of another", far.add(1)).await??;
        }
        let sum = far.get().await?;
        let fine = sum == 8 || sum == 9 && e.kind() == ErrorKind::OutcomeUnknown;
        holds(format!("{sum} is what was told, with {e:?} for one"), fine)
    })
    .await
}

pub(super) async fn answer_lost(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    linked(t, async |t, Linked { kv, proxy, direct }| {
        let counter = hits(&kv.with_deadline(EACH)).deadline(t.patience());
        t.soon("a first number", counter.add(1)).await??;
        for number in 2..=8 {
            proxy.hold_answer_to("hits");
            let adds = tokio::spawn({
                let counter = counter.clone();
                async move { counter.add(1).await }
            });
            t.soon("a request of the counter to pass the proxy", proxy.trapped()).await?;
            if number % 2 == 0 {
                // Once more, so that what writes is among them.
                proxy.thaw();
                proxy.hold_answer_to("hits");
                let trapped = tokio::time::timeout(Duration::from_millis(200), proxy.trapped());
                // It depends on the backend whether there is another request.
                let _ = trapped.await;
            }
            proxy.reset().await;
            proxy.heal().await;
            same("the number", t.soon("a number whose answer was lost", adds).await???, number)?;
        }
        same("the sum", hits(&direct).get().await?, 8)
    })
    .await
}

pub(super) async fn dropped(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    let (kv, other) = (t.open().await?, t.open().await?);
    let counter = hits(&kv);
    let begun = AtomicUsize::new(0);
    let add = || {
        begun.fetch_add(1, SeqCst);
        counter.add(1)
    };
    let last = dropped_at_each_poll(&t, "a change", add).await?;
    let begun = i64::try_from(begun.load(SeqCst))?;
    holds(format!("{last} is at most {begun}, and at least 1"), (1..=begun).contains(&last))?;
    // What was dropped is decided by then, and each change counts once.
    let next = hits(&other).add(1).await?;
    holds(format!("{next} is at most {}", begun + 1), next <= begun + 1)?;
    same("what the one who dropped them counts next", counter.add(1).await?, next + 1)?;
    Ok(Ended::Kept)
}
