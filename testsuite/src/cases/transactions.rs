//! Transactions.

use super::{names, text};
use crate::{
    Ended, Failure, Trial, Verdict,
    check::{differ, refused, refused_at, same},
};
use kv_core::{Condition, Error, ErrorKind, Key, Kv, Outcome, Result, Version, Written};
use std::collections::BTreeSet;

cases! {
    "transact/commit": "all writes happen, and every put answers its version" => commit,
    "transact/refused": "the first condition that is not true is named, and nothing is written" => first_false,
    "transact/conditions": "each kind of condition is true exactly when it should be" => conditions,
    "transact/steps": "conditions of the steps count in the order in which they were added" => steps,
    "transact/read-only": "conditions without writes only ask" => only_conditions,
    "transact/own-writes": "conditions speak of what was there before the writes" => before_writes,
    "transact/parents": "a key and its children can be written together, made and deleted" => parents,
    "transact/delete-missing": "deleting a missing key is no failure" => delete_missing,
    "transact/twice": "one key written twice is InvalidArgument, and nothing is written" => twice,
    "transact/too-many": "as many operations as declared work; one more is TooLarge, and nothing is written" => too_many,
    "transact/too-large": "more bytes than declared is TooLarge, and nothing is written" => too_large,
    "transact/transfer": "transfers at once keep the sum, and no reader of one moment sees half of one" => transfer,
    "transact/race": "of many transactions with one condition one happens" => race,
    "transact/fenced": "a write on condition of a lock happens while it is held, and not after" => fenced,
}

/// Returns why the case cannot be tried: there are no transactions, and one was seen to be
/// refused, or they have fewer operations than `least`. `None` where it can.
async fn ruled_out(t: &Trial, least: usize) -> Result<Option<Ended>, Failure> {
    let most = t.capabilities().max_txn_ops;
    if most == 0 {
        let kv = t.open().await?;
        refused("a transaction", kv.transact().then(kv.put("k", "")).await, ErrorKind::Unsupported)?;
        same("the key that it was to write", text(&kv, "k").await?, None)?;
        return Ok(Some(Ended::Ignored("the backend has no transactions".into())));
    }
    let few = || Ended::Ignored(format!("a transaction has {most} operations at most"));
    Ok((most < least).then(few))
}

macro_rules! needs {
    ($t:expr, $least:expr) => {
        if let Some(ended) = ruled_out(&$t, $least).await? {
            return Ok(ended);
        }
    };
}

fn committed(outcome: Outcome) -> Result<Vec<Option<Written>>, Failure> {
    match outcome {
        Outcome::Committed(written) => Ok(written),
        Outcome::Refused(refusal) => Err(refusal.to_string().into()),
    }
}

async fn commit(t: Trial) -> Verdict {
    needs!(t, 5);
    let kv = t.open().await?;
    let old = kv.put("old", "1").await?.version;
    kv.put("d/gone", "1").await?;
    let outcome = kv
        .transact()
        .when_version("old", old)
        .then(kv.put("old", "2"))
        .then(kv.put("d/new", "1"))
        .then(kv.delete("d/gone"))
        .then(kv.put("other/one", ""))
        .await?;
    let written = committed(outcome)?;
    same("how many answers", written.len(), 4)?;
    same("the answer to the delete", written[2], None)?;
    for (key, n) in [("old", 0), ("d/new", 1), ("other/one", 3)] {
        let answer = written[n].ok_or_else(|| format!("the put of {key} got no answer"))?;
        same("its version by get", kv.get(key).await?.map(|e| e.version), Some(answer.version))?;
        same("its TTL", answer.ttl, None)?;
    }
    differ("the versions of the old key", Some(old), written[0].map(|w| w.version))?;
    same("the old key", text(&kv, "old").await?, Some("2".to_owned()))?;
    same("the listing", names(&kv, "").await?, ["d/new", "old", "other/one"])?;
    Ok(Ended::Kept)
}

async fn first_false(t: Trial) -> Verdict {
    needs!(t, 6);
    let kv = t.open().await?;
    let version = kv.put("k", "1").await?.version;
    let stale = version;
    let version = kv.atomic_put("k", "1", version).await?.version;
    let write = || kv.transact().when_exists("k");
    let both = write()
        .when_version("k", stale)
        .when_missing("k")
        .then(kv.put("k", "2"))
        .then(kv.put("n", ""))
        .await?;
    refused_at("the second and the third are not true", &both, 1)?;
    let last = write()
        .when_version("k", version)
        .when_missing("k")
        .then(kv.put("k", "2"))
        .then(kv.delete("k"))
        .await;
    refused("k is written twice", last, ErrorKind::InvalidArgument)?;
    let last = write()
        .when_version("k", version)
        .when_missing("k")
        .then(kv.put("n", ""))
        .then(kv.delete("k"))
        .await?;
    refused_at("only the third is not true", &last, 2)?;
    same("the key", kv.get("k").await?.map(|e| e.version), Some(version))?;
    same("the listing", names(&kv, "").await?, ["k"])?;
    Ok(Ended::Kept)
}

