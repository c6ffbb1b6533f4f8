//! The instances of a service, as a reader sees them.

use super::{registrations::times, *};
use crate::cases::watches::no_more_told;
use kv_recipes::{Registered, Registration, Service};

const DIRECTORY: &str = "services/web";
const BEFORE: [(&str, &str); 2] = [("a", "1"), ("b", "1")];
const AFTER: [(&str, &str); 2] = [("a", "2"), ("c", "1")];

async fn cannot(t: &Trial) -> Result<Option<Ended>, Failure> {
    // Instances are registered under leases.
    if t.capabilities().lease.is_none() {
        let what = async |kv| register(&kv, "a", Duration::from_secs(15)).await.map(drop);
        return lacking(t, &[Need::Leases], what).await;
    }
    lacking(t, &[Need::Watches], async |kv| web(&kv).await.map(drop)).await
}

async fn web(kv: &Kv) -> Result<Service<String>> {
    Service::open(kv, DIRECTORY).await
}

async fn register(kv: &Kv, name: &str, ttl: Duration) -> Result<Registered> {
    Registration::new(kv, format!("{DIRECTORY}/{name}")).json("1").ttl(ttl).register().await
}

/// Registers those that are there before.
async fn prepare(kv: &Kv, ttl: Duration) -> Result<[Registered; 2]> {
    Ok([register(kv, "a", ttl).await?, register(kv, "b", ttl).await?])
}

/// Changes the value of one, deregisters the other, and registers a third one.
async fn change(kv: &Kv, ttl: Duration, [a, b]: [Registered; 2]) -> Result<[Registered; 2]> {
    a.set_json("2").await?;
    b.deregister().await?;
    Ok([a, register(kv, "c", ttl).await?])
}

fn shown(web: &Service<String>) -> Vec<(String, String)> {
    let instances = web.instances();
    instances.iter().map(|instance| (instance.key.name().to_owned(), instance.value.clone())).collect()
}

fn pairs(set: [(&str, &str); 2]) -> Vec<(String, String)> {
    set.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// Waits until the set is what is registered then.
async fn catches_up(t: &Trial, web: &Service<String>) -> Result<(), Failure> {
    let mut changes = web.changes();
    let coming = async {
        while shown(web) != pairs(AFTER) {
            changes.next().await?;
        }
        Ok::<_, Error>(())
    };
    t.soon("the set of a service to catch up", coming).await??;
    Ok(())
}

/// Checks that the set follows what changes behind an outage.
async fn goes_on(t: &Trial, web: &Service<String>, a: &Registered) -> Result<(), Failure> {
    let mut changes = web.changes();
    a.set_json("3").await?;
    let told = async {
        while !shown(web).contains(&("a".to_owned(), "3".to_owned())) {
            changes.next().await?;
        }
        Ok::<_, Error>(())
    };
    t.soon("a change behind an outage", told).await??;
    Ok(())
}

pub(super) async fn paused(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    let ((ttl, _), process, other) = (times(&t, LONG), Process::start()?, t.open().await?);
    let instances = prepare(&other, ttl).await?;
    let ((tell, told), (wake, woken)) = (oneshot::channel(), oneshot::channel::<()>());
    let there = t.clone();
    let reader = process.run(async move {
        let kv = there.open().await?;
        let web = web(&kv).await?;
        same("the set", shown(&web), pairs(BEFORE))?;
        // The case reads it, or has failed.
        let _ = tell.send(());
        woken.await?;
        catches_up(&there, &web).await?;
        Ok(kv.close().await?)
    });
    t.soon("the set of a service", told).await??;
    let still = process.pause().await?;
    let _instances = change(&other, ttl, instances).await?;
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
        let (ttl, _) = times(&t, LONG);
        let instances = prepare(&direct, ttl).await?;
        let kv = kv.with_deadline(EACH);
        let web = t.soon("the set of a service", web(&kv)).await??;
        proxy.cut().await;
        let cut = Instant::now();
        let [a, _c] = change(&direct, ttl, instances).await?;
        same("the set of who is cut off", shown(&web), pairs(BEFORE))?;
        let away = cut.elapsed();
        holds("the age of the set grows", web.age() >= away)?;
        proxy.heal().await;
        catches_up(&t, &web).await?;
        t.soon("the set to be current", web.synced_now()).await??;
        same("the set that is current", shown(&web), pairs(AFTER))?;
        goes_on(&t, &web, &a).await
    })
    .await
}

pub(super) async fn restart(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    served(t, async |t, server, kv| {
        let ((ttl, _), kv, other) = (times(&t, LONG), kv.with_deadline(EACH), t.open().await?);
        let instances = prepare(&other, ttl).await?;
        let web = t.soon("the set of a service", web(&kv)).await??;
        let mut changes = web.changes();
        server.kill().await;
        same("the set while the server is away", shown(&web), pairs(BEFORE))?;
        server.start().await;
        let answers = || async { Ok(other.exists("services/web/a").await.is_ok()) };
        t.until("the server to answer again", answers).await?;
        same("the set when the server is back", shown(&web), pairs(BEFORE))?;
        let [a, _c] = change(&other, ttl, instances).await?;
        catches_up(&t, &web).await?;
        goes_on(&t, &web, &a).await?;
        // What was told on the way is what was changed.
        while let Ok(change) = tokio::time::timeout(Duration::from_millis(50), changes.next()).await {
            let change = change?;
            let is_true = ["a", "b", "c"].contains(&change.name.as_str());
            let kept = change.name.as_str() != "a" || change.new.is_some();
            holds(format!("{change:?} is a true change"), is_true && kept)?;
        }
        Ok(())
    })
    .await
}

pub(super) async fn answer_lost(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    linked(t, async |t, Linked { kv, proxy, direct }| {
        let ((ttl, _), kv) = (times(&t, LONG), kv.with_deadline(EACH));
        let _instances = prepare(&direct, ttl).await?;
        for answers in 0..4 {
            let what = format!("the set of a service, with a lost answer behind {answers} others");
            let web = loses_answer(&t, &proxy, answers, t.patience(), &what, web(&kv)).await??;
            same("the set", shown(&web), pairs(BEFORE))?;
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
        let ((ttl, _), kv) = (times(&t, LONG), kv.with_deadline(EACH));
        let _instances = prepare(&direct, ttl).await?;
        let web = dropped_at_each_poll(&t, "the set of a service", || web(&kv)).await?;
        same("the set", shown(&web), pairs(BEFORE))?;
        drop(web);
        no_more_told(&t, &kv, &proxy, &direct, DIRECTORY).await
    })
    .await
}
