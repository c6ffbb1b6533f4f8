//! Stores that share a server: what one has, the other does not see.

use super::{names, put_all, snapshot, text};
use crate::{
    Ended, Failure, Trial, Verdict,
    cases::watches::Follower,
    check::{holds, refused, same, still_held},
};
use kv_core::{Bytes, ErrorKind, ForeignKeys, Guard, Kv, Lease, WatchEvent, Watching};
use std::time::Duration;
use tokio::time::timeout;

cases! {
    "key.reserved/segment": "`.kvx` and `.kvstore/b` are ordinary names in every call, watch and lock: the segment `.kv` alone is reserved" => reserved,
    "key.isolated/nested": "a store around another neither sees nor deletes what the library keeps for the inner one" => nested,
    "key.isolated/segment": "a prefix without a slash is the directory of that name" => segment,
    "key.isolated/dimension": "stores of one prefix that something else tells apart see nothing of each other" => dimension,
    "foreign.skipped/told": "a listing tells the names of other tools that it leaves out, if it is asked" => left_out,
    "foreign.names/long": "names of 513 to 1,000 bytes of other tools are listed, watched and read" => long_names,
}

/// The time for which a case waits where nothing must come.
const QUIET: Duration = Duration::from_millis(500);

fn watches(t: &Trial) -> bool {
    t.capabilities().watch != Watching::Unsupported
}

async fn reserved(t: Trial) -> Verdict {
    let (kv, other) = (t.open().await?, t.open().await?);
    put_all(&kv, [".kvstore/a", "x/.kv.d/a"]).await?;
    let mut told = Vec::new();
    if watches(&t) {
        told.push((Follower::of_tree(&t, &kv, "").await?, ""));
        told.push((Follower::of_tree(&t, &kv, ".kvstore").await?, ".kvstore"));
        told.push((Follower::of_tree(&t, &kv, "x/.kv.d").await?, "x/.kv.d"));
    }
    let mut key = if watches(&t) { Some(Follower::of_key(&t, &kv, ".kvx").await?) } else { None };
    put_all(&other, [".kvx", ".kv-", ".kvstore/b", "x/.kv.d/b"]).await?;
    holds("delete finds .kvstore/a", other.delete(".kvstore/a").await?)?;
    same("the listing", names(&kv, "").await?, [".kv-", ".kvstore/b", ".kvx", "x/.kv.d/a", "x/.kv.d/b"])?;
    same("get of .kvx", text(&kv, ".kvx").await?, Some(".kvx".to_owned()))?;
    for (follower, directory) in &mut told {
        follower.agrees(&kv, directory).await?;
    }
    if let Some(key) = &mut key {
        let event = key.change().await?;
        holds(format!("the event of a put of .kvx; found {event:?}"), matches!(event, WatchEvent::Put(_)))?;
    }
    if t.capabilities().lock.is_some() {
        let guard = t.soon("a free lock", kv.new_lock(".kvx").acquire()).await??;
        let holder = other.lock_holder(".kvx").await?.map(|holder| holder.token);
        same("the holder of the lock .kvx", holder, Some(guard.token()))?;
        holds("the lock .kvx was held", guard.release().await?)?;
    }
    other.delete_tree(".kvstore").await?;
    same("the listing in the end", names(&kv, "").await?, [".kv-", ".kvx", "x/.kv.d/a", "x/.kv.d/b"])?;
    for (follower, directory) in &mut told {
        follower.agrees(&kv, directory).await?;
    }
    Ok(Ended::Kept)
}

/// A lock and a lease that a store holds beside its keys.
struct Holdings {
    guard: Option<Guard>,
    lease: Option<Lease>,
}

impl Holdings {
    async fn take(t: &Trial, kv: &Kv) -> Result<Self, Failure> {
        let guard = match t.capabilities().lock {
            Some(_) => Some(t.soon("a free lock", kv.new_lock("l").value("inner").acquire()).await??),
            None => None,
        };
        let lease = match &t.capabilities().lease {
            Some(range) => Some(kv.lease(range.greatest.min(Duration::from_secs(20))).await?),
            None => None,
        };
        Ok(Self { guard, lease })
    }