async fn conditions(t: Trial) -> Verdict {
    needs!(t, 2);
    let kv = t.open().await?;
    let gone = kv.put("gone", "").await?.version;
    kv.delete("gone").await?;
    let stale = kv.put("there", "").await?.version;
    let version = kv.put("there", "").await?.version;
    let (there, gone_key) = (Key::parse("there")?, Key::parse("gone")?);
    let all = [
        (Condition::Version(there.clone(), version), true),
        (Condition::Version(there.clone(), stale), false),
        (Condition::Version(there.clone(), Version::new(0, 0)), false),
        (Condition::Version(gone_key.clone(), gone), false),
        (Condition::Version(gone_key.clone(), Version::new(0, 0)), false),
        (Condition::Exists(there.clone()), true),
        (Condition::Exists(gone_key.clone()), false),
        (Condition::Missing(there), false),
        (Condition::Missing(gone_key), true),
    ];
    for (n, (condition, expected)) in all.into_iter().enumerate() {
        let key = format!("written/{n}");
        let done = kv.transact().when(condition.clone()).then(kv.put(&key, "")).await?;
        same(format!("whether {condition:?} is true"), done.is_committed(), expected)?;
        same(format!("whether {key} was written"), kv.exists(&key).await?, expected)?;
    }
    Ok(Ended::Kept)
}

async fn steps(t: Trial) -> Verdict {
    needs!(t, 5);
    let kv = t.open().await?;
    let stale = kv.put("a", "1").await?.version;
    let version = kv.put("a", "1").await?.version;
    let done =
        kv.transact().then(kv.put("a", "2").if_version(stale)).then(kv.put("b", "").if_missing()).await?;
    refused_at("the first step's condition", &done, 0)?;
    let done = kv
        .transact()
        .when_exists("a")
        .then(kv.put("b", "").if_missing())
        .then(kv.delete("a").if_version(stale))
        .await?;
    refused_at("the last step's condition", &done, 2)?;
    let done =
        kv.transact().then(kv.put("b", "").if_missing()).then(kv.delete("a").if_version(version)).await?;
    committed(done)?;
    same("the listing", names(&kv, "").await?, ["b"])?;
    Ok(Ended::Kept)
}

async fn only_conditions(t: Trial) -> Verdict {
    needs!(t, 2);
    let kv = t.open().await?;
    let version = kv.put("k", "").await?.version;
    let done = kv.transact().when_version("k", version).when_missing("n").await?;
    same("what true conditions answer", committed(done)?, Vec::new())?;
    let done = kv.transact().when_exists("n").await?;
    refused_at("what a false one answers", &done, 0)?;
    same("what none at all answers", committed(kv.transact().await?)?, Vec::new())?;
    same("the version", kv.get("k").await?.map(|e| e.version), Some(version))?;
    Ok(Ended::Kept)
}

async fn before_writes(t: Trial) -> Verdict {
    needs!(t, 4);
    let kv = t.open().await?;
    let done =
        kv.transact().then(kv.put("a", "")).then(kv.put("b", "")).when_missing("a").when_missing("b").await?;
    committed(done)?;
    let done = kv.transact().then(kv.delete("a")).when_exists("a").await?;
    committed(done)?;
    let done = kv.transact().then(kv.put("a", "")).when_exists("a").await?;
    refused_at("what is made by it is not there before", &done, 0)?;
    Ok(Ended::Kept)
}

async fn parents(t: Trial) -> Verdict {
    needs!(t, 6);
    let kv = t.open().await?;
    let made =
        kv.transact().then(kv.put("p/c/d", "3")).then(kv.put("p", "1")).then(kv.put("p/c", "2")).await?;
    same("how many were made", committed(made)?.len(), 3)?;
    same("the listing", names(&kv, "").await?, ["p", "p/c", "p/c/d"])?;
    committed(kv.transact().then(kv.delete("p")).then(kv.put("p/x/y", "")).then(kv.delete("p/c/d")).await?)?;
    same("the listing then", names(&kv, "").await?, ["p/c", "p/x/y"])?;
    committed(kv.transact().then(kv.delete("p/c")).then(kv.delete("p/x/y")).await?)?;
    same("the listing in the end", names(&kv, "").await?, Vec::<String>::new())?;
    let made = kv.transact().when_missing("p").then(kv.put("p/c/d", "")).then(kv.put("p/c/e", "")).await?;
    committed(made)?;
    same("the listing of what was made anew", names(&kv, "").await?, ["p/c/d", "p/c/e"])?;
    Ok(Ended::Kept)
}

