//! Groups of processes that see each other.

use super::{registrations::times, *};
use kv_recipes::{Group, Membership, RegistrationState, Service};

const DIRECTORY: &str = "workers";

fn workers(kv: &Kv, ttl: Duration) -> Group {
    Group::new(kv, DIRECTORY).ttl(ttl)
}

async fn join(kv: &Kv, name: &str, ttl: Duration) -> Result<Membership<String>> {
    workers(kv, ttl).join(name, &name.to_owned()).await
}

async fn cannot(t: &Trial) -> Result<Option<Ended>, Failure> {
    let what = async |kv| join(&kv, "a", Duration::from_secs(15)).await.map(drop);
    lacking(t, &[Need::Leases, Need::Watches], what).await
}

fn names(group: &Service<String>) -> Vec<String> {
    group.instances().iter().map(|member| member.key.name().to_owned()).collect()
}

/// Waits until the group is this.
async fn becomes(t: &Trial, most: Duration, group: &Service<String>, set: &[&str]) -> Result<(), Failure> {
    let mut changes = group.changes();
    let what = format!("the group to be {set:?}");
    let change = async {
        while names(group) != set {
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
    let member = process.run(async move {
        let kv = there.open().await?;
        let me = join(&kv, "a", ttl).await?;
        // The case reads it, or has failed.
        let _ = tell.send(());
        ended.await?;
        me.synced_now().await?;
        let seen = names(me.service());
        let was_there = me.leave().await?;
        kv.close().await?;
        Ok((seen, was_there))
    });
    t.soon("a member", told).await??;
    let me = t.soon("another member", join(&other, "b", ttl)).await??;
    same("the group", names(me.service()), ["a", "b"])?;
    let still = process.pause().await?;
    let gone = becomes(&t, most * 2, me.service(), &["b"]);
    in_time(&t, most, "the end of a member that is paused", gone).await??;
    drop(still);
    becomes(&t, most + t.patience(), me.service(), &["a", "b"]).await?;
    end.send(()).map_err(|()| "the other process has ended")?;
    let (seen, was_there) = t.soon("the member that was paused to leave", member).await???;
    same("the group as it sees it", seen, ["a", "b"])?;
    holds("it was in the group until it left", was_there)?;
    becomes(&t, t.patience(), me.service(), &["b"]).await?;
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
        let _me = join(&kv, "a", ttl).await?;
        // The case reads it, or has failed.
        let _ = tell.send(());
        for_ever::<Result<(), Failure>>().await
    });
    t.soon("a member", told).await??;
    let me = t.soon("another member", join(&other, "b", ttl)).await??;
    same("the group", names(me.service()), ["a", "b"])?;
    process.kill().await?;
    in_time(&t, most, "the end of a member that died", becomes(&t, most * 2, me.service(), &["b"])).await??;
    holds("it was in the group until it left", me.leave().await?)?;
    Ok(Ended::Kept)
}

pub(super) async fn cut_off(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    linked(t, async |t, Linked { kv, proxy, direct }| {
        let ((ttl, most), kv) = (times(&t, LIFE), kv.with_deadline(EACH));
        let far = t.soon("a member", join(&direct, "b", ttl)).await??;
        let near = t.soon("another member", join(&kv, "a", ttl)).await??;
        becomes(&t, t.patience(), far.service(), &["a", "b"]).await?;
        proxy.cut().await;
        let gone = becomes(&t, most * 2, far.service(), &["b"]);
        in_time(&t, most, "the end of a member that is cut off", gone).await??;
        same("the group as who is cut off sees it", names(near.service()), ["a", "b"])?;
        let known = near.until(|state| matches!(state, RegistrationState::Mending { .. }));
        let state = t.soon("a member that is cut off to know it", known).await?;
        let is_known = matches!(state, RegistrationState::Mending { .. });
        holds(format!("a member that is cut off knows it; found {state:?}"), is_known)?;
        proxy.heal().await;
        becomes(&t, most + t.patience(), far.service(), &["a", "b"]).await?;
        let joined = near.until(|state| matches!(state, RegistrationState::Registered));
        t.soon("the member to know that it has joined again", joined).await?;
        t.soon("the group to be known", near.synced_now()).await??;
        same("the group as it sees it then", names(near.service()), ["a", "b"])?;
        holds("it was in the group until it left", near.leave().await?)?;
        holds("so was the other", far.leave().await?)
    })
    .await
}

pub(super) async fn restart(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    served(t, async |t, server, kv| {
        let ((ttl, most), kv) = (times(&t, LONG / 2), kv.with_deadline(EACH));
        let other = t.open().await?.with_deadline(EACH);
        let b = t.soon("a member", join(&other, "b", ttl)).await??;
        let a = t.soon("another member", join(&kv, "a", ttl)).await??;
        same("the group", names(a.service()), ["a", "b"])?;
        let mut changes = a.changes();
        server.kill().await;
        same("the group while the server is away", names(a.service()), ["a", "b"])?;
        server.start().await;
        t.within(most, "the group to be read anew", a.synced_now()).await??;
        same("the group that was read anew", names(a.service()), ["a", "b"])?;
        let told = tokio::time::timeout(Duration::from_millis(100), changes.next()).await;
        holds("a restart changes nothing of the group", told.is_err())?;
        holds("it was in the group until it left", a.leave().await?)?;
        holds("so was the other", b.leave().await?)
    })
    .await
}

pub(super) async fn answer_lost(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    linked(t, async |t, Linked { kv, proxy, direct }| {
        let ((ttl, most), kv) = (times(&t, LONG), kv.with_deadline(EACH));
        let group: Service<String> = workers(&direct, ttl).observe().await?;
        for answers in 0..6 {
            let what = format!("a member, with a lost answer behind {answers} others");
            let within = most + t.patience();
            let me = loses_answer(&t, &proxy, answers, within, &what, join(&kv, "a", ttl)).await??;
            becomes(&t, t.patience(), &group, &["a"]).await?;
            same("the group as the member sees it", names(me.service()), ["a"])?;
            holds("it was in the group until it left", me.leave().await?)?;
            becomes(&t, t.patience(), &group, &[]).await?;
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
    let me = dropped_at_each_poll(&t, "a member", || join(&kv, "a", ttl)).await?;
    drop(me);
    let gone = || async { Ok(other.list(DIRECTORY).await?.is_empty()) };
    t.until("members that were dropped to go", gone).await?;
    kv.close().await?;
    holds("nothing is left", other.list(DIRECTORY).await?.is_empty())?;
    Ok(Ended::Kept)
}