    /// Checks that the lock and the lease are held, for other clients too.
    async fn stand(&self, t: &Trial, kv: &Kv, other: &Kv, after: &str) -> Result<(), Failure> {
        if let Some(guard) = &self.guard {
            // A loss on the server is known to the client soon, not at once.
            let lost = timeout(QUIET, guard.lost()).await;
            holds(format!("a lock is held after {after}; found {lost:?}"), lost.is_err() && guard.is_held())?;
            let holder = other.lock_holder("l").await?.map(|holder| holder.token);
            same(format!("the holder after {after}"), holder, Some(guard.token()))?;
            let second = other.new_lock("l").try_acquire().await?;
            holds(format!("nobody else gets the lock after {after}"), second.is_none())?;
            if t.capabilities().lock.as_ref().is_some_and(|locking| locking.fenced_writes) {
                kv.put("fenced", "").fenced(guard).await?;
            }
        }
        if let Some(lease) = &self.lease {
            still_held(format!("a lease is held after {after}"), lease)?;
            kv.put("leased", "")
                .lease(lease)
                .await
                .map_err(|e| format!("a put under it, after {after}: {e}"))?;
        }
        Ok(())
    }

    async fn end(self) -> Result<(), Failure> {
        if let Some(guard) = self.guard {
            holds("the lock was held until it was released", guard.release().await?)?;
        }
        if let Some(lease) = self.lease {
            holds("the lease was alive until it was revoked", lease.revoke().await?)?;
        }
        Ok(())
    }
}

async fn nested(t: Trial) -> Verdict {
    let inner = format!("{}in/", t.prefix());
    let (outer, kv, other) = (t.open().await?, t.open_under(&inner).await?, t.open_under(&inner).await?);
    let stale = kv.put("k", "1").await?.version;
    outer.put("own", "").await?;
    let mut told = if watches(&t) { Some(Follower::of_tree(&t, &outer, "").await?) } else { None };
    let holdings = Holdings::take(&t, &kv).await?;
    holdings.stand(&t, &kv, &other, "it was taken").await?;
    let data = ["in/fenced", "in/k", "in/leased", "own"];
    let seen = names(&outer, "").await?;
    let extra: Vec<_> = seen.iter().filter(|name| !data.contains(&name.as_str())).collect();
    same("what the outer store lists and is nobody's key", extra, Vec::<&String>::new())?;
    if let Some(told) = &mut told {
        told.agrees(&outer, "").await?;
    }
    for directory in ["in", ""] {
        outer.delete_tree(directory).await?;
        let after = format!("delete_tree of {directory:?} of a store around it");
        holdings.stand(&t, &kv, &other, &after).await?;
    }
    kv.put("k", "2").await?;
    let refusal = kv.atomic_put("k", "3", stale).await;
    refused("a put at the version before that", refusal, ErrorKind::KeyModified)?;
    let token = holdings.guard.as_ref().map(Guard::token);
    holdings.end().await?;
    if let Some(token) = token {
        outer.delete_tree("").await?;
        let again = t.soon("the lock after its release", kv.new_lock("l").acquire()).await??;
        holds("the token grows over delete_tree of a store around it", again.token() > token)?;
    }
    if let Some(mut told) = told {
        told.agrees(&outer, "").await?;
    }
    kv.delete_tree("").await?;
    Ok(Ended::Kept)
}

async fn segment(t: Trial) -> Verdict {
    let Some(url) = t.harness().url(&format!("{}app", t.prefix())) else {
        return Ended::ignored("the harness has no URL");
    };
    let bare = t.harness().open_url(&url).await.ok_or("the harness opens its own URLs")??;
    let slash = t.open_under(&format!("{}app/", t.prefix())).await?;
    let theirs = t.open_under(&format!("{}application/", t.prefix())).await?;
    theirs.put("secrets/db", "theirs").await?;
    let mut told = if watches(&t) { Some(Follower::of_tree(&t, &bare, "").await?) } else { None };
    bare.put("color", "red").await?;
    same("what `app/` has of a put through `app`", text(&slash, "color").await?, Some("red".to_owned()))?;
    slash.put("size", "1").await?;
    for spelling in ["", "/"] {
        same(format!("what `app` lists of {spelling:?}"), names(&bare, spelling).await?, ["color", "size"])?;
    }
    if let Some(told) = &mut told {
        theirs.put("secrets/more", "theirs").await?;
        slash.delete("size").await?;
        told.agrees(&slash, "").await?;
    }
    if let Some(foreign) = t.harness().foreign() {
        let name = format!("{}app/color", t.prefix());
        same(
            format!("what the server has under {name:?}"),
            foreign.get(&name).await,
            Some(Bytes::from("red")),
        )?;
    }
    if t.capabilities().lock.is_some() {
        let guard = t.soon("a free lock", bare.new_lock("l").acquire()).await??;
        holds("`app` and `app/` have one lock", slash.new_lock("l").try_acquire().await?.is_none())?;
        holds("`application/` has another", theirs.new_lock("l").try_acquire().await?.is_some())?;
        holds("it was held", guard.release().await?)?;
    }
    bare.delete_tree("/").await?;
    same("what delete_tree left to `app/`", names(&slash, "").await?, Vec::<String>::new())?;
    let left = text(&theirs, "secrets/db").await?;
    same("a key of `application/` after delete_tree of `app`", left, Some("theirs".to_owned()))?;
    theirs.delete_tree("").await?;
    bare.close().await?;
    Ok(Ended::Kept)
}

