//! Shards of work among members.

use super::*;
use kv_core::{Watch, WatchEvent};
use kv_recipes::{Shard, Shards};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::task::JoinHandle;

const SHARDS: usize = 4;

fn indexer(kv: &Kv, member: &str, ttl: Duration) -> Shards {
    Shards::new(kv, "indexer", SHARDS).member(member).ttl(ttl)
}

async fn cannot(t: &Trial) -> Result<Option<Ended>, Failure> {
    let what =
        async |kv| Err::<(), _>(indexer(&kv, "nobody", Duration::from_secs(15)).run(|_| for_ever()).await);
    lacking(t, &[Need::Fences, Need::Leases, Need::Watches], what).await
}

/// The work of all members of one case, as they have noted it.
#[derive(Clone, Default)]
struct Account(Arc<Mutex<Works>>);

#[derive(Default)]
struct Works {
    /// The member that works on each shard now, and the token under which it does.
    now: BTreeMap<usize, (&'static str, u64)>,
    /// All that was begun: the shard, the member, and the proof of owning it.
    begun: Vec<(usize, &'static str, Fence)>,
    faults: Vec<String>,
}

/// The work of one shard, which ends when this is dropped.
struct Working {
    account: Account,
    shard: usize,
    token: u64,
}

impl Account {
    fn works(&self) -> MutexGuard<'_, Works> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, member: &'static str, shard: &Shard) -> Working {
        let (id, token, works) = (shard.id(), shard.token(), &mut *self.works());
        if let Some((other, of)) = works.now.insert(id, (member, token)) {
            works.faults.push(format!("{member} began shard {id} under {token} beside {other} under {of}"));
        }
        works.begun.push((id, member, shard.fence().clone()));
        Working { account: self.clone(), shard: id, token }
    }

    /// Notes each poll of work that others have taken over.
    fn polls(&self, member: &'static str, shard: usize, token: u64) {
        let works = &mut *self.works();
        if works.now.get(&shard).is_some_and(|(_, newest)| *newest > token) {
            works.faults.push(format!("the work of {member} on shard {shard} was polled late"));
        }
    }

    /// Returns how many shards the member works on.
    fn of(&self, member: &str) -> usize {
        self.works().now.values().filter(|(who, _)| *who == member).count()
    }

    fn fine(&self) -> Result<(), Failure> {
        same("faults", self.works().faults.clone(), Vec::<String>::new())
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        let works = &mut *self.account.works();
        if works.now.get(&self.shard).is_some_and(|(_, token)| *token == self.token) {
            works.now.remove(&self.shard);
        }
    }
}

/// Takes part. A member that is stopped from outside, and cannot drop its work in time, `is_still`:
/// its work counts as ended when another begins.
async fn takes_part(kv: Kv, member: &'static str, ttl: Duration, account: Account) -> Result<(), Failure> {
    let work = {
        let kv = kv.clone();
        move |shard: Shard| {
            let (account, kv) = (account.clone(), kv.clone());
            let works = account.begin(member, &shard);
            let (id, token) = (shard.id(), shard.token());
            let mut work = Box::pin(async move {
                let _works = works;
                loop {
                    // One that comes late is refused.
                    let _ = kv.put(format!("owner/{id}"), member).fenced(&shard).await;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
            poll_fn(move |cx| {
                account.polls(member, id, token);
                work.as_mut().poll(cx)
            })
        }
    };
    Err(indexer(&kv, member, ttl).run(work).await.into())
}

fn spawned(
    kv: &Kv,
    member: &'static str,
    ttl: Duration,
    account: &Account,
) -> JoinHandle<Result<(), Failure>> {
    tokio::spawn(takes_part(kv.clone(), member, ttl, account.clone()))
}

/// Waits until the member works on so many shards.
async fn owns(
    t: &Trial,
    most: Duration,
    account: &Account,
    member: &str,
    shards: usize,
) -> Result<(), Failure> {
    let what = format!("{member} to own {shards} shards");
    t.until_within(most, &what, || async { Ok(account.of(member) == shards) }).await
}

/// Waits until two members own half of the shards each.
async fn halves(t: &Trial, most: Duration, account: &Account, members: [&str; 2]) -> Result<(), Failure> {
    for member in members {
        owns(t, most, account, member, SHARDS / 2).await?;
    }
    account.fine()
}

/// Checks that nothing that this member owned can be written any more.
async fn writes_no_more(kv: &Kv, account: &Account, member: &str) -> Result<(), Failure> {
    let begun: Vec<_> = account.works().begun.iter().filter(|(_, who, _)| *who == member).cloned().collect();
    for (shard, _, fence) in begun {
        let late = kv.put(format!("owner/{shard}"), "late").fenced(&fence).await;
        refused(format!("a late write of {member} on shard {shard}"), late, ErrorKind::LockLost)?;
    }
    Ok(())
}

/// The member `b`, which works here beside the member `a` of another process.
struct Beside {
    process: Process,
    other: Kv,
    b: JoinHandle<Result<(), Failure>>,
    account: Account,
    /// The time within which the shards of a member that is gone are another's.
    most: Duration,
}

/// Begins the two members, and waits until each works on its half of the shards.
async fn beside_a_process(t: &Trial) -> Result<Beside, Failure> {
    let ((ttl, most), process, other) = (both_times(t, LIFE), Process::start()?, t.open().await?);
    let account = Account::default();
    let (there, theirs) = (t.clone(), account.clone());
    process.run(async move { takes_part(there.open().await?, "a", ttl, theirs).await });
    let b = spawned(&other, "b", ttl, &account);
    halves(t, most + t.patience(), &account, ["a", "b"]).await?;
    Ok(Beside { process, other, b, account, most })
}

pub(super) async fn paused(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    let Beside { process, other, b, account, most } = beside_a_process(&t).await?;
    let still = process.pause().await?;
    // It cannot drop its work now; that must not go on later.
    account.works().now.retain(|_, (who, _)| *who != "a");
    in_time(&t, most, "the shards of who is paused", owns(&t, most * 2, &account, "b", SHARDS)).await??;
    writes_no_more(&other, &account, "a").await?;
    drop(still);
    halves(&t, most + t.patience(), &account, ["a", "b"]).await?;
    b.abort();
    process.kill().await?;
    Ok(Ended::Kept)
}

pub(super) async fn killed(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    let Beside { process, other, b, account, most } = beside_a_process(&t).await?;
    let kept = account.works().now.clone();
    process.kill().await?;
    in_time(&t, most, "the shards of who died", owns(&t, most * 2, &account, "b", SHARDS)).await??;
    for (shard, (member, token)) in kept.into_iter().filter(|(_, (member, _))| *member == "b") {
        let now = account.works().now.get(&shard).copied();
        same(format!("who owns shard {shard}, which need not move"), now, Some((member, token)))?;
    }
    writes_no_more(&other, &account, "a").await?;
    account.fine()?;
    b.abort();
    Ok(Ended::Kept)
}

pub(super) async fn cut_off(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    linked(t, async |t, Linked { kv, proxy, direct }| {
        let ((ttl, most), account) = (both_times(&t, LIFE), Account::default());
        let a = spawned(&kv.with_deadline(EACH), "a", ttl, &account);
        let b = spawned(&direct, "b", ttl, &account);
        halves(&t, most + t.patience(), &account, ["a", "b"]).await?;
        proxy.cut().await;
        in_time(&t, most, "the shards of who is cut off", owns(&t, most * 2, &account, "b", SHARDS))
            .await??;
        account.fine()?;
        writes_no_more(&direct, &account, "a").await?;
        proxy.heal().await;
        halves(&t, most + t.patience(), &account, ["a", "b"]).await?;
        a.abort();
        b.abort();
        Ok(())
    })
    .await
}

pub(super) async fn restart(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    served(t, async |t, server, kv| {
        let ((ttl, most), account) = (both_times(&t, Duration::from_secs(10)), Account::default());
        let (kv, other) = (kv.with_deadline(EACH), t.open().await?.with_deadline(EACH));
        let third = t.open().await?.with_deadline(EACH);
        let (a, b) = (spawned(&kv, "a", ttl, &account), spawned(&other, "b", ttl, &account));
        halves(&t, most + t.patience(), &account, ["a", "b"]).await?;
        // Members come and go meanwhile.
        server.kill().await;
        b.abort();
        let mut c = spawned(&third, "c", ttl, &account);
        let ended = tokio::time::timeout(EACH + SLACK / 4, &mut c).await;
        holds(format!("who comes in an outage waits; found {ended:?}"), ended.is_err())?;
        server.start().await;
        let answers = || async { Ok(kv.get("owner/0").await.is_ok()) };
        t.until("the server to answer again", answers).await?;
        halves(&t, most * 2 + t.patience(), &account, ["a", "c"]).await?;
        a.abort();
        c.abort();
        Ok(())
    })
    .await
}

/// Waits until the plan is written.
async fn plan(plans: &mut Watch) -> Result<()> {
    while !matches!(plans.event().await?, WatchEvent::Put(_)) {}
    Ok(())
}

/// Counts how often the plan is written from now on, until it was left alone for a moment.
async fn planned(plans: &mut Watch) -> Result<usize> {
    let mut count = 0;
    while let Ok(event) = tokio::time::timeout(SLACK / 4, plans.event()).await {
        count += usize::from(matches!(event?, WatchEvent::Put(_)));
    }
    Ok(count)
}

pub(super) async fn answer_lost(t: Trial) -> Verdict {
    if let Some(ended) = cannot(&t).await? {
        return Ok(ended);
    }
    linked(t, async |t, Linked { kv, proxy, direct }| {
        let ((ttl, most), kv) = (both_times(&t, Duration::from_secs(10)), kv.with_deadline(EACH));
        for answers in 0..5 {
            let (account, within) = (Account::default(), most + t.patience());
            direct.delete("indexer/plan").await?;
            let mut plans = direct.watch("indexer/plan").await?;
            same("the plans before there is a member", planned(&mut plans).await?, 0)?;
            let a = spawned(&kv, "a", ttl, &account);
            let what = format!("the shards of a member, with a lost answer behind {answers} others");
            let owns = owns(&t, within, &account, "a", SHARDS);
            loses_answer_to(&t, &proxy, ("indexer/plan", answers), within, &what, owns).await??;
            t.soon("the plan for one member", plan(&mut plans)).await??;
            same("how often it was planned for one member again", planned(&mut plans).await?, 0)?;
            account.fine()?;
            a.abort();
            let gone = || async {
                let members = direct.list("indexer/members").await?;
                Ok(members.is_empty() && direct.lock_holder("indexer").await?.is_none())
            };
            t.until_within(within, "a member that was dropped to go", gone).await?;
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
    let account = Account::default();
    let (a, b) = (spawned(&kv, "a", ttl, &account), spawned(&other, "b", ttl, &account));
    halves(&t, t.patience(), &account, ["a", "b"]).await?;
    a.abort();
    owns(&t, t.patience(), &account, "b", SHARDS).await?;
    account.fine()?;
    writes_no_more(&other, &account, "a").await?;
    b.abort();
    Ok(Ended::Kept)
}
