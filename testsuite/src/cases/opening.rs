//! Opening a store, and its capabilities.

use super::{names, text};
use crate::{
    Ended, Failure, Trial, Verdict,
    check::{holds, refused, same, still_held},
};
use kv_core::{Bytes, Capabilities, Error, ErrorKind, Kv, Registry, StoreUrl, TtlRange, Watching};
use std::time::Duration;

cases! {
    "capabilities.complete/sound": "what is declared makes sense, and is the same for every client" => sound,
    "capabilities.complete/ttl": "TTLs work where they are declared, else they are Unsupported, with nothing written" => ttl,
    "capabilities.complete/lease": "leases work where they are declared, else they are Unsupported" => lease,
    "capabilities.complete/watch": "watches work where they are declared, else they are Unsupported" => watch,
    "capabilities.complete/lock": "locks work where they are declared, else they are Unsupported" => lock,
    "capabilities.complete/transact": "transactions work where they are declared, else they are Unsupported, with nothing written" => transact,
    "capabilities.complete/health": "health works where it is declared, else it is Unsupported" => health,
    "open.checked/url": "the URL opens the same store, under its path as prefix" => url,
    "open.checked/parameter": "an unknown parameter is an error that names it and lists the known ones" => parameter,
    "open.checked/scheme": "a scheme that nobody registered is an error that lists the known ones" => scheme,
    "open.checked/own-scheme": "a URL of another store is refused, and names both schemes" => own_scheme,
    "open.checked/bad-url": "what is no URL of a store is InvalidArgument, and shows no password" => bad_url,
    "health/answer": "health answers the server's version" => health_answer,
    "data.valkeyrie/read": "what valkeyrie wrote is read unchanged" => valkeyrie,
}

/// Counts the bytes of the longest key that a store takes.
const LONGEST_KEY: usize = 1000;

async fn sound(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let c: &Capabilities = kv.capabilities();
    same("the capabilities of another client", t.open_elsewhere().await?.capabilities(), c)?;
    holds("the backend has a name", !c.backend.is_empty())?;
    holds(format!("the largest value is 256 KiB or more, found {}", c.max_value), c.max_value >= 256 << 10)?;
    let ranges =
        [("TTLs", c.ttl.as_ref()), ("leases", c.lease.as_ref()), ("locks", c.lock.as_ref().map(|l| &l.ttl))];
    for (what, range) in ranges {
        let Some(TtlRange { least, greatest, unit, late_share, .. }) = range else { continue };
        holds(format!("{what}: the least is no more than the greatest"), least <= greatest)?;
        holds(format!("{what}: 30 s are granted"), *greatest >= Duration::from_secs(30))?;
        holds(format!("{what}: the unit is a second at most"), *unit <= Duration::from_secs(1))?;
        holds(format!("{what}: the lateness is a share"), late_share.is_finite() && *late_share >= 0.0)?;
    }
    if c.max_txn_ops > 0 {
        let (most, least) = (c.max_txn_bytes, c.max_value.saturating_add(LONGEST_KEY));
        holds(format!("a transaction holds the greatest value and its key, found {most}"), most >= least)?;
    }
    if c.lock.as_ref().is_some_and(|l| l.fenced_writes) {
        holds("fenced writes are transactions of two operations", c.max_txn_ops >= 2)?;
    }
    Ok(Ended::Kept)
}

async fn ttl(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let ttl = t.short_ttl(Duration::from_secs(30));
    if t.capabilities().ttl.is_some() {
        holds("a TTL is granted", kv.put("k", "").ttl(ttl).await?.ttl >= Some(ttl))?;
        return Ok(Ended::Kept);
    }
    refused("a put", kv.put("k", "").ttl(ttl).await, ErrorKind::Unsupported)?;
    refused("an atomic_put", kv.atomic_put("k", "", None).ttl(ttl).await, ErrorKind::Unsupported)?;
    nothing(&kv).await?;
    Ended::ignored("keys do not expire on this backend")
}

async fn nothing(kv: &Kv) -> Result<(), Failure> {
    same("what was written", names(kv, "").await?, Vec::<String>::new())
}

async fn lease(t: Trial) -> Verdict {
    let kv = t.open().await?;
    if let Some(range) = &t.capabilities().lease {
        let lease = kv.lease(range.least.max(Duration::from_secs(15))).await?;
        kv.put("k", "").lease(&lease).await?;
        still_held("it is alive", &lease)?;
        holds("it was alive until it was revoked", lease.revoke().await?)?;
        return Ok(Ended::Kept);
    }
    refused("a lease", kv.lease(Duration::from_secs(15)).await, ErrorKind::Unsupported)?;
    Ended::ignored("the backend has no leases")
}

