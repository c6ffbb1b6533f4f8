//! Elections.

use super::*;
use kv_recipes::{Election, Leaders, Leadership, Term};

fn candidate(kv: &Kv, name: &str, ttl: Duration) -> Election {
    Election::new(kv, "app/leader").candidate(name).value(format!("{name}:80")).ttl(ttl)
}

async fn cannot(t: &Trial) -> Result<Option<Ended>, Failure> {
    lacking(t, &[Need::Fences], async |kv| Election::new(&kv, "app/leader").campaign().await).await
}

/// Begins to observe; `None` on a store without watches.
async fn observers(t: &Trial, kv: &Kv) -> Result<Option<Leaders>, Failure> {
    if t.capabilities().watch == Watching::Unsupported {
        return Ok(None);
    }
    Ok(Some(
        t.soon("an observer of an election", candidate(kv, "sees", lock_times(t, LIFE).0).observe())
            .await??,
    ))
}

/// Reads on until this term is told; before it nothing may be told but that nobody leads.
async fn sees(t: &Trial, leaders: &mut Option<Leaders>, term: u64) -> Result<(), Failure> {
    let Some(leaders) = leaders else { return Ok(()) };
    loop {
        match t.soon("an observer to see the leader", leaders.next()).await?? {
            Leadership::Vacant => {}
            Leadership::Leader(leader) => return same("the term that is seen next", leader.term, term),
        }
    }
}

