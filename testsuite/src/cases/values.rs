//! Values and versions.

mod fenced;

use super::{each, names, snapshot, text};
use crate::{
    Ended, Failure, Trial, Verdict,
    check::{differ, holds, refused, same},
};
use futures::FutureExt;
use kv_core::{Bytes, ErrorKind, ForeignKeys, Kv, Outcome, Version, Watching};
use std::{collections::BTreeSet, future::IntoFuture, time::Duration};

cases! {
    "value.bytes/any": "any bytes come back as they were put, by every way of writing and reading" => any_bytes,
    "value.bytes/empty": "an empty value is a value: the key is there" => empty,
    "value.bytes/256k": "256 KiB work everywhere" => large,
    "value.bytes/fenced": "256 KiB and `max_value` bytes work in every way of writing: with a TTL, under a lease, at a version, fenced, in a transaction" => fenced::every_way,
    "value.bytes/greatest": "values of `max_value` bytes work; past it TooLarge, and nothing is written, nobody disturbed" => greatest,
    "value.native/ours": "the server's own tools read the bytes that were put" => ours,
    "value.native/theirs": "`get` reads what the server's own tools wrote, changed and deleted" => theirs,
    "value.native/adopt": "other tools' keys are listed and watched at once, or after adoption, as declared" => adopt,
    "value.native/first-write": "other tools' keys are listed after their first write through the library" => first_write,
    "version.opaque/same-bytes": "a put of the same bytes gives a new version" => same_bytes,
    "version.opaque/every-write": "every write gives a new version: put, atomic_put, transact, by any client" => every_write,
    "version.opaque/read": "a version is the same for the writer and for every reader, in every call" => read,
    "version.opaque/order": "later versions of a key are greater" => order,
    "version.opaque/text": "a version can be printed, and parsed again" => printed,
    "version.opaque/remade": "a stale version never matches, also after the key was deleted and made anew" => remade,
    "version.opaque/remade-tree": "a stale version never matches after its tree was deleted and made anew" => remade_tree,
    "version.opaque/remade-by-another": "a stale version never matches a key made anew by another client" => remade_by_another,
    "version.opaque/as-often": "a key made anew and written as often as before has other versions" => as_often,
    "version.opaque/at-once": "of many writes at once each has its own version" => at_once,
    "version.opaque/late": "a write that was under way for long, while its key was written and deleted, has the greater version" => late,
}

async fn any_bytes(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let all: Vec<u8> = (0..=255).collect();
    let values: [&[u8]; 10] = [
        b"",
        b"\0",
        b"\0\0\0",
        &all,
        b"\xff\xfe\xfd",
        b"\xc3\x28",
        b"null",
        b"{\"Key\":\"a\",\"Value\":\"Yg==\"}",
        b"  \r\n\t",
        b"%00%2F\\x00",
    ];
    for (n, value) in values.into_iter().enumerate() {
        let (put, created, both) = (format!("put/{n}"), format!("created/{n}"), format!("both/{n}"));
        let value = Bytes::copy_from_slice(value);
        kv.put(&put, value.clone()).await?;
        let version = kv.atomic_put(&created, "x", None).await?.version;
        kv.atomic_put(&created, value.clone(), version).await?;
        if t.capabilities().max_txn_ops > 1 {
            let done = kv.transact().then(kv.put(&both, value.clone())).then(kv.put("other", "")).await?;
            holds("a transaction without conditions happens", done.is_committed())?;
        } else {
            kv.put(&both, value.clone()).await?;
        }
        for key in [put, created, both] {
            same(format!("get of {key}"), value_of(&kv, &key).await?, Some(value.clone()))?;
            let many = kv.get_many([&key]).await?;
            same("get_many", many[0].as_ref().map(|e| e.value.clone()), Some(value.clone()))?;
            if t.capabilities().watch != Watching::Unsupported {
                let mirror = snapshot(&t, &mut kv.watch(&key).await?).await?;
                same("watch", mirror.0.get(&key).map(|e| e.value.clone()), Some(value.clone()))?;
            }
        }
    }
    for entry in kv.list("put").await? {
        let n: usize = entry.key.name().parse()?;
        same(format!("the listed value of {}", entry.key), entry.value, Bytes::copy_from_slice(values[n]))?;
    }
    Ok(Ended::Kept)
}

async fn value_of(kv: &Kv, key: &str) -> kv_core::Result<Option<Bytes>> {
    Ok(kv.get(key).await?.map(|entry| entry.value))
}

