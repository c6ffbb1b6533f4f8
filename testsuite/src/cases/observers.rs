//! Observers: what a handle tells of its calls.

use crate::{
    Ended, Trial, Verdict,
    check::{refused, same},
};
use kv_core::{
    ErrorKind,
    observe::{Call, End, Observer},
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

cases! {
    "observer/calls": "an observer hears of each call of its handle, by operation and key, and how it ended" => calls,
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
    same("what is heard of it", heard.take(), ["atomic_put d/a", "atomic_put key_exists"])?;
    kv.within("d")?.delete("a").if_version(version).await?;
    same("what is heard of a part", heard.take(), ["atomic_delete a", "atomic_delete ok"])?;
    kv.list("d").await?;
    same("what is heard of a listing", heard.take(), ["list d", "list ok"])?;
    plain.put("d/b", "").await?;
    same("what is heard of another handle", heard.take(), Vec::<String>::new())?;
    if t.capabilities().lock.is_some() {
        t.soon("a free lock", kv.new_lock("l").acquire()).await??.release().await?;
        let all = ["lock l", "lock ok", "release l", "release ok"];
        same("what is heard of a lock", heard.take(), all)?;
    }
    kv.close().await?;
    same("what is heard of the end", heard.take(), ["close -", "close ok"])?;
    refused("a get after it", kv.get("d/a").await, ErrorKind::Closed)?;
    same("what is heard of that", heard.take(), ["get d/a", "get closed"])?;
    Ok(Ended::Kept)
}