pub(super) async fn paused(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    let ((ttl, most), process, other) = (lock_times(&t, LIFE), Process::start()?, t.open().await?);
    let (tell, mut terms) = mpsc::unbounded_channel::<(u64, Fence)>();
    let (newest, is_over) = (Newest::default(), Arc::new(AtomicBool::new(false)));
    let leads = process.run({
        let (t, newest, is_over) = (t.clone(), newest.clone(), is_over.clone());
        async move {
            let kv = t.open().await?;
            let work = |term: Term| {
                // The case reads it, or has failed.
                let _ = tell.send((term.number(), term.fence().clone()));
                let (kv, is_over) = (kv.clone(), is_over.clone());
                newest.watches(term.number(), async move {
                    while !is_over.load(SeqCst) {
                        kv.put("app/plan", "first").fenced(&term).await?;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    Ok::<_, Error>(())
                })
            };
            candidate(&kv, "first", ttl).lead(work).await?;
            Ok(kv.close().await?)
        }
    });
    let (first, fence) = t.soon("a leader", terms.recv()).await?.ok_or("nobody leads")?;
    let still = process.pause().await?;
    let next = candidate(&other, "second", ttl);
    let second = in_time(&t, most, "the office of a leader that is paused", next.campaign()).await??;
    newest.is(second.number());
    holds("the number of the term grows", second.number() > first)?;
    other.put("app/plan", "second").fenced(&second).await?;
    drop(still);
    let late = other.put("app/plan", "late").fenced(&fence).await;
    refused("a late write of the leader before", late, ErrorKind::LockLost)?;
    t.soon("the other process to go on", process.run(async { Ok(()) })).await???;
    same("what is written", text(&other, "app/plan").await?.as_deref(), Some("second"))?;
    holds("it led until it resigned", second.resign().await?)?;
    let (third, _) = t
        .within(most + t.patience(), "the first one to lead again", terms.recv())
        .await?
        .ok_or("it leads no more")?;
    holds("the number of the term grows again", third > first)?;
    newest.never_late("the work of a leader that was paused")?;
    is_over.store(true, SeqCst);
    t.soon("the work to end", leads).await???;
    process.kill().await?;
    Ok(Ended::Kept)
}

/// Has a candidate lead in another process, for ever; returns the number of its term.
async fn leads_in(process: &Process, t: &Trial, ttl: Duration) -> Result<u64, Failure> {
    let (tell, told) = oneshot::channel();
    let there = t.clone();
    process.run(async move {
        let kv = there.open().await?;
        let term = candidate(&kv, "first", ttl).campaign().await?;
        // The case reads it, or has failed.
        let _ = tell.send(term.number());
        for_ever::<Result<(), Failure>>().await
    });
    Ok(t.soon("a leader in another process", told).await??)
}

pub(super) async fn killed(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    let ((ttl, most), process, other) = (lock_times(&t, LIFE), Process::start()?, t.open().await?);
    let first = leads_in(&process, &t, ttl).await?;
    let mut leaders = observers(&t, &other).await?;
    sees(&t, &mut leaders, first).await?;
    let waits = tokio::spawn({
        let next = candidate(&other, "second", ttl);
        async move { next.campaign().await }
    });
    process.kill().await?;
    let second = in_time(&t, most, "the office of a leader that died", waits).await???;
    holds("the number of the term grows", second.number() > first)?;
    sees(&t, &mut leaders, second.number()).await?;
    holds("it led until it resigned", second.resign().await?)?;
    Ok(Ended::Kept)
}

pub(super) async fn cut_off(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    linked(t, async |t, Linked { kv, proxy, direct }| {
        let ((ttl, most), kv) = (lock_times(&t, LIFE), kv.with_deadline(EACH));
        let first = t.soon("an office that is free", candidate(&kv, "first", ttl).campaign()).await??;
        let mut leaders = observers(&t, &kv).await?;
        sees(&t, &mut leaders, first.number()).await?;
        proxy.cut().await;
        let next = candidate(&direct, "second", ttl);
        let second = in_time(&t, most, "the office of a leader that is cut off", next.campaign()).await??;
        holds("a leader that is cut off knows of its loss when another leads", !first.is_held())?;
        if let Some(leaders) = &mut leaders {
            let heard = tokio::time::timeout(Duration::from_millis(300), leaders.next()).await;
            let false_news = matches!(&heard, Ok(Ok(Leadership::Leader(_))));
            holds(
                format!("an observer that is cut off hears of no leader; it heard {heard:?}"),
                !false_news,
            )?;
        }
        proxy.heal().await;
        sees(&t, &mut leaders, second.number()).await?;
        holds("it led until it resigned", second.resign().await?)?;
        not_held("the end of a term that was lost", first.resign().await)
    })
    .await
}

pub(super) async fn restart(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    served(t, async |t, server, kv| {
        let ((ttl, most), kv) = (lock_times(&t, Duration::from_secs(10)), kv.with_deadline(EACH));
        let first = t.soon("an office that is free", candidate(&kv, "first", ttl).campaign()).await??;
        let other = t.open().await?.with_deadline(EACH);
        server.kill().await;
        server.start().await;
        let waits = tokio::spawn({
            let next = candidate(&other, "second", ttl);
            async move { next.campaign().await }
        });
        let leader = || async { candidate(&other, "sees", ttl).leader().await };
        let answers = || async { Ok(leader().await.is_ok()) };
        t.until("the server to answer again", answers).await?;
        if first.is_held() {
            let term = leader().await?.map(|leader| leader.term);
            // A lock that was lost on the server is known to be lost a little later.
            if term.is_some_and(|term| term != first.number()) {
                return holds("of two terms one is over", !first.is_held());
            }
            first.proclaim("again").await.or_else(|e| match e.kind() {
                ErrorKind::LockLost => Ok(()),
                _ => Err(e),
            })?;
        }
        // It is over already, or ends here.
        let _ = first.resign().await;
        let second = t.within(most + t.patience(), "the next leader after a restart", waits).await???;
        holds("it led until it resigned", second.resign().await?)
    })
    .await
}

pub(super) async fn answer_lost(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    linked(t, async |t, Linked { kv, proxy, direct }| {
        let ((ttl, most), kv) = (lock_times(&t, LIFE), kv.with_deadline(EACH));
        // The answer that is lost is that of the lock, or of what takes office: what writes there
        // comes behind a read.
        for (request, reads) in [("app/leader", 0), ("app/leader/leader", 0), ("app/leader/leader", 1)] {
            proxy.hold_answer_to(request);
            let campaign = tokio::spawn({
                let first = candidate(&kv, "first", ttl);
                async move { first.campaign().await }
            });
            for _ in 0..reads {
                t.soon("a request of the candidate to pass the proxy", proxy.trapped()).await?;
                proxy.thaw();
                proxy.hold_answer_to(request);
            }
            t.soon("a request of the candidate to pass the proxy", proxy.trapped()).await?;
            proxy.reset().await;
            proxy.heal().await;
            let what = "a candidate whose answer was lost";
            let first = t.within(most + t.patience(), what, campaign).await???;
            let leader = candidate(&direct, "sees", ttl).leader().await?.map(|leader| leader.term);
            same("the term that others see", leader, Some(first.number()))?;
            holds("it led until it resigned", first.resign().await?)?;
            // A second place in line would be there for as long as its TTL.
            let next = candidate(&direct, "second", ttl);
            let second =
                t.within(most, "the office that its leader resigned from", next.campaign()).await??;
            holds("it led until it resigned", second.resign().await?)?;
        }
        Ok(())
    })
    .await
}

pub(super) async fn dropped(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    let ((ttl, _), kv, other) = (lock_times(&t, LONG), t.open().await?, t.open().await?);
    let campaign = || {
        let first = candidate(&kv, "first", ttl);
        async move { first.campaign().await }
    };
    let first = dropped_at_each_poll(&t, "a campaign for an office that is free", campaign).await?;
    for polls in 1..=20 {
        // Once it is in line, it is polled when something comes.
        let second = candidate(&other, "second", ttl);
        let waits = polled(second.campaign(), polls);
        let got = tokio::time::timeout(Duration::from_millis(100), waits).await;
        holds("nobody leads beside a leader", !matches!(got, Ok(Some(_))))?;
    }
    holds("it led until it resigned", first.resign().await?)?;
    let next = t.soon("an office that nobody waits for", candidate(&kv, "third", ttl).campaign()).await??;
    holds("it led until it resigned", next.resign().await?)?;
    Ok(Ended::Kept)
}
