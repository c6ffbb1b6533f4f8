//! The calls on single keys, and `close`. Listings and transactions have files of their own.

use super::{names, put_all, text};
use crate::{
    Ended, Failure, Trial, Verdict,
    check::{holds, refused, same, still_held},
};
use futures::{
    StreamExt,
    future::{join, join_all, try_join_all},
};
use kv_core::{Entry, Error, ErrorKind, Guard, Kv, Lease, Version, Watch, Watching};
use std::{collections::HashMap, time::Duration};

cases! {
    "get/missing": "a missing key is None, not an error" => get_missing,
    "get/latest": "a read sees every write that was acknowledged before, by any client" => get_latest,
    "get/stale": "a stale read is allowed, and comes to the newest value" => get_stale,
    "get/one-write": "value and version are of one write, in every read, while others write" => one_write,
    "get_many/order": "the answers are in the order of the keys, with None for the missing" => get_many_order,
    "get_many/many": "hundreds of keys in one call" => get_many_many,
    "put/answer": "a put creates or replaces, and answers the version that it made" => put_answer,
    "put/last-wins": "of puts one after the other the last one's value stays" => put_last,
    "delete/answer": "delete tells whether the key was there" => delete_answer,
    "delete/at-once": "of many deletes at once one finds the key" => delete_at_once,
    "exists/answer": "exists tells whether the key is there" => exists,
    "atomic_put/create": "with None it creates the key, else KeyExists, and nothing is changed" => create,
    "atomic_put/replace": "with a version it replaces that version, else KeyModified, and nothing is changed" => replace,
    "atomic_put/gone": "with a version of a key that is gone it is KeyModified" => replace_gone,
    "atomic_put/other-key": "a version of another key does not match" => other_key,
    "atomic_put/create-race": "of many who create a key at once one does" => create_race,
    "atomic_put/counter": "64 tasks that count up by compare-and-swap lose no update" => counter,
    "atomic_put/one-winner": "of many swaps from one version one succeeds, also of the same bytes" => one_winner,
    "atomic_delete/version": "it deletes that version, else KeyModified, and nothing is changed" => delete_version,
    "atomic_delete/race": "a delete and a put from one version exclude each other" => delete_race,
    "close/idempotent": "closing twice, by any clone, is no error, and later calls give Closed" => close_twice,
    "close/waits": "waits, watches, guards and leases end with Closed, and are given back" => close_waits,
    "close/writes": "a write that is acknowledged while the handle is closed stays" => close_writes,
    "close/alone": "closing one handle disturbs no other" => close_alone,
}

async fn get_missing(t: Trial) -> Verdict {
    let kv = t.open().await?;
    same("get", text(&kv, "none").await?, None)?;
    kv.put("some/thing", "").await?;
    same("get of a name in between", text(&kv, "some").await?, None)?;
    same("get of a name below", text(&kv, "some/thing/more").await?, None)?;
    same("get of a longer name", text(&kv, "some/thing2").await?, None)?;
    Ok(Ended::Kept)
}

async fn get_latest(t: Trial) -> Verdict {
    let (kv, other) = (t.open().await?, t.open().await?);
    for n in 0..50 {
        let (writer, reader) = if n % 2 == 0 { (&kv, &other) } else { (&other, &kv) };
        let value = format!("{n}");
        writer.put("k", value.clone()).await?;
        same("what the other client reads", text(reader, "k").await?, Some(value))?;
    }
    kv.delete("k").await?;
    same("what it reads once deleted", text(&other, "k").await?, None)?;
    Ok(Ended::Kept)
}

async fn get_stale(t: Trial) -> Verdict {
    let (kv, other) = (t.open().await?, t.open().await?);
    kv.put("d/k", "1").await?;
    let is_there = |entry: Option<Entry>| entry.is_some_and(|e| e.value == "1");
    t.until("a stale get to see the put", || async { Ok(is_there(other.get("d/k").stale().await?)) }).await?;
    t.until("a stale exists", || async { other.exists("d/k").stale().await }).await?;
    t.until("a stale get_many", || async {
        Ok(is_there(other.get_many(["d/k"]).stale().await?.into_iter().next().flatten()))
    })
    .await?;
    t.until("a stale list", || async { Ok(other.list("d").stale().await?.len() == 1) }).await?;
    Ok(Ended::Kept)
}