async fn empty(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let version = kv.put("e", "").await?.version;
    same("get", value_of(&kv, "e").await?, Some(Bytes::new()))?;
    holds("it exists", kv.exists("e").await?)?;
    same("the listing", names(&kv, "").await?, ["e"])?;
    refused("creating it", kv.atomic_put("e", "", None).await, ErrorKind::KeyExists)?;
    let version = kv.atomic_put("e", "full", version).await?.version;
    let version = kv.atomic_put("e", "", version).await?.version;
    same("get of the emptied", value_of(&kv, "e").await?, Some(Bytes::new()))?;
    kv.atomic_delete("e", version).await?;
    kv.atomic_put("e", "", None).await?;
    holds("delete finds it", kv.delete("e").await?)?;
    same("get once deleted", value_of(&kv, "e").await?, None)?;
    Ok(Ended::Kept)
}

/// Returns bytes in which a cut or a shift shows.
fn pattern(length: usize) -> Bytes {
    (0..length).map(|n| (n * 31 + n / 251) as u8).collect::<Vec<_>>().into()
}

/// Checks that the value came whole. The message shows lengths alone: nobody reads megabytes.
fn whole(what: &str, found: Option<Bytes>, expected: &Bytes) -> Result<(), Failure> {
    same(format!("the length of {what}"), found.as_ref().map(Bytes::len), Some(expected.len()))?;
    holds(format!("the bytes of {what} are those put"), found.as_ref() == Some(expected))
}

async fn large(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let value = pattern(256 << 10);
    let version = kv.put("d/large", value.clone()).await?.version;
    whole("what get reads", value_of(&kv, "d/large").await?, &value)?;
    kv.atomic_put("d/large", value.clone(), version).await?;
    kv.atomic_put("d/more", value.clone(), None).await?;
    for entry in kv.list("d").await? {
        whole("what list shows", Some(entry.value), &value)?;
    }
    let many = kv.get_many(["d/large", "d/more"]).await?;
    for entry in many {
        whole("what get_many reads", entry.map(|e| e.value), &value)?;
    }
    if t.capabilities().watch != Watching::Unsupported {
        let mirror = snapshot(&t, &mut kv.watch_tree("d").await?).await?;
        same("the keys of the watch", mirror.names(), ["d/large", "d/more"])?;
        whole("what a watch tells", mirror.0.get("d/more").map(|e| e.value.clone()), &value)?;
    }
    if t.capabilities().max_txn_bytes > 2 * value.len() + 100 && t.capabilities().max_txn_ops > 1 {
        let done = kv.transact().then(kv.put("a", value.clone())).then(kv.put("b", value.clone())).await?;
        holds("a large transaction happens", done.is_committed())?;
        whole("what a transaction put", value_of(&kv, "b").await?, &value)?;
    }
    Ok(Ended::Kept)
}

async fn greatest(t: Trial) -> Verdict {
    const REACHED: usize = 64 << 20;
    let most = t.capabilities().max_value;
    holds(format!("max_value is at least 256 KiB, found {most}"), most >= 256 << 10)?;
    if most > REACHED {
        return Ended::ignored("the greatest value is more than a test writes");
    }
    let kv = t.open().await?;
    let (old, greatest, past) = (kv.put("old", "old").await?, pattern(most), pattern(most + 1));
    kv.put("greatest", greatest.clone()).await?;
    whole("the greatest value", value_of(&kv, "greatest").await?, &greatest)?;
    let disturbing = async {
        refused("a new key", kv.put("new", past.clone()).await, ErrorKind::TooLarge)?;
        refused("an old key", kv.put("old", past.clone()).await, ErrorKind::TooLarge)?;
        refused("creating", kv.atomic_put("new", past.clone(), None).await, ErrorKind::TooLarge)?;
        refused("swapping", kv.atomic_put("old", past.clone(), old.version).await, ErrorKind::TooLarge)?;
        if t.capabilities().max_txn_ops > 1 {
            let both = kv.transact().then(kv.put("x", "")).then(kv.put("new", past.clone())).await;
            refused("in a transaction", both, ErrorKind::TooLarge)?;
        }
        Ok::<_, Failure>(())
    };
    let others = each((0..64).map(|n| kv.put(format!("others/{n}"), "x")));
    let (disturbed, others) = futures::join!(disturbing, others);
    disturbed?;
    others?;
    same("the old key", kv.get("old").await?.map(|e| e.version), Some(old.version))?;
    holds("the new key is not there", !kv.exists("new").await? && !kv.exists("x").await?)?;
    Ok(Ended::Kept)
}

