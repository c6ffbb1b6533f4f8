//! Leases.

mod emptied;

use super::{change, in_a_life_that_ends, names, polled_for_a_moment, snapshot, text};
use crate::{
    Ended, Failure, Trial, Verdict,
    check::{holds, refused, same, still_held},
    lateness::Stopwatch,
};
use futures::future::join_all;
use kv_core::{
    ErrorKind, Key, Kv, Lease, TtlRange, WatchEvent, Watching,
    driver::{Expect, PutOptions},
};
use std::time::Duration;
use tokio::time::Instant;

cases! {
    "lease.alive/renewed": "its keys outlive its TTL many times; renewing changes no version and yields no event" => renewed,
    "lease.alive/granted": "a TTL of a lease is rounded and refused as that of a key" => granted,
    "lease.alive/revoke": "revoke removes its keys at once, and only those" => revoke,
    "lease.alive/revoke-event": "a watch tells of the keys of a revoked lease" => revoke_event,
    "lease.alive/drop": "dropping the handle revokes it in the background" => dropped,
    "lease.alive/cancelled": "a call for a lease that is dropped at any moment leaves nothing behind" => cancelled,
    "lease.alive/two": "the keys of one lease live apart from those of another" => two,
    "lease.alive/moved": "a key put anew, without the lease or under another, does not go with the first" => moved,
    "lease.alive/emptied": "a lease whose last key went, in whatever way, lives on, and takes keys" => emptied::lives_on,
    "lease.alive/race": "a key that is put under a lease at the moment at which its last one goes stays" => emptied::race,
    "lease.alive/every-put": "atomic_put and transact put keys under it" => every_put,
    "lease.alive/deleted": "a key of it that was deleted and made anew stays" => deleted,
    "lease.alive/over": "a put under a lease that has ended is LeaseLost, and nothing is written" => over,
    "lease.alive/killed": "the keys of a killed process go within the TTL and its lateness, not before" => killed,
}

async fn range(t: &Trial) -> Result<Result<TtlRange, Ended>, Failure> {
    if let Some(range) = &t.capabilities().lease {
        return Ok(Ok(range.clone()));
    }
    refused("a lease", t.open().await?.lease(Duration::from_secs(20)).await, ErrorKind::Unsupported)?;
    Ok(Err(Ended::Ignored("the backend has no leases".into())))
}

macro_rules! needs_lease {
    ($t:expr) => {
        match range(&$t).await? {
            Ok(range) => range,
            Err(ended) => return Ok(ended),
        }
    };
}

/// Takes a lease that no busy machine loses: its TTL is 15 s, or the nearest that is granted.
async fn long(kv: &Kv, range: &TtlRange) -> kv_core::Result<Lease> {
    kv.lease(range.least.max(Duration::from_secs(15)).min(range.greatest)).await
}

async fn renewed(t: Trial) -> Verdict {
    let range = needs_lease!(t);
    let kv = t.open().await?;
    // With this TTL a server that is busy for two seconds ends no lease.
    let ttl = range.least.max(Duration::from_secs(4));
    let lease = kv.lease(ttl).await?;
    let version = kv.put("d/k", "v").lease(&lease).await?.version;
    let watched = t.capabilities().watch != Watching::Unsupported;
    let mut watch = if watched { Some(kv.watch_tree("d").await?) } else { None };
    if let Some(watch) = &mut watch {
        snapshot(&t, watch).await?;
    }
    // By then a lease that is not renewed has ended for certain.
    let long = (lease.ttl() + range.lateness(lease.ttl())).mul_f64(1.5).max(lease.ttl() * 3);
    t.note(format!("{long:?} of a lease of {:?} to pass", lease.ttl()));
    let end = Instant::now() + long;
    while Instant::now() < end {
        still_held("the lease is held", &lease)?;
        same("the version of its key", t.open().await?.get("d/k").await?.map(|e| e.version), Some(version))?;
        tokio::time::sleep(lease.ttl() / 4).await;
    }
    if let Some(watch) = &mut watch {
        let last = kv.put("d/last", "").await?.version;
        let events = super::told(&t, watch, "d/last", last).await?;
        let events: Vec<_> = events.iter().filter_map(WatchEvent::key).map(Key::as_str).collect();
        same("the events of all that time", events, ["d/last"])?;
    }
    holds("it was alive until it was revoked", lease.revoke().await?)?;
    Ok(Ended::Kept)
}