async fn dimension(t: Trial) -> Verdict {
    let beside = t.harness().beside(t.prefix()).await;
    if beside.is_empty() {
        return Ended::ignored(
            "nothing but the prefix tells its stores apart, or the harness cannot make more",
        );
    }
    for (what, opened) in beside {
        let other = opened.map_err(|e| format!("{what}: {e}"))?.with_deadline(t.patience());
        let kv = t.open().await?;
        let apart = apart(&t, &kv, &other).await;
        other.delete_tree("").await?;
        apart.map_err(|e| format!("stores that differ by the {what}: {e}"))?;
        other.close().await?;
        kv.delete_tree("").await?;
    }
    Ok(Ended::Kept)
}

/// Checks that the two stores see nothing of each other.
async fn apart(t: &Trial, kv: &Kv, other: &Kv) -> Result<(), Failure> {
    let kept = kv.put("k", "one's").await?.version;
    let mut trees = Vec::new();
    if watches(t) {
        for store in [kv, other] {
            trees.push(Follower::of_tree(t, store, "").await?);
        }
    }
    let mut holder = None;
    if watches(t) && t.capabilities().lock.is_some() {
        let watch = kv.lock_holder("leader").watch();
        let mut follower = Follower::new(t, "a watch of a lock's holder", watch).await?;
        same("the holder at first", follower.synced().await?, vec![])?;
        holder = Some(follower);
    }
    other.put("x", "the other's").await?;
    other.put("k", "the other's").await?;
    same("the version of the one's key", kv.get("k").await?.map(|entry| entry.version), Some(kept))?;
    other.delete("k").await?;
    other.put("y", "the other's").await?;
    same("the one's listing", names(kv, "").await?, ["k"])?;
    same("the other's listing", names(other, "").await?, ["x", "y"])?;
    if t.capabilities().lock.is_some() {
        let theirs = t.soon("a free lock", other.new_lock("leader").value("theirs").acquire()).await??;
        same("who leads the one", kv.lock_holder("leader").await?, None)?;
        let mine = kv.new_lock("leader").value("mine").acquire_within(t.patience()).await?;
        let mine = mine.ok_or("a lock of one store is not free, because one of the other is held")?;
        holds("both are held", mine.is_held() && theirs.is_held())?;
        if let Some(holder) = &mut holder {
            let event = holder.change().await?;
            let fine = matches!(&event, WatchEvent::Put(entry) if entry.value == "mine");
            holds(format!("the one's watch of the holder tells of its own; found {event:?}"), fine)?;
        }
        theirs.release().await?;
        still_held("the one's lock is held", &mine)?;
        same("who leads", kv.lock_holder("leader").await?.map(|h| h.token), Some(mine.token()))?;
        if let Some(holder) = &mut holder {
            let more = timeout(QUIET, holder.change()).await;
            holds(format!("a release of the other's is not told; found {more:?}"), more.is_err())?;
        }
        holds("it was held until it was released", mine.release().await?)?;
    }
    for (tree, (store, own)) in trees.iter_mut().zip([(kv, ["k", "k"]), (other, ["x", "y"])]) {
        let mut events = tree.rest(store, "mark").await?;
        // The other store's own `k` came and went.
        let theirs = |name: &str| own.contains(&name) || (own[0] == "x" && name == "k");
        events.retain(|event| event.key().is_some_and(|key| !theirs(key.as_str())));
        same("what a watch tells of keys that are not of its store", events, vec![])?;
        tree.agrees(store, "").await?;
    }
    if let Some(one) = trees.first() {
        same("the version that the one's watch has of its key", one.map["k"].version, kept)?;
        same("what broke the order of the one's watch", one.disorder.clone(), Vec::<String>::new())?;
    }
    kv.delete_tree("").await?;
    let left: Vec<_> = names(other, "").await?.into_iter().filter(|name| name != "mark").collect();
    same("the other's listing after the one's delete_tree", left, ["x", "y"])
}

