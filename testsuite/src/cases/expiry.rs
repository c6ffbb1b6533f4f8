//! TTLs. Leases have a file of their own.

use super::{change, names, snapshot, text};
use crate::{
    Ended, Failure, Trial, Verdict,
    check::{holds, refused, refused_at, same},
    lateness::Stopwatch,
};
use kv_core::{ErrorKind, Kv, Outcome, TtlRange, Version, WatchEvent, Watching, Written};
use std::{future::IntoFuture, time::Duration};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

cases! {
    "clock.assumed/one-measure": "a TTL lasts as long for a reader as for the writer, and for both clients' own" => one_measure,
    "ttl.never_early/put": "a key put with a TTL is there for the granted TTL" => never_early,
    "ttl.never_early/many": "so are many keys with different TTLs" => many,
    "ttl.never_early/raced": "so is one that its writer wrote without a TTL too, at the same time and before" => raced,
    "ttl.goes/everywhere": "an expired key is gone from every read, listing and condition" => goes,
    "ttl.goes/event": "a watch tells of its end, by a Delete" => event,
    "ttl.goes/tree": "a directory of which all keys have expired is empty, and its name is free" => tree,
    "ttl.goes/parent": "a key goes in time although it has children, and they stay; and the other way round" => parent,
    "ttl.goes/remade": "a stale version does not match a key made anew after its end" => remade,
    "ttl.replaced/permanent": "a put without a TTL makes the key permanent, by every kind of put" => permanent,
    "ttl.replaced/anew": "a put with a TTL starts it anew" => anew,
    "ttl.replaced/deleted": "a key that was deleted and made anew does not end by its old TTL" => deleted,
    "ttl.replaced/refused-put": "a put that was refused leaves the TTL as it was" => refused_put,
    "ttl.replaced/every-put": "atomic_put and transact take a TTL, and the key goes" => every_put,
    "ttl.replaced/and-lease": "a TTL together with a lease is InvalidArgument" => and_lease,
    "ttl.refused/zero": "a TTL of zero is InvalidArgument, and nothing is written" => zero,
    "ttl.refused/greatest": "the greatest TTL works, above it InvalidArgument, and nothing is written" => greatest,
    "ttl.refused/rounded": "a TTL is rounded up to the unit and raised to the least, and the granted one is answered" => rounded,
}

/// Returns the range of TTLs. Where keys do not expire, sees that a put with a TTL is refused, and
/// returns the end of the case.
async fn range(t: &Trial) -> Result<Result<TtlRange, Ended>, Failure> {
    if let Some(range) = &t.capabilities().ttl {
        return Ok(Ok(range.clone()));
    }
    let kv = t.open().await?;
    let put = kv.put("k", "").ttl(Duration::from_secs(20));
    refused("a put with a TTL", put.await, ErrorKind::Unsupported)?;
    let put = kv.atomic_put("k", "", None).ttl(Duration::from_secs(20));
    refused("an atomic_put with a TTL", put.await, ErrorKind::Unsupported)?;
    same("the key", text(&kv, "k").await?, None)?;
    Ok(Err(Ended::Ignored("keys do not expire on this backend".into())))
}

macro_rules! needs_ttl {
    ($t:expr) => {
        match range(&$t).await? {
            Ok(range) => range,
            Err(ended) => return Ok(ended),
        }
    };
}

/// A life of a key, by the test's clock: the write happened between `sent` and `answered`.
#[derive(Clone, Copy, Debug)]
struct Life {
    version: Version,
    sent: Instant,
    answered: Instant,
    granted: Duration,
}

impl Life {
    async fn of(put: kv_core::Put) -> Result<Self, Failure> {
        let sent = Instant::now();
        let written: Written = put.await?;
        let granted = written.ttl.ok_or("a put with a TTL answered none")?;
        Ok(Self { version: written.version, sent, answered: Instant::now(), granted })
    }

    /// Returns the moment before which the key must not be found missing; one percent is left for
    /// the difference of clocks.
    fn until(&self) -> Instant {
        self.sent + self.granted.mul_f64(0.99)
    }