const NO_TOOL: &str = "the harness has no foreign tool";
const NOT_NATIVE: &str = "values are stored in a form of the library's own";

async fn ours(t: Trial) -> Verdict {
    let Some(foreign) = t.harness().foreign() else { return Ended::ignored(NO_TOOL) };
    if !t.capabilities().native_values {
        return Ended::ignored(NOT_NATIVE);
    }
    let kv = t.open().await?;
    for value in ["plain", "{\"a\": 1}", "ä\n\"b\"", "\u{1}"] {
        kv.put("d/k", value).await?;
        let found = foreign.get(&format!("{}d/k", t.prefix())).await;
        same("what the server's tool reads", found, Some(Bytes::from(value)))?;
    }
    kv.delete("d/k").await?;
    same("what it reads once deleted", foreign.get(&format!("{}d/k", t.prefix())).await, None)?;
    Ok(Ended::Kept)
}

async fn theirs(t: Trial) -> Verdict {
    let Some(foreign) = t.harness().foreign() else { return Ended::ignored(NO_TOOL) };
    if !t.capabilities().native_values {
        return Ended::ignored(NOT_NATIVE);
    }
    let kv = t.open().await?;
    let name = format!("{}d/k", t.prefix());
    foreign.put(&name, Bytes::from_static(b"their \xff bytes")).await;
    let first = kv.get("d/k").await?.ok_or("their key is not found")?;
    same("what get reads", first.value, Bytes::from_static(b"their \xff bytes"))?;
    holds("it exists", kv.exists("d/k").await?)?;
    same("get_many", kv.get_many(["d/k"]).await?.into_iter().flatten().count(), 1)?;
    kv.atomic_put("d/k", "ours", first.version).await?;
    foreign.put(&name, Bytes::from_static(b"changed")).await;
    same("what get reads once they changed it", text(&kv, "d/k").await?, Some("changed".to_owned()))?;
    foreign.delete(&name).await;
    same("get once they deleted it", text(&kv, "d/k").await?, None)?;
    same("the listing once they deleted it", names(&kv, "").await?, Vec::<String>::new())?;
    kv.atomic_put("d/k", "anew", None).await?;
    Ok(Ended::Kept)
}

async fn adopt(t: Trial) -> Verdict {
    let Some(foreign) = t.harness().foreign() else { return Ended::ignored(NO_TOOL) };
    let kv = t.open().await?;
    kv.put("d/ours", "1").await?;
    for name in ["d/a", "d/e/f", "x"] {
        foreign.put(&format!("{}{name}", t.prefix()), Bytes::from("theirs")).await;
    }
    let adopted = kv.adopt("d").await?;
    if t.capabilities().foreign_keys == ForeignKeys::AfterAdoption {
        same("how many were adopted", adopted, 2)?;
        same("the second time", kv.adopt("d").await?, 0)?;
    }
    let all = ["d/a", "d/e/f", "d/ours"];
    same("the listing", names(&kv, "d").await?, all)?;
    if t.capabilities().watch != Watching::Unsupported {
        same("the watch", snapshot(&t, &mut kv.watch_tree("d").await?).await?.names(), all)?;
    }
    kv.delete_tree("d").await?;
    same("what get reads after delete_tree", text(&kv, "d/e/f").await?, None)?;
    Ok(Ended::Kept)
}

async fn first_write(t: Trial) -> Verdict {
    let Some(foreign) = t.harness().foreign() else { return Ended::ignored(NO_TOOL) };
    let kv = t.open().await?;
    foreign.put(&format!("{}d/k", t.prefix()), Bytes::from("theirs")).await;
    kv.put("d/k", "ours").await?;
    same("the listing", names(&kv, "d").await?, ["d/k"])?;
    Ok(Ended::Kept)
}

async fn same_bytes(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let first = kv.put("k", "same").await?.version;
    let second = kv.put("k", "same").await?.version;
    differ("the versions of two puts of the same bytes", first, second)?;
    let third = kv.atomic_put("k", "same", second).await?.version;
    differ("the version after a swap of the same bytes", second, third)?;
    refused("a second swap from it", kv.atomic_put("k", "same", second).await, ErrorKind::KeyModified)?;
    refused("a swap from the first", kv.atomic_put("k", "x", first).await, ErrorKind::KeyModified)?;
    Ok(Ended::Kept)
}

