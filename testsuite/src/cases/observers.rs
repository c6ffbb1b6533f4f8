//! Observers: what a handle tells of its calls.

use crate::{
    Ended, Trial, Verdict,
    check::{refused, same},
};
use kv_core::{
    ErrorKind, Watching,
    observe::{Call, End, Holding, Observer},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

cases! {
    "observer/calls": "an observer hears of each call of its handle, by operation and key, and how it ended" => calls,
    "observer/held": "an observer hears of each lock, lease and watch that there is, and of its end" => held,
}

/// Writes down what it hears, a line for each end of a call.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Heard {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, line: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

impl Observer for Heard {
    fn call_began(&self, call: &Call<'_>) {
        self.note(format!("{} {}", call.operation, call.key.unwrap_or("-")));
    }

    fn call_ended(&self, call: &Call<'_>, end: End<'_>, _: Duration) {
        let end = match end {
            End::Answered => "ok",
            End::Failed(error) => error.kind().as_str(),
            End::Dropped => "dropped",
        };
        self.note(format!("{} {end}", call.operation));
    }
}

async fn calls(t: Trial) -> Verdict {
    let (plain, heard) = (t.open().await?, Arc::new(Heard::default()));
    let kv = plain.clone().with_observer(heard.clone());
    let version = kv.put("d/a", "1").await?.version;
    same("what is heard of a put", heard.take(), ["put d/a", "put ok"])?;
    refused("a creation of what is there", kv.put("d/a", "").if_missing().await, ErrorKind::KeyExists)?;
    same("what is heard of it", heard.take(), ["put d/a", "put key_exists"])?;
    kv.within("d")?.delete("a").if_version(version).await?;
    same("what is heard of a part", heard.take(), ["delete a", "delete ok"])?;
    kv.list("d").await?;
    same("what is heard of a listing", heard.take(), ["list d", "list ok"])?;
    plain.put("d/b", "").await?;
    same("what is heard of another handle", heard.take(), Vec::<String>::new())?;
    if t.capabilities().lock.is_some() {
        t.soon("a free lock", kv.new_lock("l").acquire()).await??.release().await?;
        let all = ["acquire l", "acquire ok", "release l", "release ok"];
        same("what is heard of a lock", heard.take(), all)?;
    }
    kv.close().await?;
    same("what is heard of the end", heard.take(), ["close -", "close ok"])?;
    refused("a get after it", kv.get("d/a").await, ErrorKind::Closed)?;
    same("what is heard of that", heard.take(), ["get d/a", "get closed"])?;
    Ok(Ended::Kept)
}

/// Counts what there is, by its operation.
#[derive(Default)]
struct Counts(Mutex<BTreeMap<&'static str, (u32, u32)>>);

impl Counts {
    fn of(&self) -> BTreeMap<&'static str, (u32, u32)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, operation: &'static str, begins: bool) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (began, ended) = counts.entry(operation).or_default();
        *(if begins { began } else { ended }) += 1;
    }
}

impl Observer for Counts {
    fn watch_began(&self, watch: &Call<'_>) {
        self.note(watch.operation, true);
    }

    fn watch_ended(&self, watch: &Call<'_>) {
        self.note(watch.operation, false);
    }

    fn took(&self, holding: &Holding<'_>) {
        self.note(holding.operation, true);
    }

    fn let_go(&self, holding: &Holding<'_>) {
        self.note(holding.operation, false);
    }
}

async fn held(t: Trial) -> Verdict {
    let (plain, counts, c) = (t.open().await?, Arc::new(Counts::default()), t.capabilities());
    let kv = plain.clone().with_observer(counts.clone());
    let mut there = BTreeMap::new();
    let (mut locks, mut leases, mut watches) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..2 {
        if c.lock.is_some() {
            locks.push(t.soon("a free lock", kv.new_lock(format!("l/{n}")).acquire()).await??);
            there.insert("lock", (2, 0));
        }
        if let Some(range) = &c.lease {
            leases.push(kv.lease(range.greatest.min(range.least.max(Duration::from_secs(10)))).await?);
            there.insert("lease", (2, 0));
        }
        if c.watch != Watching::Unsupported {
            watches.push(kv.watch_tree("d").await?);
            there.insert("watch_tree", (2, 0));
        }
    }
    same("what there is", counts.of(), there.clone())?;
    // One of each is given back, and the other dropped.
    if let Some(lock) = locks.pop() {
        lock.release().await?;
    }
    if let Some(lease) = leases.pop() {
        lease.revoke().await?;
    }
    drop((locks, leases, watches));
    for (_, ended) in there.values_mut() {
        *ended = 2;
    }
    same("what has ended", counts.of(), there)?;
    kv.close().await?;
    Ok(Ended::Kept)
}
