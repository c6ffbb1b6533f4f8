//! Handles on a part of the tree.

use super::{names, text, watches::Follower};
use crate::{
    Ended, Failure, Trial, Verdict,
    check::{holds, refused, refused_at, same},
};
use kv_core::{Directory, ErrorKind, Key, Kv, WatchEvent, Watching};

cases! {
    "within/calls": "calls of a part are those on the keys below its directory, and answer by their names in it" => calls,
    "within/apart": "a part sees and deletes nothing outside of its directory" => apart,
    "within/watches": "watches of a part tell of the keys below its directory alone, by their names in it" => watches,
    "within/locks": "a lock and a lease are the same for the part and for the whole, and a fence holds for both" => locks,
    "within/transactions": "a transaction takes steps of the part and of the whole, and a refusal names the condition as it was given" => transactions,
}

/// Opens the whole store, a part of it, and another client of the whole.
async fn open(t: &Trial) -> Result<(Kv, Kv, Kv), Failure> {
    let kv = t.open().await?;
    let part = kv.within("app/")?;
    Ok((kv, part, t.open().await?))
}

async fn calls(t: Trial) -> Verdict {
    let (kv, part, other) = open(&t).await?;
    let made = part.put("/d//a", "1").await?.version;
    part.atomic_put("d/b", "2", None).await?;
    part.put("c", "3").await?;
    same("the listing of the whole", names(&other, "").await?, ["app/c", "app/d/a", "app/d/b"])?;
    same("the listing of the part", names(&part, "").await?, ["c", "d/a", "d/b"])?;
    same("a directory of the part", names(&part, "d").await?, ["d/a", "d/b"])?;
    let found = part.get("d/a").await?.ok_or("a key of the part is missing")?;
    same("the key of an entry", (found.key.as_str(), found.version), ("d/a", made))?;
    let found = part.get_many(["d/b", "none", "c"]).await?;
    let found: Vec<_> = found.iter().map(|entry| entry.as_ref().map(|entry| entry.key.as_str())).collect();
    same("the keys of many entries", found, vec![Some("d/b"), None, Some("c")])?;
    let behind = part.list("").start_after(Key::parse("c")?).limit(1).keys().await?;
    same("what is listed behind a key", behind, [Key::parse("d/a")?])?;
    let behind = part.list("").start_after(Directory::parse("d")?).keys().await?;
    same("what is listed behind a directory", behind, [Key::parse("d/a")?, Key::parse("d/b")?])?;
    let children = part.list("").child_keys().await?;
    let children: Vec<_> = children.iter().map(|item| item.position().start()).collect();
    same("the children of the part", children, ["c", "d/"])?;
    let inner = part.within("d")?;
    same("the keys of a part of the part", names(&inner, "").await?, ["a", "b"])?;
    let late = refused("a put at a stale version", stale(&inner, made).await?, ErrorKind::KeyModified)?;
    same("the key of its error", late.key(), Some("a"))?;
    holds("a key is there by both names", inner.exists("a").await? && other.exists("app/d/a").await?)?;
    holds("a delete finds its key", inner.delete("b").await?)?;
    same("what is left of the whole", names(&kv, "").await?, ["app/c", "app/d/a"])?;
    Ok(Ended::Kept)
}

/// Writes a key, and then once more at the version from before that.
async fn stale(kv: &Kv, seen: kv_core::Version) -> Result<kv_core::Result<kv_core::Written>, Failure> {
    kv.put("a", "2").if_version(seen).await?;
    Ok(kv.put("a", "3").if_version(seen).await)
}

async fn apart(t: Trial) -> Verdict {
    let (kv, part, other) = open(&t).await?;
    let outside = ["app", "app.x", "application/a", "z"];
    for key in outside {
        other.put(key, "outside").await?;
    }
    same("the listing of an empty part", names(&part, "").await?, Vec::<String>::new())?;
    same("a key of the whole in the part", text(&part, "z").await?, None)?;
    for key in ["a", "b/c"] {
        part.put(key, "inside").await?;
    }
    same("the listing of the part", names(&part, "").await?, ["a", "b/c"])?;
    part.delete_tree("").await?;
    same("the part after delete_tree of it", names(&part, "").await?, Vec::<String>::new())?;
    same("the whole after that", names(&kv, "").await?, outside)?;
    Ok(Ended::Kept)
}

async fn watches(t: Trial) -> Verdict {
    let (kv, part, other) = open(&t).await?;
    if t.capabilities().watch == Watching::Unsupported {
        refused("a watch of a part", part.watch_tree("").await, ErrorKind::Unsupported)?;
        return Ended::ignored("no watches");
    }
    other.put("app/d/a", "1").await?;
    other.put("application/a", "").await?;
    let mut tree = Follower::of_tree(&t, &part, "").await?;
    let mut key = Follower::of_key(&t, &part, "d/a").await?;
    same("the keys of the tree", tree.map.keys().map(Key::as_str).collect::<Vec<_>>(), ["d/a"])?;
    same("the key that is watched", key.map.keys().map(Key::as_str).collect::<Vec<_>>(), ["d/a"])?;
    other.put("app", "").await?;
    other.put("application/b", "").await?;
    kv.put("app/d/b", "").await?;
    part.delete("d/a").await?;
    key.gone("d/a").await?;
    tree.agrees(&part, "").await?;
    same("the keys of the tree in the end", tree.map.keys().map(Key::as_str).collect::<Vec<_>>(), ["d/b"])?;
    let more = tree.rest(&part, "mark").await?;
    same("what else it tells", more, vec![])?;
    Ok(Ended::Kept)
}

