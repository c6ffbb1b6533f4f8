//! Errors that need no outage.

mod operation;

use super::{names, text};
use crate::{
    Ended, Failure, Trial, Verdict,
    check::{holds, refused, same},
};
use futures::{StreamExt, poll, stream};
use kv_core::{Error, ErrorKind, StoreUrl, Version};
use std::{collections::BTreeMap, future::IntoFuture, pin::pin, task::Poll, time::Duration};

cases! {
    "error.honest/names": "an error names the operation, the key and the backend, in its text too" => says,
    "error.honest/kinds": "a conflict is a conflict and nothing else, and no refusal is transient" => kinds,
    "error.honest/missing": "what is missing is no error" => missing,
    "error.honest/refused-first": "what is refused before it is sent writes nothing, also as part of a transaction" => refused_first,
    "error.operation/calls": "an error names the call that the program made: `put`, `delete_tree`, `acquire`" => operation::calls,
    "error.unknown/cut-off": "a write that is cut off took no effect where the error says so, and never half of it" => cut_off,
    "error.unknown/dropped": "a write whose future is dropped happens once or not at all" => dropped,
    "error.deadline/short": "a call with next to no time ends at once, as Timeout or OutcomeUnknown" => short,
    "error.deadline/per-handle": "the deadline of the handle counts for each call without its own" => per_handle,
    "error.deadline/unpolled": "a call waits for no others that nobody polls meanwhile" => unpolled,
    "error.deadline/unpolled-ttl": "a put with a TTL waits for no other of this TTL that nobody polls meanwhile" => unpolled_ttl,
    "error.secret/debug": "neither `Debug` nor an error shows the password of the URL" => secret,
}

/// Checks that the error names its operation, backend and key, in its text too, and says more.
fn complete(t: &Trial, e: &Error, operation: &str, key: Option<&str>) -> Result<(), Failure> {
    let backend = t.capabilities().backend;
    same("the operation", e.operation(), Some(operation))?;
    same("the backend", e.backend(), Some(backend))?;
    same("the key", e.key(), key)?;
    let text = e.to_string();
    for part in [operation, backend].into_iter().chain(key) {
        holds(format!("{text:?} names {part:?}"), text.contains(part))?;
    }
    holds(format!("{text:?} is one line"), !text.contains('\n'))?;
    holds(format!("{text:?} says something beyond that"), !e.message().is_empty())
}

async fn says(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let version = kv.put("d/k", "v").await?.version;
    kv.put("d/k", "v").await?;
    let e = refused("a creation", kv.atomic_put("d/k", "", None).await, ErrorKind::KeyExists)?;
    complete(&t, &e, "atomic_put", Some("d/k"))?;
    let e = refused("a swap", kv.atomic_put("d/k", "", version).await, ErrorKind::KeyModified)?;
    complete(&t, &e, "atomic_put", Some("d/k"))?;
    let e = refused("a delete", kv.atomic_delete("/d//k", version).await, ErrorKind::KeyModified)?;
    complete(&t, &e, "atomic_delete", Some("d/k"))?;
    let e = refused("a bad name", kv.get("a/../b").await, ErrorKind::InvalidKey)?;
    complete(&t, &e, "get", None)?;
    holds(format!("{:?} shows the name", e.to_string()), e.to_string().contains("a/../b"))?;
    let past = t.capabilities().max_value.saturating_add(1);
    if past <= 16 << 20 {
        let e = refused("a large value", kv.put("d/l", vec![0; past]).await, ErrorKind::TooLarge)?;
        complete(&t, &e, "put", Some("d/l"))?;
        let most = t.capabilities().max_value.to_string();
        holds(format!("{:?} names the most", e.to_string()), e.to_string().contains(&most))?;
    }
    kv.close().await?;
    let e = refused("a put on a closed handle", kv.put("d/k", "").await, ErrorKind::Closed)?;
    complete(&t, &e, "put", Some("d/k"))?;
    let e = refused("a listing on a closed handle", kv.list("d").await, ErrorKind::Closed)?;
    complete(&t, &e, "list", Some("d"))?;
    Ok(Ended::Kept)
}

