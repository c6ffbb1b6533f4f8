//! Registrations, and the instances of a service.

use super::*;
use kv_recipes::{Registered, Registration, RegistrationState, Service};

const KEY: &str = "services/web/a";
const DIRECTORY: &str = "services/web";

/// Registers an address.
async fn register(kv: &Kv, value: &str, ttl: Duration) -> Result<Registered> {
    Registration::new(kv, KEY).json(value).ttl(ttl).register().await
}

async fn cannot(t: &Trial) -> Result<Option<Ended>, Failure> {
    let what = async |kv| register(&kv, "1", Duration::from_secs(15)).await.map(drop);
    lacking(t, &[Need::Leases, Need::Watches], what).await
}

/// Returns a TTL of leases, and the time within which the key of an owner that is gone goes.
pub(super) fn times(t: &Trial, at_least: Duration) -> (Duration, Duration) {
    let Some(range) = &t.capabilities().lease else { return (at_least, at_least) };
    let ttl = range.grant(at_least.max(range.least).min(range.greatest)).unwrap_or(range.least);
    (ttl, ttl + range.lateness(ttl) + SLACK)
}

fn addresses(service: &Service<String>) -> Vec<String> {
    service.instances().iter().map(|instance| instance.value.clone()).collect()
}

/// Waits until the set is this.
async fn becomes(t: &Trial, most: Duration, service: &Service<String>, set: &[&str]) -> Result<(), Failure> {
    let mut changes = service.changes();
    let what = format!("the set to be {set:?}");
    let change = async {
        while addresses(service) != set {
            changes.next().await?;
        }
        Ok::<_, Error>(())
    };
    t.within(most, &what, change).await??;
    Ok(())
}

pub(super) async fn paused(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    let ((ttl, most), process, other) = (times(&t, LIFE), Process::start()?, t.open().await?);
    let ((tell, told), (end, ended)) = (oneshot::channel(), oneshot::channel::<()>());
    let there = t.clone();
    let owner = process.run(async move {
        let kv = there.open().await?;
        let me = register(&kv, "1", ttl).await?;
        me.set_json("2").await?;
        // The case reads it, or has failed.
        let _ = tell.send(());
        ended.await?;
        let was_there = me.deregister().await?;
        kv.close().await?;
        Ok(was_there)
    });
    t.soon("a registration", told).await??;
    let web: Service<String> = Service::open(&other, DIRECTORY).await?;
    same("the set", addresses(&web), ["2"])?;
    let still = process.pause().await?;
    in_time(&t, most, "the end of a registration that is paused", becomes(&t, most * 2, &web, &[])).await??;
    drop(still);
    becomes(&t, most + t.patience(), &web, &["2"]).await?;
    end.send(()).map_err(|()| "the other process has ended")?;
    holds("it was registered until it was deregistered", t.soon("its end", owner).await???)?;
    let mut changes = web.changes();
    becomes(&t, t.patience(), &web, &[]).await?;
    let again = tokio::time::timeout(ttl.min(Duration::from_secs(4)), async {
        while changes.next().await.is_ok_and(|change| change.new.is_none()) {}
    });
    holds("it is not put again", again.await.is_err())?;
    process.kill().await?;
    Ok(Ended::Kept)
}

pub(super) async fn killed(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    let ((ttl, most), process, other) = (times(&t, LIFE), Process::start()?, t.open().await?);
    let (tell, told) = oneshot::channel();
    let there = t.clone();
    process.run(async move {
        let kv = there.open().await?;
        let _me = register(&kv, "1", ttl).await?;
        // The case reads it, or has failed.
        let _ = tell.send(());
        for_ever::<Result<(), Failure>>().await
    });
    t.soon("a registration", told).await??;
    let web: Service<String> = Service::open(&other, DIRECTORY).await?;
    same("the set", addresses(&web), ["1"])?;
    process.kill().await?;
    in_time(&t, most, "the end of a registration of the dead", becomes(&t, most * 2, &web, &[])).await??;
    Ok(Ended::Kept)
}