async fn every_write(t: Trial) -> Verdict {
    let (kv, other) = (t.open().await?, t.open().await?);
    let mut seen = BTreeSet::new();
    for _ in 0..5 {
        for kv in [&kv, &other] {
            let version = kv.put("k", "1").await?.version;
            holds(format!("{version} is new"), seen.insert(version))?;
            let version = kv.atomic_put("k", "1", version).await?.version;
            holds(format!("{version} is new"), seen.insert(version))?;
            if t.capabilities().max_txn_ops > 1 {
                let done = kv.transact().when_version("k", version).then(kv.put("k", "1")).await?;
                let kv_core::Outcome::Committed(written) = done else {
                    return Err("a transaction with a true condition was refused".into());
                };
                let version = written[0].ok_or("a put in a transaction gave no version")?.version;
                same("what get finds", kv.get("k").await?.map(|e| e.version), Some(version))?;
                holds(format!("{version} is new"), seen.insert(version))?;
            }
        }
        kv.delete("k").await?;
    }
    Ok(Ended::Kept)
}

async fn read(t: Trial) -> Verdict {
    let (kv, other) = (t.open().await?, t.open().await?);
    let version = kv.put("d/k", "1").await?.version;
    for kv in [&kv, &other] {
        same("by get", kv.get("d/k").await?.map(|e| e.version), Some(version))?;
        let many = kv.get_many(["d/k", "d/none"]).await?;
        same("by get_many", many[0].as_ref().map(|e| e.version), Some(version))?;
        same("by list", kv.list("d").await?.first().map(|e| e.version), Some(version))?;
        let child = kv.list("d").child_keys().next().await.transpose()?;
        let listed = match child {
            Some(kv_core::Item::Key(_, version)) => Some(version),
            _ => None,
        };
        same("by a listing of keys", listed, Some(version))?;
        if t.capabilities().watch != Watching::Unsupported {
            let mirror = snapshot(&t, &mut kv.watch_tree("d").await?).await?;
            same("by a watch", mirror.0.get("d/k").map(|e| e.version), Some(version))?;
        }
    }
    other.atomic_delete("d/k", version).await?;
    Ok(Ended::Kept)
}

async fn order(t: Trial) -> Verdict {
    let (kv, other) = (t.open().await?, t.open().await?);
    let mut last = kv.put("k", "0").await?.version;
    for n in 0..20 {
        let kv = if n % 2 == 0 { &kv } else { &other };
        if n % 5 == 0 {
            kv.delete("k").await?;
        }
        let next = kv.put("k", format!("{n}")).await?.version;
        holds(format!("{next} is greater than {last}"), next > last)?;
        last = next;
    }
    Ok(Ended::Kept)
}

async fn printed(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let version = kv.put("k", "1").await?.version;
    let parsed: Version = version.to_string().parse()?;
    same("what was printed, parsed", parsed, version)?;
    t.open().await?.atomic_put("k", "2", parsed).await?;
    Ok(Ended::Kept)
}

/// Checks that neither a write nor a delete nor a condition takes this for the key's version.
async fn never_matches(t: &Trial, kv: &Kv, key: &str, stale: Version) -> Result<(), Failure> {
    let found = kv.get(key).await?;
    let of = |what: &str| format!("{what} at the stale version {stale} of {key:?}");
    refused(of("put"), kv.atomic_put(key, "stale", stale).await, ErrorKind::KeyModified)?;
    refused(of("delete"), kv.atomic_delete(key, stale).await, ErrorKind::KeyModified)?;
    if t.capabilities().max_txn_ops > 1 {
        let done = kv.transact().when_version(key, stale).then(kv.put("wrong", "stale")).await?;
        holds(of("a transaction is refused"), !done.is_committed())?;
    }
    same(of("the key after all that"), kv.get(key).await?, found)
}

async fn remade(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let (first, kept) = (kv.put("p/k", "1").await?.version, kv.put("p/c/k", "1").await?.version);
    holds("delete finds it", kv.delete("p/k").await?)?;
    never_matches(&t, &kv, "p/k", first).await?;
    let second = kv.atomic_put("p/k", "1", None).await?.version;
    differ("the versions of the two lives", first, second)?;
    never_matches(&t, &kv, "p/k", first).await?;
    kv.atomic_delete("p/k", second).await?;
    kv.put("p/k", "1").await?;
    never_matches(&t, &kv, "p/k", first).await?;
    never_matches(&t, &kv, "p/k", second).await?;
    kv.atomic_put("p/c/k", "2", kept).await?;
    Ok(Ended::Kept)
}