async fn delete_missing(t: Trial) -> Verdict {
    needs!(t, 3);
    let kv = t.open().await?;
    kv.put("d/k", "").await?;
    let done = kv.transact().then(kv.delete("none")).then(kv.delete("d")).then(kv.put("a", "")).await?;
    same("the answers to the deletes", &committed(done)?[..2], &[None, None][..])?;
    same("the listing", names(&kv, "").await?, ["a", "d/k"])?;
    Ok(Ended::Kept)
}

async fn twice(t: Trial) -> Verdict {
    needs!(t, 3);
    let kv = t.open().await?;
    let tries = [
        kv.transact().then(kv.put("x", "")).then(kv.put("a/b", "1")).then(kv.put("a//b", "2")),
        kv.transact().then(kv.put("x", "")).then(kv.put("a", "1")).then(kv.delete("a")),
        kv.transact().then(kv.put("x", "")).then(kv.delete("a")).then(kv.delete("/a")),
    ];
    for transaction in tries {
        refused("one key written twice", transaction.await, ErrorKind::InvalidArgument)?;
    }
    same("the listing", names(&kv, "").await?, Vec::<String>::new())?;
    Ok(Ended::Kept)
}

fn puts(kv: &Kv, count: usize) -> kv_core::Txn {
    (0..count).fold(kv.transact(), |txn, n| txn.then(kv.put(format!("d/{n}"), "x")))
}

async fn too_many(t: Trial) -> Verdict {
    needs!(t, 1);
    const REACHED: usize = 20_000;
    let most = t.capabilities().max_txn_ops;
    if most > REACHED {
        return Ended::ignored("a transaction has more operations than a test writes");
    }
    let kv = t.open().await?;
    refused("one operation more", puts(&kv, most + 1).await, ErrorKind::TooLarge)?;
    same("the listing", names(&kv, "").await?, Vec::<String>::new())?;
    let mixed = puts(&kv, most).when_missing("none");
    refused("one condition more", mixed.await, ErrorKind::TooLarge)?;
    same("how many puts happened", committed(puts(&kv, most).await?)?.len(), most)?;
    same("how many keys there are", names(&kv, "d").await?.len(), most)?;
    Ok(Ended::Kept)
}

async fn too_large(t: Trial) -> Verdict {
    needs!(t, 8);
    const REACHED: usize = 32 << 20;
    let (most, value) = (t.capabilities().max_txn_bytes, t.capabilities().max_value.min(8 << 20));
    if most > REACHED {
        return Ended::ignored("a transaction has more bytes than a test writes");
    }
    let kv = t.open().await?;
    let values = most / value + 1;
    if values > t.capabilities().max_txn_ops {
        return Ended::ignored("operations and values are too few and small to reach it");
    }
    let txn = |sizes: &dyn Fn(usize) -> usize| {
        (0..values).fold(kv.transact(), |txn, n| txn.then(kv.put(format!("k{n}"), vec![b'x'; sizes(n)])))
    };
    refused("every value at its greatest", txn(&|_| value).await, ErrorKind::TooLarge)?;
    same("the listing", names(&kv, "").await?, Vec::<String>::new())?;
    let name = |n| Ok::<_, Error>(kv.directory().join(&Key::parse(&format!("k{n}"))?)?.as_str().len());
    let names_too = (0..values).map(name).sum::<Result<usize, _>>()?;
    let fits = |n: usize| value.min((most - names_too).saturating_sub(value * n));
    committed(txn(&fits).deadline(std::time::Duration::from_secs(30)).await?)?;
    same("how many there are", names(&kv, "").await?.len(), values)?;
    Ok(Ended::Kept)
}