async fn kinds(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let version = kv.put("k", "v").await?.version;
    kv.put("k", "v").await?;
    let conflicts = [
        kv.atomic_put("k", "", None).await.map(drop),
        kv.atomic_put("k", "", version).await.map(drop),
        kv.atomic_put("none", "", version).await.map(drop),
        kv.atomic_delete("k", version).await.map(drop),
        kv.atomic_delete("none", version).await.map(drop),
    ];
    for (answer, kind) in conflicts.into_iter().zip([
        ErrorKind::KeyExists,
        ErrorKind::KeyModified,
        ErrorKind::KeyModified,
        ErrorKind::KeyModified,
        ErrorKind::KeyModified,
    ]) {
        let e = refused("a conflict", answer, kind)?;
        holds(format!("{e:?} is a conflict"), e.is_conflict())?;
        holds(format!("{e:?} is not transient"), !e.is_transient())?;
    }
    let e = refused("a bad name", kv.put(" ", "").await, ErrorKind::InvalidKey)?;
    holds(format!("{e:?} is neither"), !e.is_conflict() && !e.is_transient())?;
    kv.close().await?;
    let e = refused("a closed handle", kv.put("k", "").await, ErrorKind::Closed)?;
    holds(format!("{e:?} is neither"), !e.is_conflict() && !e.is_transient())?;
    Ok(Ended::Kept)
}

async fn missing(t: Trial) -> Verdict {
    let kv = t.open().await?;
    same("get", kv.get("none").await?, None)?;
    holds("exists", !kv.exists("none").await?)?;
    holds("delete", !kv.delete("none/deeper").await?)?;
    same("list", kv.list("none").await?, Vec::new())?;
    holds("delete_tree", kv.delete_tree("none").await?.is_none_or(|n| n == 0))?;
    same("get_many", kv.get_many(["none", "neither"]).await?, vec![None, None])?;
    if t.capabilities().lock.is_some() {
        same("lock_holder", kv.lock_holder("none").await?, None)?;
    }
    same("adopt", kv.adopt("none").await?, 0)?;
    Ok(Ended::Kept)
}

async fn refused_first(t: Trial) -> Verdict {
    let kv = t.open().await?;
    kv.put("k", "v").await?;
    refused("a bad name", kv.put("k/ ", "w").await, ErrorKind::InvalidKey)?;
    if t.capabilities().max_txn_ops > 1 {
        let txn = kv.transact().then(kv.put("k", "w")).then(kv.put("a/./b", "")).await;
        refused("a transaction with a bad name", txn, ErrorKind::InvalidKey)?;
        let txn = kv.transact().then(kv.put("k", "w")).then(kv.put("t", "").ttl(Duration::ZERO)).await;
        let kind =
            if t.capabilities().ttl.is_some() { ErrorKind::InvalidArgument } else { ErrorKind::Unsupported };
        refused("a transaction with a bad TTL", txn, kind)?;
    }
    same("the key", text(&kv, "k").await?, Some("v".to_owned()))?;
    same("the listing", names(&kv, "").await?, ["k"])?;
    Ok(Ended::Kept)
}

async fn cut_off(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let (mut certain, mut unsent) = (BTreeMap::new(), Vec::new());
    for n in 0..200_u64 {
        let key = format!("d/{n:03}");
        match kv.put(&key, key.clone()).deadline(Duration::from_micros(n * n / 8)).await {
            Ok(written) => drop(certain.insert(key, written.version)),
            Err(e) if e.kind() == ErrorKind::OutcomeUnknown => {}
            Err(e) if e.is_transient() => unsent.push(key),
            Err(e) => return Err(format!("a put that was cut off: {e:?}").into()),
        }
    }
    // This put goes over the client's own connection, behind whatever is still on its way.
    kv.put("last", "").await?;
    for entry in t.open().await?.list("d").await? {
        same("the value", entry.text(), Some(entry.key.as_str()))?;
        holds(format!("{} was not sent, and is there", entry.key), !unsent.contains(&entry.key.to_string()))?;
        if let Some(version) = certain.remove(entry.key.as_str()) {
            same("its version", entry.version, version)?;
        }
    }
    same("acknowledged writes that are not there", certain, BTreeMap::new())?;
    Ok(Ended::Kept)
}

async fn dropped(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let version = kv.put("k", "0").await?.version;
    for n in 0..100_u64 {
        let put = kv.put(format!("d/{}", n % 10), format!("{n}")).into_future();
        // The put may be dropped half-way, or have ended by then: either is fine.
        let _ = tokio::time::timeout(Duration::from_micros(n * 10), put).await;
    }
    same("the key beside them", kv.get("k").await?.map(|e| e.version), Some(version))?;
    for n in 0..10 {
        let key = format!("d/{n}");
        kv.put(&key, "last").await?;
    }
    t.until("the dropped writes to be over", || async {
        let listed = kv.list("d").await?;
        Ok(listed.len() == 10)
    })
    .await?;
    kv.close().await?;
    Ok(Ended::Kept)
}