async fn watch(t: Trial) -> Verdict {
    let kv = t.open().await?;
    if t.capabilities().watch != Watching::Unsupported {
        super::snapshot(&t, &mut kv.watch("k").await?).await?;
        super::snapshot(&t, &mut kv.watch_tree("").await?).await?;
        return Ok(Ended::Kept);
    }
    refused("a watch", kv.watch("k").await, ErrorKind::Unsupported)?;
    refused("a watch of a tree", kv.watch_tree("").await, ErrorKind::Unsupported)?;
    refused("a watch of a holder", kv.lock_holder("l").watch().await, ErrorKind::Unsupported)?;
    Ended::ignored("the backend has no watches")
}

async fn lock(t: Trial) -> Verdict {
    let kv = t.open().await?;
    if t.capabilities().lock.is_some() {
        let guard = kv.new_lock("l").acquire().await?;
        still_held("it is held", &guard)?;
        holds("somebody holds it", kv.lock_holder("l").await?.is_some())?;
        holds("it was held until it was released", guard.release().await?)?;
        return Ok(Ended::Kept);
    }
    refused("acquire", kv.new_lock("l").acquire().await, ErrorKind::Unsupported)?;
    refused("try_acquire", kv.new_lock("l").try_acquire().await, ErrorKind::Unsupported)?;
    let within = kv.new_lock("l").acquire_within(Duration::from_secs(1)).await;
    refused("acquire_within", within, ErrorKind::Unsupported)?;
    refused("lock_holder", kv.lock_holder("l").await, ErrorKind::Unsupported)?;
    Ended::ignored("the backend has no locks")
}

async fn transact(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let transaction = kv.transact().then(kv.put("k", ""));
    if t.capabilities().max_txn_ops > 0 {
        holds("it happens", transaction.await?.is_committed())?;
        holds("the key is there", kv.exists("k").await?)?;
        return Ok(Ended::Kept);
    }
    refused("a transaction", transaction.await, ErrorKind::Unsupported)?;
    refused("one of conditions alone", kv.transact().when_missing("k").await, ErrorKind::Unsupported)?;
    nothing(&kv).await?;
    Ended::ignored("the backend has no transactions")
}

async fn health(t: Trial) -> Verdict {
    let kv = t.open().await?;
    if t.capabilities().health {
        kv.health().await?;
        return Ok(Ended::Kept);
    }
    refused("health", kv.health().await, ErrorKind::Unsupported)?;
    Ended::ignored("the backend has no health")
}

async fn health_answer(t: Trial) -> Verdict {
    if !t.capabilities().health {
        return Ended::ignored("the backend has no health");
    }
    let health = t.open().await?.health().await?;
    holds(format!("{health:?} names a version"), !health.version.is_empty())?;
    if let Some(leader) = &health.leader {
        holds(format!("{health:?} names a leader"), !leader.is_empty())?;
    }
    Ok(Ended::Kept)
}

const NO_URL: &str = "the harness opens no URLs";

async fn url(t: Trial) -> Verdict {
    let Some(url) = t.harness().url(t.prefix()) else { return Ended::ignored(NO_URL) };
    let Some(opened) = t.harness().open_url(&url).await else { return Ended::ignored(NO_URL) };
    let (by_url, kv) = (opened?, t.open().await?);
    by_url.put("d/k", "by the URL").await?;
    same("what the other client reads", text(&kv, "d/k").await?, Some("by the URL".to_owned()))?;
    same("the capabilities", by_url.capabilities(), kv.capabilities())?;
    Ok(Ended::Kept)
}

async fn parameter(t: Trial) -> Verdict {
    let Some(url) = t.harness().url(t.prefix()) else { return Ended::ignored(NO_URL) };
    let next = if url.contains('?') { '&' } else { '?' };
    let opened = t.harness().open_url(&format!("{url}{next}no-such-parameter=1")).await;
    let Some(opened) = opened else { return Ended::ignored(NO_URL) };
    let e = refused("an unknown parameter", opened, ErrorKind::InvalidArgument)?;
    for part in ["no-such-parameter", "known"] {
        holds(format!("{:?} says {part:?}", e.to_string()), e.to_string().contains(part))?;
    }
    in_open(&t, &e)?;
    Ok(Ended::Kept)
}