async fn locks(t: Trial) -> Verdict {
    let (kv, part, other) = open(&t).await?;
    if let Some(range) = &t.capabilities().lease {
        let lease = part.lease(range.greatest.min(std::time::Duration::from_secs(20))).await?;
        kv.put("leased", "").lease(&lease).await?;
        part.put("leased", "").lease(&lease).await?;
        same("what the lease has", names(&other, "").await?, ["app/leased", "leased"])?;
        holds("the lease was alive", lease.revoke().await?)?;
        same("what it leaves", names(&other, "").await?, Vec::<String>::new())?;
    }
    let Some(locking) = &t.capabilities().lock else {
        refused("a lock of a part", part.new_lock("l").acquire().await, ErrorKind::Unsupported)?;
        return Ended::ignored("no locks");
    };
    let mut told = match t.capabilities().watch {
        Watching::Unsupported => None,
        _ => {
            let watch = part.lock_holder("l").watch();
            let mut follower = Follower::new(&t, "a watch of a lock's holder", watch).await?;
            same("the holder at first", follower.synced().await?, vec![])?;
            Some(follower)
        }
    };
    let guard = t.soon("a free lock", part.new_lock("l").value("me").acquire()).await??;
    same("the name of the guard", guard.name().as_str(), "l")?;
    for (handle, name) in [(&part, "l"), (&kv, "app/l"), (&other, "app/l")] {
        let holder = handle.lock_holder(name).await?.map(|holder| holder.token);
        same(format!("the holder of {name:?}"), holder, Some(guard.token()))?;
    }
    holds("it is one lock", other.new_lock("app/l").try_acquire().await?.is_none())?;
    let apart = t.soon("a lock of another name", other.new_lock("l").acquire()).await??;
    holds("another lock was held", apart.release().await?)?;
    if let Some(told) = &mut told {
        let event = told.change().await?;
        let fine =
            matches!(&event, WatchEvent::Put(entry) if entry.key.as_str() == "l" && entry.value == "me");
        holds(format!("the event of the holder is by the name in the part; found {event:?}"), fine)?;
    }
    if locking.set_value {
        guard.set_value("you").await?;
        let value = other.lock_holder("app/l").await?.map(|holder| holder.value);
        same("the value that the part's holder changed", value.as_deref(), Some(&b"you"[..]))?;
    }
    if locking.lists {
        for (handle, directory, name) in [(&part, "", "l"), (&kv, "app", "app/l")] {
            let listed: Vec<_> = handle.locks(directory).await?.into_iter().map(|lock| lock.name).collect();
            same(format!("the locks below {directory:?}"), listed, [Key::parse(name)?])?;
        }
    }
    let fence = guard.fence().clone();
    if locking.fenced_writes {
        kv.put("by-whole", "").fenced(&guard).await?;
        part.put("by-part", "").fenced(&guard).await?;
    }
    holds("the lock was held", guard.release().await?)?;
    if locking.fenced_writes {
        let late = part.put("late", "").fenced(&fence).await;
        refused("a put of the part under a lock that was released", late, ErrorKind::LockLost)?;
        let late = kv.put("late", "").fenced(&fence).await;
        refused("a put of the whole under it", late, ErrorKind::LockLost)?;
        same("what was put", names(&other, "").await?, ["app/by-part", "by-whole"])?;
    }
    if locking.breaks {
        let guard = t.soon("a free lock", kv.new_lock("app/l").acquire()).await??;
        holds("the part breaks the lock of the whole", part.break_lock("l").token(guard.token()).await?)?;
    }
    let guard = t.soon("a free lock", kv.new_lock("app/l").acquire()).await??;
    part.close().await?;
    holds("closing the part closes the whole", kv.is_closed() && !guard.is_held())?;
    let next = t.soon("the lock that was given back", other.new_lock("app/l").acquire()).await??;
    holds("it was held", next.release().await?)?;
    Ok(Ended::Kept)
}

async fn transactions(t: Trial) -> Verdict {
    let (kv, part, other) = open(&t).await?;
    if t.capabilities().max_txn_ops < 4 {
        return Ended::ignored("no transactions of four operations");
    }
    let seen = part.put("a", "1").await?.version;
    let both = part
        .transact()
        .when_version("a", seen)
        .then(part.put("b", "2"))
        .then(kv.put("b", "3"))
        .then(kv.delete("app/a"));
    holds("a transaction with steps of both happens", both.await?.is_committed())?;
    same("the listing", names(&other, "").await?, ["app/b", "b"])?;
    same("the key of the part", text(&other, "app/b").await?, Some("2".to_owned()))?;
    let refusal = part.transact().when_exists("b").when_missing("b").then(part.put("c", "")).await?;
    refused_at("a transaction of the part", &refusal, 1)?;
    let says = refusal.refusal().map(ToString::to_string);
    same("what its refusal says", says.as_deref(), Some("condition 1: the key \"b\" is there"))?;
    let refusal = part.transact().when_exists("b").then(kv.put("app/b", "").if_missing()).await?;
    let says = refusal.refusal().map(ToString::to_string);
    same("what one of the whole says", says.as_deref(), Some("condition 1: the key \"app/b\" is there"))?;
    let twice = part.transact().then(part.put("c", "")).then(kv.delete("app/c")).await;
    refused("one key by both names", twice, ErrorKind::InvalidArgument)?;
    same("the listing in the end", names(&other, "").await?, ["app/b", "b"])?;
    Ok(Ended::Kept)
}