async fn short(t: Trial) -> Verdict {
    let kv = t.open().await?;
    kv.put("k", "v").await?;
    // "0ns" is no words for no time.
    let in_words = |e: &Error| !e.to_string().contains(" 0ns");
    let read = |e: Option<Error>| match e {
        None => Ok(()),
        Some(e) if e.kind() == ErrorKind::Timeout && in_words(&e) => Ok(()),
        Some(e) => Err(Failure::from(format!("a read without time: {e:?}"))),
    };
    let write = |e: Option<Error>| match e {
        None => Ok(()),
        Some(e) if (e.kind() == ErrorKind::OutcomeUnknown || e.is_transient()) && in_words(&e) => Ok(()),
        Some(e) => Err(Failure::from(format!("a write without time: {e:?}"))),
    };
    for none in [Duration::from_nanos(1), Duration::ZERO] {
        t.soon("calls with next to no time", async {
            read(kv.get("k").deadline(none).await.err())?;
            read(kv.get_many(["k", "l"]).deadline(none).await.err())?;
            read(kv.exists("k").deadline(none).await.err())?;
            read(kv.list("").deadline(none).await.err())?;
            write(kv.put("w", "").deadline(none).await.err())?;
            write(kv.delete("x").deadline(none).await.err())?;
            write(kv.delete_tree("y").deadline(none).await.err())?;
            if t.capabilities().max_txn_ops > 0 {
                write(kv.transact().then(kv.put("z", "")).deadline(none).await.err())?;
            }
            Ok::<_, Failure>(())
        })
        .await??;
    }
    same("a call behind them", text(&kv, "k").await?, Some("v".to_owned()))?;
    Ok(Ended::Kept)
}

async fn per_handle(t: Trial) -> Verdict {
    let kv = t.open().await?.with_deadline(Duration::from_nanos(1));
    t.soon("calls on a handle with next to no time", async {
        for _ in 0..20 {
            if let Err(e) = kv.get("k").await {
                same("the kind", e.kind(), ErrorKind::Timeout)?;
            }
        }
        Ok::<_, Failure>(())
    })
    .await??;
    let own = kv.put("k", "v").deadline(Duration::from_secs(20)).await?;
    let found = kv.get("k").deadline(Duration::from_secs(20)).await?;
    same("what calls with a deadline of their own do", found.map(|e| e.version), Some(own.version))?;
    Ok(Ended::Kept)
}

/// A program that works on each answer of many calls does not poll the others meanwhile.
async fn unpolled(t: Trial) -> Verdict {
    const CALLS: usize = 400;
    let kv = t.open().await?;
    let gets = stream::iter(0..CALLS).map(|n| kv.get(format!("k/{n}")).into_future());
    let (mut gets, mut answers) = (gets.buffer_unordered(CALLS / 2), 0);
    while let Some(found) = gets.next().await {
        same("the key", found?, None)?;
        kv.put("answers", answers.to_string()).await?;
        answers += 1;
    }
    same("the answers", answers, CALLS)?;
    Ok(Ended::Kept)
}

async fn unpolled_ttl(t: Trial) -> Verdict {
    if t.capabilities().ttl.is_none() {
        return Ended::ignored("keys do not expire on this backend");
    }
    let kv = t.open().await?;
    for polls in 1..=3_u64 {
        // Each round has a TTL of its own, for which nothing is there yet.
        let ttl = t.short_ttl(Duration::from_secs(20)) + Duration::from_secs(polls);
        let mut left = pin!(kv.put("left", "").ttl(ttl).into_future());
        let mut written = None;
        for _ in 0..polls {
            if written.is_none() {
                written = match poll!(left.as_mut()) {
                    Poll::Ready(put) => Some(put?),
                    Poll::Pending => None,
                };
            }
        }
        kv.put("other", "").ttl(ttl).await?;
        if written.is_none() {
            left.await?;
        }
    }
    Ok(Ended::Kept)
}

async fn secret(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let Some(url) = t.harness().url(t.prefix()) else {
        return Ended::ignored("the harness has no URL");
    };
    let url = StoreUrl::parse(&url)?;
    let Some(password) = url.password() else {
        return Ended::ignored("the server asks for no password");
    };
    let version = Version::new(0, 0);
    let mut texts = vec![format!("{kv:?}"), format!("{url:?} {url}"), format!("{:?}", kv.store())];
    texts.push(format!("{:?}", kv.get("k")));
    texts.push(format!("{:?}", kv.put("k", "v")));
    let errors = [kv.atomic_put("k", "", version).await.err(), kv.get("..").await.err()];
    texts.extend(errors.into_iter().flatten().map(|e| format!("{e} {e:?} {:?}", e.cause())));
    for text in texts {
        holds("the password is not shown", !text.contains(password.reveal()))?;
    }
    Ok(Ended::Kept)
}