/// Checks that an error of opening a store names operation and backend, as those of calls do.
fn in_open(t: &Trial, e: &Error) -> Result<(), Failure> {
    same(
        "the operation and the backend",
        (e.operation(), e.backend()),
        (Some("open"), Some(t.capabilities().backend)),
    )
}

async fn scheme(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let directory = kv.directory();
    let registry = Registry::new().with("mine", move |_| {
        let store = kv.store().clone();
        async move { Ok(store) }
    });
    let e = refused("another scheme", registry.open("nosuch://h/p").await, ErrorKind::InvalidArgument)?;
    for part in ["nosuch", "mine"] {
        holds(format!("{:?} names {part:?}", e.to_string()), e.to_string().contains(part))?;
    }
    same("the operation", e.operation(), Some("open"))?;
    let e = refused("what is no URL", registry.open("mine").await, ErrorKind::InvalidArgument)?;
    same("the operation", e.operation(), Some("open"))?;
    let mine = registry.open("mine://").await?.within(directory)?;
    mine.put("k", "v").await?;
    same("what the registered store holds", text(&t.open().await?, "k").await?, Some("v".to_owned()))?;
    Ok(Ended::Kept)
}

async fn own_scheme(t: Trial) -> Verdict {
    let Some(url) = t.harness().url(t.prefix()) else { return Ended::ignored(NO_URL) };
    let scheme = StoreUrl::parse(&url)?.scheme().to_owned();
    let other = url.replacen(&scheme, "another-store", 1);
    let Some(opened) = t.harness().open_url(&other).await else { return Ended::ignored(NO_URL) };
    let e = refused("a URL of another store", opened, ErrorKind::InvalidArgument)?;
    for part in ["another-store", &scheme] {
        holds(format!("{:?} names {part:?}", e.to_string()), e.to_string().contains(part))?;
    }
    in_open(&t, &e)?;
    Ok(Ended::Kept)
}

async fn bad_url(t: Trial) -> Verdict {
    let Some(url) = t.harness().url(t.prefix()) else { return Ended::ignored(NO_URL) };
    let scheme = StoreUrl::parse(&url)?.scheme().to_owned();
    let bad = [
        format!("{scheme}:/user:hunter2@h"),
        format!("user:hunter2@{scheme}"),
        format!("{scheme}://user:hunter2@h/%zz"),
        format!("{scheme}://user:hunter2@h,,i/"),
        format!("{scheme}://user:hunter2@h/?a=1&a=2"),
    ];
    for url in bad {
        let Some(opened) = t.harness().open_url(&url).await else { return Ended::ignored(NO_URL) };
        let e = refused("a bad URL", opened, ErrorKind::InvalidArgument)?;
        holds("the password is not shown", !format!("{e} {e:?}").contains("hunter2"))?;
        in_open(&t, &e)?;
    }
    Ok(Ended::Kept)
}

async fn valkeyrie(t: Trial) -> Verdict {
    let Some(foreign) = t.harness().foreign() else {
        return Ended::ignored("the harness has no foreign tool");
    };
    // valkeyrie writes keys without a leading slash, and raw values.
    let written: [(&str, &[u8]); 4] = [
        ("plain", b"value"),
        ("docker/nodes/1", b"10.0.0.1:2375"),
        ("a/b/c/d", b"\x00\xff\x7f"),
        ("json", b"{\"a\":1}"),
    ];
    for (key, value) in written {
        foreign.put(&format!("{}{key}", t.prefix()), Bytes::from_static(value)).await;
    }
    let kv = t.open().await?;
    for (key, value) in written {
        let entry = kv.get(key).await?.ok_or_else(|| format!("{key:?} is not found"))?;
        same(format!("the value of {key:?}"), &entry.value[..], value)?;
    }
    kv.adopt("").await?;
    same("the listing", names(&kv, "").await?, ["a/b/c/d", "docker/nodes/1", "json", "plain"])?;
    let entry = kv.get("docker/nodes/1").await?.ok_or("it is gone")?;
    kv.atomic_put("docker/nodes/1", "10.0.0.2:2375", entry.version).await?;
    let name = format!("{}docker/nodes/1", t.prefix());
    same("what valkeyrie would read then", foreign.get(&name).await, Some(Bytes::from("10.0.0.2:2375")))?;
    kv.delete_tree("a").await?;
    same("what it finds of a deleted tree", foreign.get(&format!("{}a/b/c/d", t.prefix())).await, None)?;
    Ok(Ended::Kept)
}