async fn granted(t: Trial) -> Verdict {
    let range = needs_lease!(t);
    let kv = t.open().await?;
    refused("a lease of zero", kv.lease(Duration::ZERO).await, ErrorKind::InvalidArgument)?;
    refused("one without end", kv.lease(Duration::MAX).await, ErrorKind::InvalidArgument)?;
    for ttl in [Duration::from_nanos(1), range.least, range.least + range.unit / 2, range.greatest] {
        let ttl = ttl.clamp(Duration::from_nanos(1), range.greatest);
        let lease = kv.lease(ttl).await?;
        same(format!("what is granted of {ttl:?}"), lease.ttl(), range.grant(ttl)?)?;
        lease.revoke().await?;
    }
    Ok(Ended::Kept)
}

async fn revoke(t: Trial) -> Verdict {
    let range = needs_lease!(t);
    let (kv, other) = (t.open().await?, t.open().await?);
    let lease = long(&kv, &range).await?;
    for key in ["a", "d/b", "d/c/e"] {
        kv.put(key, "v").lease(&lease).await?;
    }
    kv.put("d/stays", "v").await?;
    let lost = lease.lost();
    holds("it was alive", lease.revoke().await?)?;
    same("what another client finds at once", names(&other, "").await?, ["d/stays"])?;
    same("what the same client finds", text(&kv, "a").await?, None)?;
    same("why it is lost", t.soon("the loss of a revoked lease", lost).await?.kind(), ErrorKind::LeaseLost)?;
    kv.atomic_put("a", "anew", None).await?;
    Ok(Ended::Kept)
}

async fn revoke_event(t: Trial) -> Verdict {
    let range = needs_lease!(t);
    if t.capabilities().watch == Watching::Unsupported {
        return Ended::ignored("the backend has no watches");
    }
    let (kv, other) = (t.open().await?, t.open().await?);
    let lease = long(&kv, &range).await?;
    let version = kv.put("d/k", "v").lease(&lease).await?.version;
    let mut watch = other.watch_tree("d").await?;
    same("what is there", snapshot(&t, &mut watch).await?.names(), ["d/k"])?;
    lease.revoke().await?;
    let event = t.soon("the event of the end", change(&mut watch)).await??;
    let WatchEvent::Delete { key, version: last } = event else {
        return Err(format!("expected a delete, found {event:?}").into());
    };
    same("the key", key.as_str(), "d/k")?;
    holds(format!("the version {last} is {version} or newer"), last >= version)?;
    Ok(Ended::Kept)
}

async fn dropped(t: Trial) -> Verdict {
    let range = needs_lease!(t);
    let (kv, other) = (t.open().await?, t.open().await?);
    // The TTL is so long that only the revocation explains the end.
    let ttl = Duration::from_secs(600).clamp(range.least, range.greatest);
    let lease = kv.lease(ttl).await?;
    kv.put("k", "v").lease(&lease).await?;
    drop(lease);
    let wait = t.patience().min(ttl / 2);
    t.until_within(wait, "the key of a dropped lease to go", || async { Ok(!other.exists("k").await?) })
        .await?;
    Ok(Ended::Kept)
}

async fn cancelled(t: Trial) -> Verdict {
    let range = needs_lease!(t);
    let (kv, proxy) = match t.open_behind_proxy().await {
        Some(opened) => opened.map(|(kv, proxy)| (kv, Some(proxy)))?,
        None => (t.open().await?, None),
    };
    // So long that it does not end by itself while what is left is looked for.
    let ttl = Duration::from_secs(600).clamp(range.least, range.greatest);
    kv.lease(ttl).await?.revoke().await?;
    for polls in 1..12 {
        // In every other round requests stand still on their way, where there is one: what undoes them must not
        // be there before them. Many do, on several connections where there are some.
        let stands_still = proxy.as_ref().filter(|_| polls % 2 == 0);
        if let Some(proxy) = stands_still {
            proxy.freeze_requests();
        }
        let asked = (0..8).map(|_| polled_for_a_moment(kv.lease(ttl), polls));
        let leases = join_all(asked).await;
        if let Some(proxy) = stands_still {
            proxy.thaw();
        }
        for lease in leases.into_iter().flatten() {
            lease?.revoke().await?;
        }
    }
    kv.close().await?;
    Ok(Ended::Kept)
}

async fn two(t: Trial) -> Verdict {
    let range = needs_lease!(t);
    let kv = t.open().await?;
    let (one, other) = (long(&kv, &range).await?, long(&kv, &range).await?);
    holds("they have different names", one.id() != other.id())?;
    kv.put("one", "").lease(&one).await?;
    kv.put("other", "").lease(&other).await?;
    one.revoke().await?;
    same("what is left", names(&kv, "").await?, ["other"])?;
    still_held("the other is alive", &other)?;
    kv.put("more", "").lease(&other).await?;
    other.revoke().await?;
    same("what is left in the end", names(&kv, "").await?, Vec::<String>::new())?;
    Ok(Ended::Kept)
}