async fn one_write(t: Trial) -> Verdict {
    const WRITES: usize = 150;
    let (kv, writer) = (t.open().await?, t.open().await?);
    kv.put("d/k", "first").await?;
    let writing = tokio::spawn(async move {
        let mut written = HashMap::new();
        for n in 0..WRITES {
            // The values have many lengths, so that half of one shows.
            let value = format!("{n}").repeat(n % 50 + 1);
            written.insert(writer.put("d/k", value.clone()).await?.version, value);
            tokio::task::yield_now().await;
        }
        Ok::<_, Error>(written)
    });
    let mut read = Vec::new();
    while !writing.is_finished() {
        read.extend(kv.get("d/k").await?);
        read.extend(kv.get_many(["d/k", "d/l"]).await?.into_iter().flatten());
        read.extend(kv.list("d").await?);
        tokio::task::yield_now().await;
    }
    let written = writing.await??;
    for entry in read.iter().filter(|entry| entry.value != "first") {
        let value = written.get(&entry.version).ok_or_else(|| format!("nobody wrote {entry:?}"))?;
        same(format!("the value of version {}", entry.version), entry.text(), Some(value.as_str()))?;
    }
    Ok(Ended::Kept)
}

async fn get_many_order(t: Trial) -> Verdict {
    let kv = t.open().await?;
    put_all(&kv, ["a", "b/c", "d"]).await?;
    let keys = ["d", "none", "b/c", "b", "a", "d", "none"];
    let found = kv.get_many(keys).await?;
    let found: Vec<_> = found.iter().map(|e| e.as_ref().map(|e| e.key.as_str())).collect();
    let expected = [Some("d"), None, Some("b/c"), None, Some("a"), Some("d"), None];
    same("the keys of the answers", found, expected)?;
    same("no keys, no answers", kv.get_many([""; 0]).await?, Vec::new())?;
    Ok(Ended::Kept)
}

async fn get_many_many(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let keys: Vec<_> = (0..300).map(|n| format!("k{n}")).collect();
    put_all(&kv, keys.iter().step_by(2)).await?;
    let found = kv.get_many(&keys).await?;
    same("how many answers", found.len(), 300)?;
    for (n, entry) in found.iter().enumerate() {
        let expected = (n % 2 == 0).then_some(keys[n].as_bytes());
        same(format!("the value of {}", keys[n]), entry.as_ref().map(|e| &e.value[..]), expected)?;
    }
    Ok(Ended::Kept)
}

async fn put_answer(t: Trial) -> Verdict {
    let kv = t.open().await?;
    for value in ["first", "second", "second"] {
        let written = kv.put("k", value).await?;
        let entry = kv.get("k").await?.ok_or("the key is not there")?;
        same("the value", entry.text(), Some(value))?;
        same("the version answered", written.version, entry.version)?;
        same("the TTL of a permanent key", written.ttl, None)?;
    }
    Ok(Ended::Kept)
}

async fn put_last(t: Trial) -> Verdict {
    let (kv, other) = (t.open().await?, t.open().await?);
    kv.put("k", "long value, much longer than the next one").await?;
    other.put("k", "x").await?;
    same("the value", text(&kv, "k").await?, Some("x".to_owned()))?;
    same("the listing", names(&kv, "").await?, ["k"])?;
    Ok(Ended::Kept)
}

async fn delete_answer(t: Trial) -> Verdict {
    let kv = t.open().await?;
    holds("delete of a missing key says no", !kv.delete("k").await?)?;
    kv.put("k", "").await?;
    holds("delete of a key says yes", kv.delete("k").await?)?;
    holds("a second one says no", !kv.delete("k").await?)?;
    same("get", text(&kv, "k").await?, None)?;
    same("the listing", names(&kv, "").await?, Vec::<String>::new())?;
    Ok(Ended::Kept)
}

async fn delete_at_once(t: Trial) -> Verdict {
    let (kv, other) = (t.open().await?, t.open().await?);
    for _ in 0..10 {
        kv.put("k", "").await?;
        let deletes = (0..8).map(|n| (if n % 2 == 0 { &kv } else { &other }).delete("k").into_future());
        let found = try_join_all(deletes).await?.into_iter().filter(|was_there| *was_there).count();
        same("how many deletes found the key", found, 1)?;
    }
    Ok(Ended::Kept)
}

async fn exists(t: Trial) -> Verdict {
    let kv = t.open().await?;
    holds("a missing key is not there", !kv.exists("d/k").await?)?;
    kv.put("d/k", "").await?;
    holds("a key is there", kv.exists("d/k").await?)?;
    holds("its directory is not", !kv.exists("d").await?)?;
    kv.delete("d/k").await?;
    holds("a deleted key is not there", !kv.exists("d/k").await?)?;
    Ok(Ended::Kept)
}