async fn left_out(t: Trial) -> Verdict {
    let Some(foreign) = t.harness().foreign() else {
        return Ended::ignored("the harness has no foreign tool");
    };
    let kv = t.open().await?;
    // What the library keeps for itself is nobody's, and is not told.
    let guard = match kv.capabilities().lock {
        Some(_) => Some(kv.new_lock("l").acquire().await?),
        None => None,
    };
    kv.put("d/a", "ours").await?;
    let mut theirs = Vec::new();
    for name in ["d/trail/", "d/ space", "d/end "] {
        foreign.put(&format!("{}{name}", t.prefix()), Bytes::from("theirs")).await;
        if foreign.get(&format!("{}{name}", t.prefix())).await.is_some() {
            theirs.push(name);
        }
    }
    foreign.put(&format!("{}d/unseen", t.prefix()), Bytes::from("theirs")).await;
    let told = async |kv: &Kv, directory: &str| {
        let mut keys = kv.list(directory).tell_left_out().keys();
        while let Some(key) = keys.next().await {
            key?;
        }
        Ok::<_, kv_core::Error>(keys.left_out())
    };
    let adoptable = u64::from(kv.capabilities().foreign_keys == ForeignKeys::AfterAdoption);
    for (kv, directory) in [(&kv, ""), (&kv, "d"), (&kv.within("d")?, "")] {
        let found = told(kv, directory).await?;
        let counts = (found.count, found.adoptable);
        same(
            format!("what {directory:?} leaves out: {:?}", found.names),
            counts,
            (theirs.len() as u64 + adoptable, adoptable),
        )?;
        for name in &theirs {
            let name = name.trim_end_matches('/');
            holds(
                format!("{name:?} is among {:?}", found.names),
                found.names.iter().any(|told| told.contains(name)),
            )?;
        }
    }
    kv.adopt("").await?;
    let found = told(&kv, "").await?;
    same("what is left out once all is adopted", (found.count, found.adoptable), (theirs.len() as u64, 0))?;
    same("what another directory leaves out", told(&kv, "e").await?.count, 0)?;
    for name in theirs {
        foreign.delete(&format!("{}{name}", t.prefix())).await;
    }
    kv.delete_tree("").await?;
    same("what is told unasked", kv.list("").keys().left_out().count, 0)?;
    if let Some(guard) = guard {
        guard.release().await?;
    }
    Ok(Ended::Kept)
}

async fn long_names(t: Trial) -> Verdict {
    let Some(foreign) = t.harness().foreign() else {
        return Ended::ignored("the harness has no foreign tool");
    };
    // Where a directory is a node, a name of many segments is as many nodes, one below the other,
    // which takes time.
    let kv = t.open().await?.with_deadline(Duration::from_secs(60));
    let longest = 1_000 - t.prefix().len().min(200);
    let mut theirs = Vec::new();
    for length in [513, 700, longest] {
        // One name is of one segment, the other of many.
        for name in ["s".repeat(length), "d/".repeat(length / 2) + if length % 2 == 0 { "" } else { "e" }] {
            let name = name.trim_end_matches('/').to_owned();
            foreign.put(&format!("{}{name}", t.prefix()), Bytes::from("theirs")).await;
            if foreign.get(&format!("{}{name}", t.prefix())).await.is_some() {
                theirs.push(name);
            }
        }
    }
    theirs.sort();
    if theirs.is_empty() {
        return Ended::ignored("the server holds no such names");
    }
    kv.adopt("").await?;
    let listed = kv.list("").await?;
    let found: Vec<_> = listed.iter().map(|entry| entry.key.to_string()).collect();
    same("the listing", found, theirs.clone())?;
    if watches(&t) {
        let told = snapshot(&t, &mut kv.watch_tree("").await?).await?;
        same("the watch", told.names(), theirs.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    for entry in &listed {
        let key = &entry.key;
        let what = format!("a name of {} bytes by its key", key.as_str().len());
        same(format!("get of {what}"), kv.get(key).await?.as_ref(), Some(entry))?;
        let version = kv.put(key, "ours").if_version(entry.version).await?.version;
        same(format!("get after a put of {what}"), kv.get(key).await?.map(|e| e.version), Some(version))?;
        if watches(&t) {
            let told = snapshot(&t, &mut kv.watch(key).await?).await?;
            same(format!("a watch of {what}"), told.names(), [key.as_str()])?;
        }
        holds(format!("delete of {what} finds it"), kv.delete(key).await?)?;
    }
    same("the listing in the end", names(&kv, "").await?, Vec::<String>::new())?;
    Ok(Ended::Kept)
}