async fn moved(t: Trial) -> Verdict {
    let range = needs_lease!(t);
    let kv = t.open().await?;
    let (one, other) = (long(&kv, &range).await?, long(&kv, &range).await?);
    for key in ["permanent", "same-bytes", "other", "ttl"] {
        kv.put(key, "v").lease(&one).await?;
    }
    kv.put("permanent", "w").await?;
    kv.put("same-bytes", "v").await?;
    kv.put("other", "v").lease(&other).await?;
    let mut left = vec!["other", "permanent", "same-bytes"];
    if let Some(range) = &t.capabilities().ttl {
        kv.put("ttl", "v").ttl(range.greatest.min(Duration::from_secs(60))).await?;
        left.push("ttl");
    }
    holds("a lease whose keys were put anew was alive", one.revoke().await?)?;
    same("what is left", names(&kv, "").await?, left.clone())?;
    kv.put("permanent", "v").lease(&other).await?;
    holds("the other was alive", other.revoke().await?)?;
    left.retain(|key| !["other", "permanent"].contains(key));
    same("what is left in the end", names(&kv, "").await?, left)?;
    Ok(Ended::Kept)
}

async fn every_put(t: Trial) -> Verdict {
    let range = needs_lease!(t);
    let kv = t.open().await?;
    let lease = long(&kv, &range).await?;
    let version = kv.put("swapped", "v").await?.version;
    kv.atomic_put("swapped", "w", version).lease(&lease).await?;
    kv.atomic_put("created", "v", None).lease(&lease).await?;
    if t.capabilities().max_txn_ops > 1 {
        let txn = kv.transact().then(kv.put("in/txn", "").lease(&lease)).then(kv.put("stays", ""));
        holds("it happens", txn.await?.is_committed())?;
    } else {
        kv.put("stays", "").await?;
    }
    lease.revoke().await?;
    same("what is left", names(&kv, "").await?, ["stays"])?;
    Ok(Ended::Kept)
}

async fn deleted(t: Trial) -> Verdict {
    let range = needs_lease!(t);
    let kv = t.open().await?;
    let lease = long(&kv, &range).await?;
    for key in ["a", "d/b"] {
        kv.put(key, "v").lease(&lease).await?;
    }
    kv.delete("a").await?;
    kv.delete_tree("d").await?;
    kv.put("a", "v").await?;
    kv.atomic_put("d/b", "v", None).await?;
    holds("a lease whose keys were deleted was alive", lease.revoke().await?)?;
    same("what is left", names(&kv, "").await?, ["a", "d/b"])?;
    Ok(Ended::Kept)
}

async fn over(t: Trial) -> Verdict {
    let range = needs_lease!(t);
    let kv = t.open().await?;
    let lease = long(&kv, &range).await?;
    let id = lease.id().clone();
    lease.revoke().await?;
    kv.put("old", "v").await?;
    let options = || PutOptions::default().lease(Some(id.clone()));
    for name in ["k", "old"] {
        let key = Key::parse(name)?;
        let put = kv.store().put(&key, "w".into(), Expect::Anything, &options()).await;
        refused(format!("a put of {name}"), put, ErrorKind::LeaseLost)?;
    }
    same("the listing", names(&kv, "").await?, ["old"])?;
    same("the key that was there", text(&kv, "old").await?, Some("v".to_owned()))?;
    Ok(Ended::Kept)
}

async fn killed(t: Trial) -> Verdict {
    let range = needs_lease!(t);
    let ttl = range.least.max(Duration::from_millis(1_500));
    let (asked_for, granted) = in_a_life_that_ends(&t, move |kv| async move {
        let asked = Instant::now();
        let lease = kv.lease(ttl).await?;
        let granted = lease.ttl();
        kv.put("d/k", "v").lease(&lease).await?;
        // A killed process drops nothing.
        std::mem::forget(lease);
        Ok((asked, granted))
    })
    .await?;
    let (died, watch) = (Instant::now(), Stopwatch::start());
    let kv = t.open().await?;
    let over = died + (granted + range.lateness(granted)).mul_f64(1.01);
    loop {
        let asked = Instant::now();
        let there = kv.exists("d/k").await?;
        let lived = Instant::now() - asked_for;
        if !there {
            let early = lived < granted.mul_f64(0.99);
            holds(format!("the key lives for {granted:?}, found gone after {lived:?}"), !early)?;
            return Ok(Ended::Kept);
        }
        let late = asked.saturating_duration_since(died);
        let in_time = asked <= over + watch.late();
        holds(format!("the key goes in time, found {late:?} after the death"), in_time)?;
        t.note("the end of a dead process's key");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