async fn transfer(t: Trial) -> Verdict {
    needs!(t, 4);
    const SUM: i64 = 1_000;
    let (kv, other) = (t.open().await?, t.open().await?);
    kv.put("d/a", SUM.to_string()).await?;
    kv.put("d/b", "0").await?;
    let transfers = (0..8).map(|n| {
        let kv = if n % 2 == 0 { kv.clone() } else { other.clone() };
        tokio::spawn(async move {
            let mut done = 0;
            while done < 10 {
                let (a, b) = accounts(&kv).await?;
                let amount = if n % 2 == 0 { 7 } else { -5 };
                let moved = kv
                    .transact()
                    .when_version("d/a", a.1)
                    .when_version("d/b", b.1)
                    .then(kv.put("d/a", (a.0 - amount).to_string()))
                    .then(kv.put("d/b", (b.0 + amount).to_string()))
                    .deadline(std::time::Duration::from_secs(30))
                    .await?;
                done += usize::from(moved.is_committed());
            }
            Ok::<_, Failure>(())
        })
    });
    let transfers: Vec<_> = transfers.collect();
    if t.capabilities().list_snapshot {
        while !transfers.iter().all(|task| task.is_finished()) {
            let sum: i64 = kv.list("d").await?.iter().filter_map(|e| e.text()?.parse::<i64>().ok()).sum();
            same("the sum that a listing shows", sum, SUM)?;
            tokio::task::yield_now().await;
        }
    }
    for task in transfers {
        t.soon("a task of ten transfers", task).await???;
    }
    let (a, b) = accounts(&kv).await?;
    same("the sum", a.0 + b.0, SUM)?;
    same("what was moved", b.0, 4 * 10 * 7 - 4 * 10 * 5)?;
    Ok(Ended::Kept)
}

type Account = (i64, Version);

async fn accounts(kv: &Kv) -> Result<(Account, Account), Failure> {
    let found = kv.get_many(["d/a", "d/b"]).await?;
    let account = |n: usize| -> Result<Account, Failure> {
        let entry = found[n].as_ref().ok_or("an account is gone")?;
        Ok((entry.text().ok_or("an account is no text")?.parse()?, entry.version))
    };
    Ok((account(0)?, account(1)?))
}

async fn race(t: Trial) -> Verdict {
    needs!(t, 3);
    let (kv, other) = (t.open().await?, t.open().await?);
    for _ in 0..5 {
        let version = kv.put("k", "").await?.version;
        let all = (0..16).map(|n| {
            let kv = if n % 2 == 0 { &kv } else { &other };
            let txn = kv
                .transact()
                .when_version("k", version)
                .then(kv.put("k", ""))
                .then(kv.put(format!("won/{n}"), ""));
            txn.into_future()
        });
        let done = futures::future::try_join_all(all).await?;
        same("how many happened", done.iter().filter(|o| o.is_committed()).count(), 1)?;
        same("how many traces they left", names(&kv, "won").await?.len(), 1)?;
        kv.delete_tree("won").await?;
    }
    Ok(Ended::Kept)
}

async fn fenced(t: Trial) -> Verdict {
    let Some(locking) = &t.capabilities().lock else {
        return Ended::ignored("the backend has no locks");
    };
    let (kv, other) = (t.open().await?, t.open().await?);
    let guard = kv.new_lock("l").acquire().await?;
    if !locking.fenced_writes {
        refused("a fenced put", kv.put("k", "1").fenced(&guard).await, ErrorKind::Unsupported)?;
        refused("a fenced delete", kv.delete("k").fenced(&guard).await, ErrorKind::Unsupported)?;
        let txn = kv.transact().when_held(&guard).then(kv.put("k", "1")).await;
        refused("a condition of a lock", txn, ErrorKind::Unsupported)?;
        same("the listing", names(&kv, "").await?, Vec::<String>::new())?;
        return Ended::ignored("writes cannot depend on a lock");
    }
    needs!(t, 2);
    let fence = guard.fence().clone();
    let (k, version) = (Key::parse("k")?, kv.put("k", "1").fenced(&guard).await?.version);
    committed(kv.transact().when_held(&guard).then(kv.put("k", "2")).await?)?;
    refused(
        "fenced, and not at the version",
        kv.atomic_put("k", "3", version).fenced(&guard).await,
        ErrorKind::KeyModified,
    )?;
    guard.release().await?;
    let held = || Condition::Held(fence.clone());
    let done = kv.transact().when(held()).then(kv.put("k", "3")).await?;
    refused_at("once it was released", &done, 0)?;
    let next = other.new_lock("l").acquire().await?;
    let done = kv.transact().when_exists(&k).when(held()).then(kv.put("k", "3")).await?;
    refused_at("once another has it", &done, 1)?;
    other.put("k", "4").fenced(&next).await?;
    same("the key", text(&kv, "k").await?, Some("4".to_owned()))?;
    let all: BTreeSet<_> = names(&kv, "").await?.into_iter().collect();
    same("the listing", all, BTreeSet::from(["k".to_owned()]))?;
    Ok(Ended::Kept)
}
