//! Shards of work among members.

mod common;

use common::{Pair, S, pair, until};
use kv_core::{ErrorKind, Kv, Result};
use kv_memory::Calls;
use kv_recipes::{Shard, Shards};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tokio::task::JoinHandle;

const SHARDS: usize = 64;

/// The account of the resource that the shards guard: who works on each shard now, and how often an
/// owner began.
#[derive(Clone, Default)]
struct Account(Arc<Mutex<(BTreeMap<usize, &'static str>, usize)>>);

struct Works(Account, usize);

impl Account {
    fn begin(&self, shard: usize, member: &'static str) -> Works {
        let mut account = self.0.lock().unwrap();
        let other = account.0.insert(shard, member);
        assert!(other.is_none(), "shard {shard} has two owners: {other:?} and {member}");
        account.1 += 1;
        drop(account);
        Works(self.clone(), shard)
    }

    /// Counts the shards of each member.
    fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.0.lock().unwrap().0.values() {
            *counts.entry(*member).or_default() += 1;
        }
        counts
    }

    fn owned(&self) -> BTreeMap<usize, &'static str> {
        self.0.lock().unwrap().0.clone()
    }

    fn began(&self) -> usize {
        self.0.lock().unwrap().1
    }
}

impl Drop for Works {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().0.remove(&self.1);
    }
}

fn member(kv: &Kv, name: &'static str, weight: u32, account: &Account) -> JoinHandle<ErrorKind> {
    let shards = Shards::new(kv, "index", SHARDS).member(name).weight(weight).ttl(9 * S);
    let account = account.clone();
    tokio::spawn(async move {
        let work = move |shard: Shard| {
            let account = account.clone();
            async move {
                let _works = account.begin(shard.id(), name);
                std::future::pending().await
            }
        };
        shards.run(work).await.kind()
    })
}