pub(super) async fn cut_off(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    linked(t, async |t, Linked { kv, proxy, direct }| {
        let ((ttl, most), kv) = (times(&t, LIFE), kv.with_deadline(EACH));
        let me = t.soon("a registration", register(&kv, "1", ttl)).await??;
        let near: Service<String> = t.soon("a service", Service::open(&kv, DIRECTORY)).await??;
        let far: Service<String> = t.soon("a service", Service::open(&direct, DIRECTORY)).await??;
        same("the set", addresses(&near), ["1"])?;
        let mut changes = near.changes();
        proxy.cut().await;
        in_time(&t, most, "the end of a registration that is cut off", becomes(&t, most * 2, &far, &[]))
            .await??;
        let known = me.until(|state| matches!(state, RegistrationState::Mending { .. }));
        let state = t.soon("a registration that is cut off to know it", known).await?;
        holds(
            format!("a registration that is cut off knows it; found {state:?}"),
            matches!(state, RegistrationState::Mending { .. }),
        )?;
        same("the set of a reader that is cut off", addresses(&near), ["1"])?;
        let what = "a value that was set while it was cut off";
        let mended = async {
            proxy.heal().await;
            becomes(&t, most + t.patience(), &far, &["2"]).await?;
            becomes(&t, most + t.patience(), &near, &["2"]).await
        };
        let (set, mended) = tokio::join!(t.within(most * 2, what, me.set_json("2")), mended);
        mended?;
        set??;
        let registered = me.until(|state| matches!(state, RegistrationState::Registered));
        t.soon("the registration to know that it is mended", registered).await?;
        // The reader may have been told of what was gone meanwhile, and of nothing false.
        while let Ok(change) = tokio::time::timeout(Duration::from_millis(50), changes.next()).await {
            let new = change?.new.and_then(|entry| entry.value.ok()).map(|instance| instance.value.clone());
            holds(
                format!("a change to {new:?} is true"),
                new.is_none_or(|value| ["1", "2"].contains(&&*value)),
            )?;
        }
        holds("it was registered until it was deregistered", me.deregister().await?)
    })
    .await
}

pub(super) async fn restart(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    served(t, async |t, server, kv| {
        let ((ttl, most), kv) = (times(&t, LONG / 2), kv.with_deadline(EACH));
        let me = t.soon("a registration", register(&kv, "1", ttl)).await??;
        let web: Service<String> = t.soon("a service", Service::open(&kv, DIRECTORY)).await??;
        let mut changes = web.changes();
        let version = kv.get(KEY).await?.map(|entry| entry.version);
        server.kill().await;
        same("the set while the server is away", addresses(&web), ["1"])?;
        server.start().await;
        same("the set when the server is back", addresses(&web), ["1"])?;
        t.within(most, "the set to be read anew", web.synced_now()).await??;
        same("the set that was read anew", addresses(&web), ["1"])?;
        same("the version of the registration", kv.get(KEY).await?.map(|entry| entry.version), version)?;
        let told = tokio::time::timeout(Duration::from_millis(100), changes.next()).await;
        holds("a restart changes nothing of the set", told.is_err())?;
        holds("it was registered until it was deregistered", me.deregister().await?)
    })
    .await
}

pub(super) async fn answer_lost(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    linked(t, async |t, Linked { kv, proxy, direct }| {
        let ((ttl, most), kv) = (times(&t, LONG), kv.with_deadline(EACH));
        for answers in 0..6 {
            let what = format!("a registration, with a lost answer behind {answers} others");
            let within = most + t.patience();
            let me = loses_answer(&t, &proxy, answers, within, &what, register(&kv, "1", ttl)).await??;
            let web: Service<String> = Service::open(&direct, DIRECTORY).await?;
            same("the set", addresses(&web), ["1"])?;
            same("the id", web.instances().first().map(|i| i.id.clone()).as_deref(), Some(me.id()))?;
            holds("it was registered until it was deregistered", me.deregister().await?)?;
            same("what is left", direct.exists(KEY).await?, false)?;
        }
        Ok(())
    })
    .await
}

pub(super) async fn dropped(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    let ((ttl, _), kv, other) = (times(&t, LONG), t.open().await?, t.open().await?);
    let registers = || register(&kv, "1", ttl);
    let me = dropped_at_each_poll(&t, "a registration", registers).await?;
    drop(me);
    let gone = || async { Ok(!other.exists(KEY).await?) };
    t.until("the key of registrations that were dropped to go", gone).await?;
    kv.close().await?;
    same("what is left", other.exists(KEY).await?, false)?;
    Ok(Ended::Kept)
}