async fn create(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let first = kv.atomic_put("d/k", "first", None).await?;
    let e = refused("a second one", kv.atomic_put("d/k", "second", None).await, ErrorKind::KeyExists)?;
    holds("it is a conflict, and not transient", e.is_conflict() && !e.is_transient())?;
    refused("by if_missing", kv.put("d/k", "second").if_missing().await, ErrorKind::KeyExists)?;
    let entry = kv.get("d/k").await?.ok_or("the key is not there")?;
    same("the value", entry.text(), Some("first"))?;
    same("the version", entry.version, first.version)?;
    kv.delete("d/k").await?;
    kv.atomic_put("d/k", "third", None).await?;
    Ok(Ended::Kept)
}

async fn replace(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let first = kv.put("k", "1").await?.version;
    let second = kv.atomic_put("k", "2", first).await?.version;
    same("the value", text(&kv, "k").await?, Some("2".to_owned()))?;
    let e = refused("from the first again", kv.atomic_put("k", "3", first).await, ErrorKind::KeyModified)?;
    holds("it is a conflict, and not transient", e.is_conflict() && !e.is_transient())?;
    let entry = kv.get("k").await?.ok_or("the key is not there")?;
    same("the value after the refusal", entry.text(), Some("2"))?;
    same("the version answered", second, entry.version)?;
    kv.put("k", "4").if_version(second).await?;
    Ok(Ended::Kept)
}

async fn replace_gone(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let version = kv.put("k", "1").await?.version;
    kv.delete("k").await?;
    refused("a put", kv.atomic_put("k", "2", version).await, ErrorKind::KeyModified)?;
    same("the key", text(&kv, "k").await?, None)?;
    let never = Version::new(1, 1);
    refused("a put of what never was", kv.atomic_put("n", "2", never).await, ErrorKind::KeyModified)?;
    refused(
        "a version from nowhere",
        kv.atomic_put("n", "2", Version::new(0, 0)).await,
        ErrorKind::KeyModified,
    )?;
    same("the listing", names(&kv, "").await?, Vec::<String>::new())?;
    Ok(Ended::Kept)
}

async fn other_key(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let (a, b) = (kv.put("a", "1").await?.version, kv.put("b", "1").await?.version);
    let b2 = kv.put("b", "1").await?.version;
    for wrong in [b, b2].into_iter().filter(|v| *v != a) {
        refused("a swap", kv.atomic_put("a", "2", wrong).await, ErrorKind::KeyModified)?;
        refused("a delete", kv.atomic_delete("a", wrong).await, ErrorKind::KeyModified)?;
    }
    refused("a swap from zero", kv.atomic_put("a", "2", Version::new(0, 0)).await, ErrorKind::KeyModified)?;
    same("the value", text(&kv, "a").await?, Some("1".to_owned()))?;
    Ok(Ended::Kept)
}

/// Opens two clients, and returns a function that gives them in turn.
async fn two(t: &Trial) -> kv_core::Result<impl Fn(usize) -> Kv + use<>> {
    let clients = [t.open().await?, t.open().await?];
    Ok(move |n: usize| clients[n % 2].clone())
}