async fn remade_tree(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let (one, two) = (kv.put("p/a/k", "1").await?.version, kv.put("p/k", "1").await?.version);
    kv.delete_tree("p").await?;
    kv.put("p/a/k", "1").await?;
    kv.put("p/k", "1").await?;
    never_matches(&t, &kv, "p/a/k", one).await?;
    never_matches(&t, &kv, "p/k", two).await?;
    kv.delete_tree("").await?;
    kv.atomic_put("p/a/k", "1", None).await?;
    never_matches(&t, &kv, "p/a/k", one).await?;
    Ok(Ended::Kept)
}

async fn remade_by_another(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let stale = kv.put("k", "1").await?.version;
    kv.delete("k").await?;
    kv.close().await?;
    let other = t.open().await?;
    other.put("k", "1").await?;
    never_matches(&t, &t.open().await?, "k", stale).await?;
    never_matches(&t, &other, "k", stale).await?;
    Ok(Ended::Kept)
}

/// Checks that versions do not count the writes since a key was made.
async fn as_often(t: Trial) -> Verdict {
    let (kv, other) = (t.open().await?, t.open().await?);
    let mut lives = Vec::new();
    for life in 0..3 {
        let kv = if life == 1 { &other } else { &kv };
        let mut versions = vec![kv.atomic_put("k", "1", None).await?.version];
        for n in 0..4 {
            versions.push(kv.atomic_put("k", "1", versions[n]).await?.version);
        }
        for stale in lives.iter().flatten().copied() {
            never_matches(&t, kv, "k", stale).await?;
        }
        lives.push(versions);
        kv.delete("k").await?;
    }
    let (all, count) = (lives.concat(), lives.len() * 5);
    same("how many different versions there were", all.into_iter().collect::<BTreeSet<_>>().len(), count)?;
    Ok(Ended::Kept)
}

async fn at_once(t: Trial) -> Verdict {
    let (kv, other) = (t.open().await?, t.open().await?);
    let puts = (0..64).map(|n| (if n % 2 == 0 { &kv } else { &other }).put("k", format!("{n}")));
    let written = futures::future::try_join_all(puts.map(IntoFuture::into_future)).await?;
    let versions: BTreeSet<_> = written.iter().map(|w| w.version).collect();
    same("how many different versions 64 puts gave", versions.len(), 64)?;
    let found = kv.get("k").await?.ok_or("the key is not there")?;
    same("the version in the end is the greatest", Some(&found.version), versions.last())?;
    let n: usize = String::from_utf8_lossy(&found.value).parse()?;
    same("the value in the end is that version's", written[n].version, found.version)?;
    Ok(Ended::Kept)
}

async fn late(t: Trial) -> Verdict {
    let Some(opened) = t.open_behind_proxy().await else {
        return Ended::ignored(super::outages::NO_LINK);
    };
    let ((slow, proxy), kv) = (opened?, t.open().await?);
    let slow = slow.with_deadline(t.patience());
    let transacts = t.capabilities().max_txn_ops > 1;
    slow.get("elsewhere").await?;
    proxy.freeze_requests();
    let put = |key: &'static str| {
        let put = slow.put(key, "late").into_future();
        async { Ok::<_, kv_core::Error>(Some(put.await?.version)) }.boxed()
    };
    let transact = {
        let transact = slow.transact().then(slow.put("c", "late")).into_future();
        async {
            match transact.await? {
                Outcome::Committed(written) => Ok(written[0].as_ref().map(|w| w.version)),
                Outcome::Refused(_) => Ok(None),
            }
        }
        .boxed()
    };
    let mut writes = vec![put("a"), put("d/b")];
    writes.extend(transacts.then_some(transact));
    for write in &mut writes {
        // Polled once, the write is on its way.
        holds("a write does not get through", futures::poll!(write).is_pending())?;
    }
    let mut before = Vec::new();
    for key in ["a", "d/b", "c"].into_iter().take(writes.len()) {
        before.push(Some(kv.put(key, "early").await?.version));
    }
    let deletions = async {
        kv.delete("a").await?;
        kv.delete_tree("d").await?;
        if transacts {
            drop(kv.transact().then(kv.delete("c")).await?);
        }
        Ok::<_, kv_core::Error>(())
    };
    let mut deletions = std::pin::pin!(deletions);
    // The deletions may wait for the writes that are under way.
    let deleted = tokio::time::timeout(Duration::from_millis(100), &mut deletions).await;
    proxy.thaw();
    let late = futures::future::try_join_all(writes).await?;
    match deleted {
        Ok(deleted) => deleted?,
        Err(_) => deletions.await?,
    }
    let older: Vec<_> = late.iter().zip(&before).filter(|(late, before)| late <= before).collect();
    same("versions that went back", older, Vec::new())?;
    Ok(Ended::Kept)
}