    /// Returns the moment after which no read may begin that still finds the key; one percent is
    /// left for the difference of clocks.
    fn over(&self, t: &Trial) -> Instant {
        self.answered + (self.granted + t.capabilities().lateness(self.granted)).mul_f64(1.01)
    }

    async fn wait(&self, t: &Trial) {
        t.note(format!("a TTL of {:?} to pass", self.granted));
        sleep_until(self.over(t)).await;
    }
}

/// Reads the key until it is gone; fails when that is too early or too late.
async fn dies_in_time(t: &Trial, kv: &Kv, key: &str, life: Life) -> Result<(), Failure> {
    // A machine that wakes this program late is as late with what ends the key.
    let watch = Stopwatch::start();
    loop {
        let asked = Instant::now();
        let there = kv.exists(key).await?;
        let told = Instant::now();
        let lived = told - life.sent;
        if !there {
            let early = told < life.until();
            return holds(
                format!("{key:?} was there for {:?}, found gone after {lived:?}", life.granted),
                !early,
            );
        }
        let over = life.over(t) + watch.late();
        holds(format!("{key:?} is gone in time, found after {lived:?}"), asked <= over)?;
        t.note(format!("the end of {key:?}"));
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

async fn one_measure(t: Trial) -> Verdict {
    let _range = needs_ttl!(t);
    let (kv, other) = (t.open().await?, t.open().await?);
    let ttl = t.short_ttl(Duration::from_millis(1_200));
    let (one, two) =
        (Life::of(kv.put("one", "").ttl(ttl)).await?, Life::of(other.put("two", "").ttl(ttl)).await?);
    let (a, b, c, d) = futures::join!(
        dies_in_time(&t, &kv, "one", one),
        dies_in_time(&t, &other, "one", one),
        dies_in_time(&t, &kv, "two", two),
        dies_in_time(&t, &other, "two", two),
    );
    for in_time in [a, b, c, d] {
        in_time?;
    }
    Ok(Ended::Kept)
}

async fn never_early(t: Trial) -> Verdict {
    let _range = needs_ttl!(t);
    let kv = t.open().await?;
    let life = Life::of(kv.put("d/k", "v").ttl(t.short_ttl(Duration::from_millis(700)))).await?;
    let value = text(&kv, "d/k").await?;
    // The answers may have taken the whole TTL.
    let is_over = Instant::now() >= life.until();
    let is_right = value.as_deref().map_or(is_over, |value| value == "v");
    holds(format!("the value meanwhile is v, found {value:?}"), is_right)?;
    dies_in_time(&t, &kv, "d/k", life).await?;
    Ok(Ended::Kept)
}

async fn many(t: Trial) -> Verdict {
    let range = needs_ttl!(t);
    let kv = t.open().await?;
    let mut lives = Vec::new();
    for n in 0..12_u32 {
        let ttl =
            t.short_ttl(Duration::from_millis(300)) + (range.unit * (n % 3)).min(Duration::from_secs(1));
        lives.push((
            format!("d/{n}"),
            Life::of(kv.put(format!("d/{n}"), "").ttl(ttl.min(range.greatest))).await?,
        ));
    }
    let all = lives.iter().map(|(key, life)| dies_in_time(&t, &kv, key, *life));
    futures::future::try_join_all(all).await?;
    same("the listing", names(&kv, "").await?, Vec::<String>::new())?;
    Ok(Ended::Kept)
}

async fn raced(t: Trial) -> Verdict {
    let range = needs_ttl!(t);
    let ttl = range.grant(Duration::from_secs(4))?;
    let kv = t.open().await?;
    let begun = Instant::now();
    let mut rounds = JoinSet::new();
    for n in 0..100_u64 {
        let kv = kv.clone();
        rounds.spawn(async move {
            // Each key has a TTL of its own: what ends one key ends no other. Another key gets the
            // same TTL before: what a client has to set up for a TTL then holds up neither of the
            // two writes.
            let (key, warm, ttl) = (format!("d/{n}"), format!("w/{n}"), ttl + Duration::from_millis(n));
            kv.put(&warm, "").ttl(ttl).await?;
            let (with, without) = (kv.put(&key, "").ttl(ttl), kv.put(&key, ""));
            let (first, second) = if n % 2 == 0 { (with, without) } else { (without, with) };
            let both = futures::future::try_join(first.into_future(), second.into_future());
            let (first, second) = both.await?;
            kv.delete(&warm).await?;
            Ok::<_, kv_core::Error>((key, first.version.max(second.version)))
        });
    }
    let mut last = Vec::new();
    while let Some(round) = t.soon("writes of one key at the same time", rounds.join_next()).await? {
        last.push(round??);
    }
    // By now a client has cleared away whatever it clears away behind its writes.
    sleep_until(begun + ttl.mul_f64(0.8)).await;
    for (key, version) in last {
        let found = kv.get(&key).await?.map(|entry| entry.version);
        if begun.elapsed() < ttl {
            same(format!("the last version of {key}"), found, Some(version))?;
        }
    }
    Ok(Ended::Kept)
}

async fn goes(t: Trial) -> Verdict {
    let _range = needs_ttl!(t);
    let kv = t.open().await?;
    let ttl = t.short_ttl(Duration::from_millis(500));
    let mut last = Vec::new();
    for n in 0..8 {
        last.push(Life::of(kv.put(format!("d/{n}"), "v").ttl(ttl)).await?);
    }
    kv.put("d/stays", "").await?;
    for life in &last {
        life.wait(&t).await;
    }
    same("list", names(&kv, "d").await?, ["d/stays"])?;
    same("get", text(&kv, "d/0").await?, None)?;
    holds("exists says no", !kv.exists("d/1").await?)?;
    let stays = kv.get("d/stays").await?;
    same("get_many", kv.get_many(["d/1", "d/stays"]).await?, vec![None, stays])?;
    holds("delete finds nothing", !kv.delete("d/2").await?)?;
    kv.atomic_put("d/3", "anew", None).await?;
    let version = last[4].version;
    refused("a swap", kv.atomic_put("d/4", "", version).await, ErrorKind::KeyModified)?;
    refused("a delete at its version", kv.atomic_delete("d/4", version).await, ErrorKind::KeyModified)?;
    if t.capabilities().max_txn_ops > 2 {
        let done = kv.transact().when_exists("d/5").then(kv.put("d/x", "")).await?;
        refused_at("the condition that it exists", &done, 0)?;
        let done = kv.transact().when_missing("d/5").then(kv.put("d/6", "anew").if_missing()).await?;
        holds("the condition that it is missing is true", done.is_committed())?;
    }
    let mut children = kv.list("d").child_keys();
    while let Some(item) = children.next().await {
        let place = item?.position().start();
        holds(format!("{place:?} is not expired"), ["d/3", "d/6", "d/stays"].contains(&place.as_str()))?;
    }
    let count = kv.delete_tree("d").await?;
    let left = 2 + u64::from(t.capabilities().max_txn_ops > 2);
    holds(format!("delete_tree counts {left}, found {count:?}"), count.is_none_or(|n| n == left))?;
    Ok(Ended::Kept)
}

async fn event(t: Trial) -> Verdict {
    let _range = needs_ttl!(t);
    let kv = t.open().await?;
    if t.capabilities().watch == Watching::Unsupported {
        return Ended::ignored("the backend has no watches");
    }
    let (mut one, mut tree) = (kv.watch("d/k").await?, kv.watch_tree("d").await?);
    snapshot(&t, &mut one).await?;
    snapshot(&t, &mut tree).await?;
    let life = Life::of(kv.put("d/k", "v").ttl(t.short_ttl(Duration::from_millis(500)))).await?;
    for watch in [&mut one, &mut tree] {
        let put = t.soon("the event of the put", change(watch)).await??;
        let WatchEvent::Put(entry) = put else { return Err(format!("expected a put, found {put:?}").into()) };
        let wait = life.over(&t).saturating_duration_since(Instant::now()) + t.patience();
        let end = t.within(wait, "the event of the end", change(watch)).await??;
        let WatchEvent::Delete { key, version } = end else {
            return Err(format!("expected a delete, found {end:?}").into());
        };
        same("the key", key.as_str(), "d/k")?;
        holds(format!("the version {version} is {} or newer", entry.version), version >= entry.version)?;
        holds("it is not told early", Instant::now() >= life.until())?;
        holds("it is gone for a get too", !kv.exists("d/k").await?)?;
    }
    Ok(Ended::Kept)
}

async fn tree(t: Trial) -> Verdict {
    let _range = needs_ttl!(t);
    let kv = t.open().await?;
    let ttl = t.short_ttl(Duration::from_millis(400));
    Life::of(kv.put("p/c/k", "").ttl(ttl)).await?;
    let life = Life::of(kv.put("q/k", "").ttl(ttl)).await?;
    life.wait(&t).await;
    let child = kv.list("").children().next().await.transpose()?;
    same("the first child of the root", child, None)?;
    kv.put("p", "free").await?;
    kv.put("q/k/deeper", "").await?;
    same("the listing", names(&kv, "").await?, ["p", "q/k/deeper"])?;
    Ok(Ended::Kept)
}

async fn parent(t: Trial) -> Verdict {
    let _range = needs_ttl!(t);
    let kv = t.open().await?;
    let ttl = t.short_ttl(Duration::from_millis(500));
    let mut left = vec!["q"];
    kv.put("q", "").await?;
    let mut lives = vec![("q/c", Life::of(kv.put("q/c", "").ttl(ttl)).await?)];
    if t.capabilities().children_of_expiring {
        lives.push(("p", Life::of(kv.put("p", "").ttl(ttl)).await?));
        kv.put("p/c", "").await?;
        left.insert(0, "p/c");
    }
    for (key, life) in lives {
        dies_in_time(&t, &kv, key, life).await?;
    }
    same("what is left", names(&kv, "").await?, left)?;
    Ok(Ended::Kept)
}

async fn remade(t: Trial) -> Verdict {
    let _range = needs_ttl!(t);
    let kv = t.open().await?;
    let life = Life::of(kv.put("k", "v").ttl(t.short_ttl(Duration::from_millis(400)))).await?;
    let stale = life.version;
    life.wait(&t).await;
    let version = kv.atomic_put("k", "v", None).await?.version;
    holds(format!("the new version {version} is greater than {stale}"), version > stale)?;
    refused("a swap", kv.atomic_put("k", "x", stale).await, ErrorKind::KeyModified)?;
    refused("a delete", kv.atomic_delete("k", stale).await, ErrorKind::KeyModified)?;
    Ok(Ended::Kept)
}

async fn permanent(t: Trial) -> Verdict {
    let _range = needs_ttl!(t);
    let kv = t.open().await?;
    let ttl = t.short_ttl(Duration::from_millis(500));
    let keys = ["put", "same-bytes", "swapped", "by-transact", "moved"];
    // The swap must find its key, which has a longer TTL; a put may find its key or not.
    let swapped = Life::of(kv.put("swapped", "v").ttl(t.short_ttl(Duration::from_secs(4)))).await?;
    let mut lives = vec![swapped];
    for key in keys.iter().filter(|key| **key != "swapped") {
        lives.push(Life::of(kv.put(*key, "v").ttl(ttl)).await?);
    }
    same("the TTL that a plain put answers", kv.put("put", "w").await?.ttl, None)?;
    kv.put("same-bytes", "v").await?;
    kv.atomic_put("swapped", "v", swapped.version).await?;
    if t.capabilities().max_txn_ops > 0 {
        holds("it happens", kv.transact().then(kv.put("by-transact", "v")).await?.is_committed())?;
    } else {
        kv.put("by-transact", "v").await?;
    }
    t.open().await?.put("moved", "by another client").await?;
    for life in lives {
        life.wait(&t).await;
    }
    same("what is there after the TTL", names(&kv, "").await?, super::in_order(keys))?;
    Ok(Ended::Kept)
}

async fn anew(t: Trial) -> Verdict {
    let _range = needs_ttl!(t);
    let kv = t.open().await?;
    let ttl = t.short_ttl(Duration::from_millis(900));
    Life::of(kv.put("k", "v").ttl(ttl)).await?;
    let mut life = Life::of(kv.put("k", "v").ttl(ttl)).await?;
    for _ in 0..2 {
        t.note("a part of a TTL to pass");
        sleep_until(life.sent + life.granted.mul_f64(0.7)).await;
        life = Life::of(kv.put("k", "v").ttl(ttl)).await?;
    }
    dies_in_time(&t, &kv, "k", life).await?;
    Ok(Ended::Kept)
}

async fn deleted(t: Trial) -> Verdict {
    let _range = needs_ttl!(t);
    let kv = t.open().await?;
    let ttl = t.short_ttl(Duration::from_millis(500));
    let keys = ["deleted", "tree/deleted"];
    let mut lives = Vec::new();
    for key in keys {
        lives.push(Life::of(kv.put(key, "v").ttl(ttl)).await?);
    }
    kv.delete("deleted").await?;
    kv.delete_tree("tree").await?;
    for key in keys {
        kv.atomic_put(key, "v", None).await?;
    }
    for life in lives {
        life.wait(&t).await;
    }
    same("what is there after the old TTL", names(&kv, "").await?, keys)?;
    Ok(Ended::Kept)
}

async fn refused_put(t: Trial) -> Verdict {
    let range = needs_ttl!(t);
    let kv = t.open().await?;
    // The key must be there for all that is refused.
    let ttl = t.short_ttl(Duration::from_secs(4));
    let stale = kv.put("stays", "v").await?.version;
    let version = kv.put("stays", "v").await?.version;
    let life = Life::of(kv.put("goes", "v").ttl(ttl)).await?;
    let longer = (life.granted * 20).min(range.greatest);
    for (key, ttl) in [("stays", ttl), ("goes", longer)] {
        refused("a swap", kv.atomic_put(key, "x", stale).ttl(ttl).await, ErrorKind::KeyModified)?;
        refused("a creation", kv.atomic_put(key, "x", None).ttl(ttl).await, ErrorKind::KeyExists)?;
        if t.capabilities().max_txn_ops > 1 {
            let done = kv.transact().when_missing(key).then(kv.put(key, "x").ttl(ttl)).await?;
            refused_at("a transaction", &done, 0)?;
        }
    }
    refused("a swap without a TTL", kv.atomic_put("goes", "x", stale).await, ErrorKind::KeyModified)?;
    dies_in_time(&t, &kv, "goes", life).await?;
    life.wait(&t).await;
    same("the version of the one that stays", kv.get("stays").await?.map(|e| e.version), Some(version))?;
    Ok(Ended::Kept)
}

async fn every_put(t: Trial) -> Verdict {
    let _range = needs_ttl!(t);
    let kv = t.open().await?;
    let ttl = t.short_ttl(Duration::from_millis(500));
    let mut lives = vec![("created", Life::of(kv.atomic_put("created", "v", None).ttl(ttl)).await?)];
    let version = kv.put("swapped", "v").await?.version;
    lives.push(("swapped", Life::of(kv.atomic_put("swapped", "v", version).ttl(ttl)).await?));
    if t.capabilities().max_txn_ops > 1 {
        let sent = Instant::now();
        let done = kv.transact().then(kv.put("in/txn", "v").ttl(ttl)).then(kv.put("stays", "v")).await?;
        let Outcome::Committed(written) = done else {
            return Err("a transaction without conditions was refused".into());
        };
        let first = written[0].ok_or("a put in a transaction answered no version")?;
        let granted = first.ttl.ok_or("a put in a transaction answered no TTL")?;
        same("the TTL of the other", written[1].and_then(|w| w.ttl), None)?;
        lives.push(("in/txn", Life { version: first.version, sent, answered: Instant::now(), granted }));
    } else {
        kv.put("stays", "v").await?;
    }
    for (key, life) in &lives {
        holds(format!("{key} got at least what it asked for"), life.granted >= ttl)?;
        dies_in_time(&t, &kv, key, *life).await?;
    }
    same("what is left", names(&kv, "").await?, ["stays"])?;
    Ok(Ended::Kept)
}

async fn and_lease(t: Trial) -> Verdict {
    let range = needs_ttl!(t);
    let Some(leases) = &t.capabilities().lease else {
        return Ended::ignored("the backend has no leases");
    };
    let kv = t.open().await?;
    let lease = kv.lease(leases.least.max(Duration::from_secs(15))).await?;
    let put = kv.put("k", "").ttl(range.least).lease(&lease);
    refused("a put", put.await, ErrorKind::InvalidArgument)?;
    let put = kv.atomic_put("k", "", None).lease(&lease).ttl(range.least);
    refused("an atomic_put", put.await, ErrorKind::InvalidArgument)?;
    if t.capabilities().max_txn_ops > 0 {
        let txn = kv.transact().then(kv.put("k", "").ttl(range.least).lease(&lease));
        refused("a transaction", txn.await, ErrorKind::InvalidArgument)?;
    }
    same("the listing", names(&kv, "").await?, Vec::<String>::new())?;
    Ok(Ended::Kept)
}

/// Checks that every kind of put refuses this TTL, and writes nothing.
async fn refuses(t: &Trial, kv: &Kv, ttl: Duration) -> Result<(), Failure> {
    let old = kv.put("old", "v").await?.version;
    let of = |what: &str| format!("{what} with a TTL of {ttl:?}");
    refused(of("a put"), kv.put("k", "").ttl(ttl).await, ErrorKind::InvalidArgument)?;
    refused(of("a put over a key"), kv.put("old", "w").ttl(ttl).await, ErrorKind::InvalidArgument)?;
    refused(of("an atomic_put"), kv.atomic_put("old", "w", old).ttl(ttl).await, ErrorKind::InvalidArgument)?;
    if t.capabilities().max_txn_ops > 1 {
        let txn = kv.transact().then(kv.put("old", "w")).then(kv.put("k", "").ttl(ttl)).await;
        refused(of("a transaction"), txn, ErrorKind::InvalidArgument)?;
    }
    same("the key that was there", kv.get("old").await?.map(|e| e.version), Some(old))?;
    same("the listing", names(kv, "").await?, ["old"])
}

async fn zero(t: Trial) -> Verdict {
    let _range = needs_ttl!(t);
    let kv = t.open().await?;
    refuses(&t, &kv, Duration::ZERO).await?;
    Ok(Ended::Kept)
}

async fn greatest(t: Trial) -> Verdict {
    let range = needs_ttl!(t);
    let kv = t.open().await?;
    refuses(&t, &kv, Duration::MAX).await?;
    if let Some(above) = range.greatest.checked_add(Duration::from_nanos(1)) {
        refuses(&t, &kv, above).await?;
    }
    same(
        "what is granted of the greatest",
        kv.put("k", "").ttl(range.greatest).await?.ttl,
        Some(range.greatest),
    )?;
    holds("the key is there", kv.exists("k").await?)?;
    Ok(Ended::Kept)
}

async fn rounded(t: Trial) -> Verdict {
    let range = needs_ttl!(t);
    let kv = t.open().await?;
    let nano = Duration::from_nanos(1);
    let asked = [
        nano,
        Duration::from_millis(1),
        range.least.saturating_sub(nano).max(nano),
        range.least.max(nano),
        range.least + nano,
        range.least + range.unit,
        range.least + range.unit + nano,
        range.least + range.unit * 3 / 2,
    ];
    for (n, ttl) in asked.into_iter().enumerate() {
        let ttl = ttl.min(range.greatest);
        let granted = kv.put(format!("{n}"), "").ttl(ttl).await?.ttl;
        same(format!("what is granted of {ttl:?}"), granted, Some(range.grant(ttl)?))?;
        holds("it is no less than asked for", granted >= Some(ttl))?;
    }
    Ok(Ended::Kept)
}