/// Counts the answers that are successes; a failure that is no conflict is an error.
fn winners<T>(answers: Vec<kv_core::Result<T>>) -> Result<usize, Failure> {
    let mut won = 0;
    for answer in answers {
        match answer {
            Ok(_) => won += 1,
            Err(e) if e.is_conflict() => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(won)
}

async fn create_race(t: Trial) -> Verdict {
    let kv = two(&t).await?;
    for round in 0..5 {
        let key = format!("d{round}/k");
        let all = (0..32).map(|n| kv(n).atomic_put(&key, format!("{n}"), None).into_future());
        same("how many created the key", winners(futures::future::join_all(all).await)?, 1)?;
    }
    Ok(Ended::Kept)
}

async fn counter(t: Trial) -> Verdict {
    const EACH: usize = 4;
    let kv = two(&t).await?;
    kv(0).put("count", "0").await?;
    let tasks = (0..64).map(|n| {
        let kv = kv(n);
        tokio::spawn(async move {
            for _ in 0..EACH {
                count_up(&kv).await?;
            }
            Ok::<_, Failure>(())
        })
    });
    t.note("64 tasks that count up");
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    same("the count", text(&kv(0), "count").await?, Some((64 * EACH).to_string()))?;
    Ok(Ended::Kept)
}

async fn count_up(kv: &Kv) -> Result<(), Failure> {
    loop {
        let entry = kv.get("count").await?.ok_or("the counter is gone")?;
        let count: usize = entry.text().ok_or("the counter is no text")?.parse()?;
        match kv.atomic_put("count", (count + 1).to_string(), entry.version).deadline(QUEUED).await {
            Ok(_) => return Ok(()),
            Err(e) if e.is_conflict() => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// The deadline of calls that queue behind many others on a slow machine.
const QUEUED: Duration = Duration::from_secs(30);

async fn one_winner(t: Trial) -> Verdict {
    let kv = two(&t).await?;
    for round in 0..10 {
        let version = kv(0).put("k", "same").await?.version;
        let all = (0..16).map(|n| {
            let value = if round % 2 == 0 { "same".to_owned() } else { format!("{n}") };
            kv(n).atomic_put("k", value, version).into_future()
        });
        same("how many swaps succeeded", winners(futures::future::join_all(all).await)?, 1)?;
    }
    Ok(Ended::Kept)
}

async fn delete_version(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let first = kv.put("k", "1").await?.version;
    let second = kv.put("k", "2").await?.version;
    let e = refused("from the first", kv.atomic_delete("k", first).await, ErrorKind::KeyModified)?;
    holds("it is a conflict", e.is_conflict())?;
    same("the value", text(&kv, "k").await?, Some("2".to_owned()))?;
    kv.atomic_delete("k", second).await?;
    same("the value once deleted", text(&kv, "k").await?, None)?;
    refused("a second time", kv.atomic_delete("k", second).await, ErrorKind::KeyModified)?;
    refused("by if_version", kv.delete("k").if_version(second).await, ErrorKind::KeyModified)?;
    Ok(Ended::Kept)
}

async fn delete_race(t: Trial) -> Verdict {
    let kv = two(&t).await?;
    for _ in 0..10 {
        let version = kv(0).put("k", "1").await?.version;
        let (put, delete) = futures::join!(
            kv(0).atomic_put("k", "2", version).into_future(),
            kv(1).atomic_delete("k", version).into_future()
        );
        let deleted = delete.is_ok();
        same("how many of the two succeeded", winners(vec![put.map(drop), delete.map(drop)])?, 1)?;
        same("whether the key is there", kv(0).exists("k").await?, !deleted)?;
    }
    Ok(Ended::Kept)
}

async fn close_twice(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let clone = kv.clone();
    kv.put("k", "").await?;
    kv.close().await?;
    clone.close().await?;
    kv.close().await?;
    holds("the clone knows", clone.is_closed())?;
    let version = Version::new(1, 0);
    refused("get", clone.get("k").await, ErrorKind::Closed)?;
    refused("get_many", clone.get_many(["k"]).await, ErrorKind::Closed)?;
    refused("exists", clone.exists("k").await, ErrorKind::Closed)?;
    refused("put", clone.put("k", "").await, ErrorKind::Closed)?;
    refused("atomic_put", clone.atomic_put("k", "", version).await, ErrorKind::Closed)?;
    refused("delete", clone.delete("k").await, ErrorKind::Closed)?;
    refused("atomic_delete", clone.atomic_delete("k", version).await, ErrorKind::Closed)?;
    refused("list", clone.list("").await, ErrorKind::Closed)?;
    refused("delete_tree", clone.delete_tree("").await, ErrorKind::Closed)?;
    refused("watch", clone.watch("k").await, ErrorKind::Closed)?;
    refused("watch_tree", clone.watch_tree("").await, ErrorKind::Closed)?;
    refused("lock", clone.new_lock("k").acquire().await, ErrorKind::Closed)?;
    refused("lock_holder", clone.lock_holder("k").await, ErrorKind::Closed)?;
    refused("lease", clone.lease(Duration::from_secs(15)).await, ErrorKind::Closed)?;
    refused("transact", clone.transact().then(clone.delete("k")).await, ErrorKind::Closed)?;
    refused("adopt", clone.adopt("").await, ErrorKind::Closed)?;
    refused("health", clone.health().await, ErrorKind::Closed)?;
    holds("the key is still there", t.open().await?.exists("k").await?)?;
    Ok(Ended::Kept)
}

async fn close_waits(t: Trial) -> Verdict {
    let (kv, other) = (t.open().await?, t.open().await?);
    let c = t.capabilities();
    if c.watch != Watching::Unsupported {
        let mut watch = kv.watch_tree("").await?;
        super::snapshot(&t, &mut watch).await?;
        let reading = tokio::spawn(async move { (end_of(&mut watch).await, watch.next().await.is_none()) });
        tokio::task::yield_now().await;
        let closing = t.open().await?;
        let mut idle = closing.watch("k").await?;
        closing.close().await?;
        let end = t.soon("the end of an idle watch", end_of(&mut idle)).await?;
        same("how an idle watch ends", end.kind(), ErrorKind::Closed)?;
        let guard = held(&t, &kv).await?;
        let lease = leased(&t, &kv).await?;
        kv.close().await?;
        let (end, over) = t.soon("the end of a watch that is read", reading).await??;
        same("how a watch ends that is read", end.kind(), ErrorKind::Closed)?;
        holds("a watch ends behind its error", over)?;
        return given_back(&t, &other, guard, lease).await;
    }
    let (guard, lease) = (held(&t, &kv).await?, leased(&t, &kv).await?);
    kv.close().await?;
    given_back(&t, &other, guard, lease).await
}

/// Reads the watch to its end, and returns the error that ends it.
async fn end_of(watch: &mut Watch) -> Error {
    loop {
        if let Err(e) = watch.event().await {
            return e;
        }
    }
}

type Waiting = tokio::task::JoinHandle<kv_core::Result<Guard>>;

/// Takes a lock, and begins to wait for it a second time; `None` where there are no locks.
async fn held(t: &Trial, kv: &Kv) -> Result<Option<(Guard, Waiting)>, Failure> {
    if t.capabilities().lock.is_none() {
        return Ok(None);
    }
    let guard = kv.new_lock("l").acquire().await?;
    let waiting = tokio::spawn(kv.new_lock("l").acquire());
    Ok(Some((guard, waiting)))
}

async fn leased(t: &Trial, kv: &Kv) -> Result<Option<Lease>, Failure> {
    let Some(range) = &t.capabilities().lease else { return Ok(None) };
    let lease = kv.lease(range.least.max(Duration::from_secs(15))).await?;
    kv.put("leased", "").lease(&lease).await?;
    Ok(Some(lease))
}

async fn given_back(t: &Trial, other: &Kv, guard: Option<(Guard, Waiting)>, lease: Option<Lease>) -> Verdict {
    if let Some((guard, waiting)) = guard {
        holds("the guard is lost", !guard.is_held())?;
        same("why", t.soon("the loss of a guard", guard.lost()).await?.kind(), ErrorKind::Closed)?;
        let waited = t.soon("the end of a wait for a lock", waiting).await??;
        refused("the wait for a lock", waited, ErrorKind::Closed)?;
        let next = t.soon("the lock, for another client", other.new_lock("l").acquire()).await??;
        still_held("the next one has it", &next)?;
        holds("releasing the lost guard says that it was not held", !guard.release().await?)?;
        next.release().await?;
    }
    if let Some(lease) = lease {
        holds("the lease is lost", !lease.is_held())?;
        same("why", t.soon("the loss of a lease", lease.lost()).await?.kind(), ErrorKind::Closed)?;
        t.until("the keys of the lease to go", || async { Ok(!other.exists("leased").await?) }).await?;
    }
    Ok(Ended::Kept)
}

async fn close_writes(t: Trial) -> Verdict {
    let other = t.open().await?;
    let ttl = t.capabilities().ttl.as_ref().map(|range| Duration::from_secs(60).min(range.greatest));
    for round in 0..6 {
        let kv = t.open().await?;
        kv.exists("connected").await?;
        let puts = (0..6).map(|n| {
            let put = kv.put(format!("d/{round}/{n}"), "v");
            match ttl.filter(|_| n % 2 == 0) {
                Some(ttl) => put.ttl(ttl).into_future(),
                None => put.into_future(),
            }
        });
        // All are under way when it closes.
        let (written, closed) = join(join_all(puts), kv.close()).await;
        closed?;
        for (n, written) in written.into_iter().enumerate() {
            let key = format!("d/{round}/{n}");
            match written {
                Ok(_) => holds(format!("{key} was acknowledged"), other.exists(&key).await?)?,
                Err(e) => holds(
                    format!("a put that did not come to its end: {e:?}"),
                    matches!(e.kind(), ErrorKind::Closed | ErrorKind::OutcomeUnknown),
                )?,
            }
        }
    }
    Ok(Ended::Kept)
}

async fn close_alone(t: Trial) -> Verdict {
    let (kv, other) = (t.open().await?, t.open().await?);
    let mut watch = match t.capabilities().watch {
        Watching::Unsupported => None,
        _ => Some(other.watch("k").await?),
    };
    kv.close().await?;
    let version = other.put("k", "1").await?.version;
    if let Some(watch) = &mut watch {
        super::told(&t, watch, "k", version).await?;
    }
    same("get", text(&other, "k").await?, Some("1".to_owned()))?;
    Ok(Ended::Kept)
}