/// Waits until each shard has an owner, and each member so many.
async fn are(account: &Account, counts: &[(&'static str, usize)]) {
    let counts = BTreeMap::from_iter(counts.iter().copied());
    until("all shards are owned evenly", async || account.counts() == counts).await;
}

async fn done(p: &Pair, members: impl IntoIterator<Item = JoinHandle<ErrorKind>>) {
    for member in members {
        member.abort();
        assert!(member.await.unwrap_err().is_cancelled());
    }
    p.only_left(&["index/plan"]).await;
}

#[tokio::test(start_paused = true)]
async fn shards_are_shared_and_only_those_of_the_dead_move() -> Result<()> {
    let (p, account) = (pair().await, Account::default());
    let names = ["a", "b", "c", "d"];
    let [a, b, c, d] = names.map(|name| member(&p.kv, name, 1, &account));
    are(&account, &names.map(|name| (name, 16))).await;
    let (before, began) = (account.owned(), account.began());
    tokio::time::sleep(600 * S).await;
    assert_eq!((account.owned(), account.began()), (before.clone(), began), "nothing moves without a cause");

    b.abort();
    until("the others have all", async || {
        let counts = account.counts();
        counts.len() == 3 && counts.values().sum::<usize>() == SHARDS
    })
    .await;
    for (shard, owner) in account.owned() {
        assert!(
            before[&shard] == owner || before[&shard] == "b",
            "shard {shard} of {} moved",
            before[&shard]
        );
    }
    assert_eq!(account.began() - began, 16, "no more moved than it had");

    let e = member(&p.other, "e", 1, &account);
    are(&account, &["a", "c", "d", "e"].map(|name| (name, 16))).await;
    let heavy = member(&p.other, "heavy", 4, &account);
    are(&account, &[("a", 8), ("c", 8), ("d", 8), ("e", 8), ("heavy", 32)]).await;
    let idle = member(&p.other, "idle", 0, &account);
    tokio::time::sleep(60 * S).await;
    assert_eq!(account.counts().len(), 5);
    done(&p, [a, c, d, e, heavy, idle]).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_cut_off_stops_before_others_own_its_shards() -> Result<()> {
    let (p, account) = (pair().await, Account::default());
    let a = member(&p.kv, "a", 1, &account);
    let b = member(&p.other, "b", 1, &account);
    are(&account, &[("a", 32), ("b", 32)]).await;
    for _ in 0..5 {
        p.faults.pause();
        let began = tokio::time::Instant::now();
        are(&account, &[("b", 64)]).await; // the account panics if two own one
        assert!(began.elapsed() < 12 * S, "{:?}", began.elapsed());
        tokio::time::sleep(30 * S).await;
        p.faults.resume();
        are(&account, &[("a", 32), ("b", 32)]).await;
    }
    done(&p, [a, b]).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn under_kills_and_lost_answers_no_shard_has_two_owners() -> Result<()> {
    let (p, account) = (pair().await, Account::default());
    let names = ["m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7"];
    let kv = |n: usize| if n.is_multiple_of(2) { &p.kv } else { &p.other };
    let start = |(n, name)| member(kv(n), name, 1, &account);
    let mut members: Vec<_> = names.into_iter().enumerate().map(start).collect();
    for round in 0..40 {
        let n = (round * 5) % 8;
        members[n].abort();
        match round % 4 {
            0 => p.faults.lose_answers(3),
            1 => p.faults.fail(Calls::Writes, ErrorKind::OutcomeUnknown, 3),
            2 => p.faults.cut_watches(),
            _ => p.faults.evict_lock("index").map(drop)?, // whoever plans is deposed
        }
        tokio::time::sleep(2 * S).await;
        members[n] = member(kv(n), names[n], 1, &account);
        until("each has its share again", async || {
            let counts = account.counts();
            counts.len() == 8 && counts.values().all(|count| *count == 8)
        })
        .await;
    }
    p.faults.clear();
    done(&p, members).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn late_writes_of_an_owner_of_before_are_refused() -> Result<()> {
    let p = pair().await;
    let (told, mut owned) = tokio::sync::mpsc::unbounded_channel();
    let owns = |kv: &Kv| {
        let (shards, told) = (Shards::new(kv, "index", 1).ttl(9 * S), told.clone());
        tokio::spawn(async move {
            let work = move |shard: Shard| {
                told.send(shard).unwrap();
                std::future::pending()
            };
            shards.run(work).await.kind()
        })
    };
    let first = owns(&p.kv);
    let old = owned.recv().await.unwrap();
    p.kv.put("data", "1").fenced(&old).await?;
    let second = owns(&p.other);
    p.faults.pause();
    let new = owned.recv().await.unwrap();
    assert!(new.token() > old.token() && new.id() == old.id());
    p.faults.resume();
    assert_eq!(p.kv.put("data", "late").fenced(&old).await.unwrap_err().kind(), ErrorKind::LockLost);
    p.other.put("data", "2").fenced(&new).await?;
    p.other.delete("data").await?;
    done(&p, [first, second]).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_ends_it_is_returned() -> Result<()> {
    let (p, account) = (pair().await, Account::default());
    let ends = async |shards: Shards| shards.run(|_| std::future::ready(())).await.kind();
    assert_eq!(ends(Shards::new(&p.kv, "..", 1)).await, ErrorKind::InvalidKey);
    assert_eq!(ends(Shards::new(&p.kv, "index", 0)).await, ErrorKind::InvalidArgument);
    assert_eq!(ends(Shards::new(&p.kv, "index", 9000)).await, ErrorKind::InvalidArgument);
    let a = member(&p.kv, "a", 1, &account);
    are(&account, &[("a", SHARDS)]).await;
    assert_eq!(ends(Shards::new(&p.other, "index", 7)).await, ErrorKind::InvalidArgument);
    p.kv.close().await?;
    assert_eq!(a.await.unwrap(), ErrorKind::Closed);
    until("no work goes on", async || account.owned().is_empty()).await;
    p.only_left(&["index/plan"]).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_work_is_the_members_own() {
    let p = pair().await;
    let shards = Shards::new(&p.kv, "index", 3);
    let ran = tokio::spawn(async move {
        shards.run(|shard| async move { assert_ne!(shard.id(), 1, "the work fails") }).await.kind()
    });
    assert!(ran.await.unwrap_err().is_panic());
    p.only_left(&["index/plan"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_somebody_replaces_or_deletes_is_made_anew() -> Result<()> {
    let (p, account) = (pair().await, Account::default());
    let (a, b) = (member(&p.kv, "a", 1, &account), member(&p.other, "b", 1, &account));
    are(&account, &[("a", 32), ("b", 32)]).await;
    let began = account.began();
    let planned = p.other.get("index/plan").await?.unwrap();
    p.other.delete("index/plan").await?;
    until("it is planned anew", async || p.other.exists("index/plan").await.unwrap()).await;
    assert_eq!(p.other.get("index/plan").await?.unwrap().value.len(), planned.value.len());
    are(&account, &[("a", 32), ("b", 32)]).await;
    // A plan of members that are gone, out of a backup say.
    let owners: Vec<_> = (0..SHARDS).map(|_| r#""gone""#).collect();
    p.other.put("index/plan", format!(r#"{{"v":1,"owners":[{}]}}"#, owners.join(","))).await?;
    until("the shards are let go", async || account.counts().values().sum::<usize>() < SHARDS).await;
    are(&account, &[("a", 32), ("b", 32)]).await;
    assert!(account.began() > began);
    // It is planned once for each change.
    let version = p.other.get("index/plan").await?.unwrap().version;
    tokio::time::sleep(60 * S).await;
    assert_eq!(p.other.get("index/plan").await?.unwrap().version, version);
    done(&p, [a, b]).await;
    Ok(())
}
