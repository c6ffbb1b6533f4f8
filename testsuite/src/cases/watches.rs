//! Watches: what is there, what changes, and nothing else.

mod churn;
mod each;
mod follow;
mod load;
mod ordered;

pub(super) use follow::Follower;
pub(super) use load::no_more_told;

use super::{change, put_all};
use crate::{
    Ended, Failure, Trial, Verdict,
    check::{holds, refused, same},
};
use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream};
use kv_core::{Bytes, ErrorKind, Kv, WatchEvent, Watching};
use std::{
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

cases! {
    "watch.snapshot/tree": "what lies below a directory comes first, each key once, then `Synced`" => snapshot_of_tree,
    "watch.snapshot/key": "a key that is there comes first, then `Synced`" => snapshot_of_key,
    "watch.snapshot/absent-key": "a key that does not exist yet is watched just the same" => absent_key,
    "watch.snapshot/absent-directory": "a directory that does not exist yet is watched just the same" => absent_directory,
    "watch.snapshot/many": "a tree of 1,500 keys comes whole before `Synced`" => snapshot_of_many,
    "watch.gapless/startup": "what another client writes while a watch begins is not missed" => startup,
    "watch.gapless/writers": "the events of many writers at once come to what the listing shows" => writers,
    "watch.gapless/expiry": "the end of a key's TTL is told" => expiry,
    "watch.gapless/lease": "the end of a lease's keys is told" => lease,
    "watch.gapless/delete": "a deletion is told" => delete,
    "watch.gapless/delete-tree": "`delete_tree` is told, key by key" => delete_tree,
    "watch.gapless/recreate": "a key that is deleted and made anew is told with its new value" => recreate,
    "watch.gapless/transaction": "all writes of a transaction are told" => transaction,
    "watch.gapless/root": "a watch of the root sees every level" => root,
    "watch.gapless/dropped-reads": "an event that was not given, because the reading was dropped, is given later" => dropped_reads,
    "watch.delta/put": "in a tree of any size a put costs one event, not a new listing" => one_put,
    "watch.delta/delete": "in a tree of any size a deletion costs one event, not a new listing" => one_delete,
    "watch.delta/failed-writes": "a write that was refused yields no event" => failed_writes,
    "watch.order/versions": "versions of a key only go up, none comes twice, a `Delete` is not older than what it ends" => order,
    "watch.order/rewrite": "writing the same bytes again yields an event with a new version" => rewrite,
    "watch.order/holder_churn": "a watch of a holder that begins while the lock goes from hand to hand never goes back to an earlier one" => churn::holders,
    "watch.order/ttl_churn": "a watch that begins while a key ends and is made anew never goes back, and tells no end of what is there" => churn::ttls,
    "watch.tree_order/commits": "the changes of a tree are told in the order in which they were made, whatever keys they are of" => ordered::commits,
    "watch.each_change/burst": "where each change is told, small values that are written in a burst come one by one" => each::burst,
    "watch.bounded/slow-reader": "a slow reader holds back its own stream alone, and catches up" => load::slow_reader,
    "watch.bounded/dropped": "dropping the stream stops its work, on the server too" => load::dropped,
    "watch.many/at-once": "1,000 watches and lock waits on one handle work at once" => load::many,
    "dir.segments/watch-siblings": "a watch of `app` never tells of `application`" => siblings,
    "dir.segments/watch-key": "a watch of a key does not tell of the keys below it" => key_not_children,
    "dir.segments/watch-tree": "a watch of a directory does not tell of the key of the same name" => children_not_key,
    "key.isolated/watch-internals": "what the library keeps for itself is never watched" => internals,
    "key.isolated/watch-prefix": "what lies outside the store's prefix is never watched" => prefix,
    "value.bytes/watch": "empty and binary values are watched as they were written" => bytes,
    "close/watches": "`close` ends watches with `Closed`" => closed,
}

/// Runs the case where there are watches; elsewhere sees that they are refused.
async fn watching<F>(t: Trial, case: impl FnOnce(Trial, Kv) -> F) -> Verdict
where
    F: Future<Output = Result<(), Failure>>,
{
    let kv = t.open().await?;
    if t.capabilities().watch == Watching::Unsupported {
        refused("watch without watches", kv.watch("a").await, ErrorKind::Unsupported)?;
        refused("watch_tree without watches", kv.watch_tree("a").await, ErrorKind::Unsupported)?;
        return Ended::ignored("no watches");
    }
    case(t, kv).await?;
    Ok(Ended::Kept)
}

/// Makes all the calls, at most `at_once` at a time, and returns their answers in the order in
/// which they come. The first error ends this.
pub(super) fn all<'a, T: Send + 'a, E: Send + 'a>(
    at_once: usize,
    calls: impl IntoIterator<Item = BoxFuture<'a, Result<T, E>>>,
) -> BoxFuture<'a, Result<Vec<T>, E>> {
    let calls: Vec<_> = calls.into_iter().collect();
    stream::iter(calls).buffer_unordered(at_once).try_collect().boxed()
}

async fn snapshot_of_tree(t: Trial) -> Verdict {
    watching(t, async |t, kv| {
        put_all(&kv, ["d/a", "d/b/c", "d/b", "d/e/f/g"]).await?;
        let mut follower = Follower::new(&t, "a watch of a directory", kv.watch_tree("d")).await?;
        let told = follower.synced().await?;
        same("events before Synced", told.len(), 4)?;
        let listed = kv.list("d").await?;
        same("what the events come to", follower.map.into_values().collect::<Vec<_>>(), listed)
    })
    .await
}

async fn snapshot_of_key(t: Trial) -> Verdict {
    watching(t, async |t, kv| {
        kv.put("d/a", "1").await?;
        kv.put("d/a", "2").await?;
        let mut follower = Follower::new(&t, "a watch of a key", kv.watch("d/a")).await?;
        let told = follower.synced().await?;
        let entry = kv.get("d/a").await?.ok_or("the key is gone")?;
        same("events before Synced", told, vec![WatchEvent::Put(entry)])
    })
    .await
}

async fn absent_key(t: Trial) -> Verdict {
    watching(t, async |t, kv| {
        let mut follower = Follower::new(&t, "a watch of an absent key", kv.watch("no/such/key")).await?;
        same("events before Synced", follower.synced().await?, vec![])?;
        let version = t.open().await?.put("no/such/key", "made").await?.version;
        follower.told("no/such/key", version).await?;
        same("what was told", follower.map.values().next().and_then(|e| e.text()), Some("made"))
    })
    .await
}

async fn absent_directory(t: Trial) -> Verdict {
    watching(t, async |t, kv| {
        let mut follower =
            Follower::new(&t, "a watch of an absent directory", kv.watch_tree("no/such")).await?;
        same("events before Synced", follower.synced().await?, vec![])?;
        let other = t.open().await?;
        put_all(&other, ["no/such/key", "no/such/deep/er/key"]).await?;
        follower.agrees(&other, "no/such").await
    })
    .await
}

async fn snapshot_of_many(t: Trial) -> Verdict {
    watching(t, async |t, kv| {
        put_all(&kv, (0..1500).map(|n| format!("d/{}/{n:04}", n % 7))).await?;
        let mut follower = Follower::new(&t, "a watch of a large tree", kv.watch_tree("d")).await?;
        let told = follower.synced().await?;
        same("events before Synced", told.len(), 1500)?;
        same("keys that were told", follower.map.len(), 1500)
    })
    .await
}

/// Makes the `n`th step of a writer that puts and deletes a few keys again and again.
async fn scribble(kv: &Kv, writer: usize, n: usize) -> kv_core::Result<()> {
    let key = format!("d/{}/{}", (n * 7 + writer) % 3, (n * 5 + writer * 3) % 7);
    match (n + writer) % 4 {
        0 => drop(kv.delete(&key).await?),
        _ => drop(kv.put(&key, format!("{writer}.{n}")).await?),
    }
    Ok(())
}

async fn startup(t: Trial) -> Verdict {
    watching(t, async |t, kv| {
        let (writer, done) = (t.open().await?, AtomicBool::new(false));
        let write = async {
            for n in 0.. {
                scribble(&writer, 0, n).await?;
                // A store in memory never waits, and the others need their turn.
                tokio::task::yield_now().await;
                if n > 50 && done.load(Ordering::Relaxed) {
                    break;
                }
            }
            Ok::<_, Failure>(())
        };
        let watch = async {
            let mut followers = Vec::new();
            for n in 0..8 {
                for _ in 0..n {
                    tokio::task::yield_now().await;
                }
                followers.push(Follower::of_tree(&t, &kv, "d").await?);
            }
            done.store(true, Ordering::Relaxed);
            Ok::<_, Failure>(followers)
        };
        let ((), followers) = futures::try_join!(write, watch)?;
        for mut follower in followers {
            follower.agrees(&kv, "d").await?;
        }
        Ok(())
    })
    .await
}

async fn writers(t: Trial) -> Verdict {
    watching(t, async |t, kv| {
        let mut followers = [
            (Follower::of_tree(&t, &kv, "").await?, ""),
            (Follower::of_tree(&t, &kv, "d").await?, "d"),
            (Follower::of_tree(&t, &t.open().await?, "d/1").await?, "d/1"),
        ];
        let clients = [t.open().await?, t.open().await?, kv.clone()];
        all(16, (0..400).map(|n| scribble(&clients[n % 3], n % 8, n / 8).boxed())).await?;
        for (follower, directory) in &mut followers {
            follower.agrees(&kv, directory).await?;
        }
        Ok(())
    })
    .await
}

async fn expiry(t: Trial) -> Verdict {
    let kv = t.open().await?;
    if t.capabilities().ttl.is_none() {
        let put = kv.put("d/a", "").ttl(Duration::from_secs(60)).await;
        refused("a put with a TTL, without TTLs", put, ErrorKind::Unsupported)?;
        return Ended::ignored("no TTLs");
    }
    watching(t, async |t, kv| {
        let mut follower = Follower::of_tree(&t, &kv, "d").await?;
        let ttl = t.short_ttl(Duration::from_millis(300));
        let written = t.open().await?.put("d/a", "1").ttl(ttl).await?;
        follower.told("d/a", written.version).await?;
        let granted = written.ttl.unwrap_or(ttl);
        let time = granted + t.capabilities().lateness(granted) + t.patience();
        let came = t.within(time, "the end of a TTL to be told", change(follower.watch())).await??;
        let ended = matches!(&came, WatchEvent::Delete { key, .. } if key.as_str() == "d/a");
        holds(format!("the event after a TTL is the key's Delete, not {came:?}"), ended)?;
        follower.fold(&came);
        same("the events break the order of versions", follower.disorder, Vec::<String>::new())
    })
    .await
}

async fn lease(t: Trial) -> Verdict {
    let Some(range) = t.capabilities().lease.clone() else {
        let lease = t.open().await?.lease(Duration::from_secs(60)).await;
        refused("a lease, without leases", lease, ErrorKind::Unsupported)?;
        return Ended::ignored("no leases");
    };
    watching(t, async |t, kv| {
        let mut follower = Follower::of_tree(&t, &kv, "d").await?;
        let other = t.open().await?;
        let lease = other.lease(range.least.max(Duration::from_secs(30))).await?;
        let first = other.put("d/a", "1").lease(&lease).await?.version;
        let second = other.put("d/b", "2").lease(&lease).await?.version;
        follower.told("d/a", first).await?;
        follower.told("d/b", second).await?;
        holds("a lease is alive until it is revoked", lease.revoke().await?)?;
        follower.gone("d/a").await?;
        follower.gone("d/b").await?;
        Ok(())
    })
    .await
}

async fn delete(t: Trial) -> Verdict {
    watching(t, async |t, kv| {
        let version = kv.put("d/a", "1").await?.version;
        let (mut tree, mut key) =
            (Follower::of_tree(&t, &kv, "d").await?, Follower::of_key(&t, &kv, "d/a").await?);
        holds("the key was there", t.open().await?.delete("d/a").await?)?;
        for (what, follower) in [("tree", &mut tree), ("key", &mut key)] {
            match follower.change().await? {
                WatchEvent::Delete { key, version: end } if key.as_str() == "d/a" && end >= version => {}
                other => {
                    return Err(format!("expected the Delete of d/a on the {what}, found {other:?}").into());
                }
            }
        }
        Ok(())
    })
    .await
}

async fn delete_tree(t: Trial) -> Verdict {
    watching(t, async |t, kv| {
        put_all(&kv, (0..60).map(|n| format!("d/e/{}/{n}", n % 3))).await?;
        put_all(&kv, ["d/e", "d/kept"]).await?;
        let mut follower = Follower::of_tree(&t, &kv, "d").await?;
        t.open().await?.delete_tree("d/e").await?;
        follower.agrees(&kv, "d").await?;
        let left: Vec<_> = follower.map.keys().map(|key| key.as_str()).collect();
        same("what is left of the tree", left, ["d/e", "d/kept"])
    })
    .await
}

async fn recreate(t: Trial) -> Verdict {
    watching(t, async |t, kv| {
        let old = kv.put("d/a", "old").await?.version;
        let mut follower = Follower::of_tree(&t, &kv, "d").await?;
        let other = t.open().await?;
        for n in 0..10 {
            other.delete("d/a").await?;
            other.put("d/a", format!("new {n}")).await?;
        }
        follower.agrees(&kv, "d").await?;
        let entry = &follower.map["d/a"];
        same("the value that was told last", entry.text(), Some("new 9"))?;
        holds("the version went up over deletions", entry.version > old)
    })
    .await
}

async fn transaction(t: Trial) -> Verdict {
    if t.capabilities().max_txn_ops < 3 {
        return Ended::ignored("no transactions");
    }
    watching(t, async |t, kv| {
        put_all(&kv, ["d/a", "d/b"]).await?;
        let mut follower = Follower::of_tree(&t, &kv, "d").await?;
        let steps = kv.transact().then(kv.put("d/a", "2")).then(kv.put("d/c", "3")).then(kv.delete("d/b"));
        holds("a transaction without conditions commits", steps.await?.is_committed())?;
        follower.agrees(&kv, "d").await?;
        let left: Vec<_> = follower.map.keys().map(|key| key.as_str()).collect();
        same("what is left of the tree", left, ["d/a", "d/c"])
    })
    .await
}

async fn root(t: Trial) -> Verdict {
    watching(t, async |t, kv| {
        kv.put("top", "").await?;
        let mut follower = Follower::of_tree(&t, &kv, "").await?;
        put_all(&t.open().await?, ["a", "b/c", "d/e/f/g/h"]).await?;
        follower.agrees(&kv, "").await
    })
    .await
}

async fn dropped_reads(t: Trial) -> Verdict {
    const KEYS: usize = 150;
    watching(t, async |t, kv| {
        let mut follower = Follower::of_tree(&t, &kv, "d").await?;
        let writer = t.open().await?;
        let write =
            async { put_all(&writer, (0..KEYS).map(|n| format!("d/{n}"))).await.map_err(Failure::from) };
        let read = async {
            let mut reads = 0_u32;
            while follower.map.len() < KEYS {
                reads += 1;
                let event = if reads.is_multiple_of(2) {
                    follower.watch().event().now_or_never()
                } else {
                    tokio::time::timeout(Duration::from_millis(1), follower.watch().event()).await.ok()
                };
                if let Some(event) = event {
                    follower.fold(&event?);
                }
            }
            Ok::<_, Failure>(())
        };
        let both = async { futures::try_join!(write, read) };
        t.soon("all events, by readings of which many are dropped", both).await??;
        same("events that came twice or not in order", follower.disorder, Vec::<String>::new())
    })
    .await
}

/// Puts a tree of many keys, and watches it.
async fn large(t: &Trial, kv: &Kv) -> Result<Follower, Failure> {
    put_all(kv, (0..300).map(|n| format!("d/{}/{n:03}", n % 5))).await?;
    Follower::of_tree(t, kv, "d").await
}

async fn one_put(t: Trial) -> Verdict {
    watching(t, async |t, kv| {
        let mut follower = large(&t, &kv).await?;
        let other = t.open().await?;
        let version = other.put("d/2/147", "changed").await?.version;
        let mut came = follower.told("d/2/147", version).await?;
        came.extend(follower.rest(&other, "d/mark").await?);
        let entry = kv.get("d/2/147").await?.ok_or("the key is gone")?;
        same("the events of one put", came, vec![WatchEvent::Put(entry)])
    })
    .await
}

async fn one_delete(t: Trial) -> Verdict {
    watching(t, async |t, kv| {
        let mut follower = large(&t, &kv).await?;
        let other = t.open().await?;
        other.delete("d/2/147").await?;
        let mut came = follower.gone("d/2/147").await?;
        came.extend(follower.rest(&other, "d/mark").await?);
        let keys: Vec<_> = came.iter().map(|event| event.key().map(ToString::to_string)).collect();
        same("the keys of the events of one deletion", keys, vec![Some("d/2/147".to_owned())])
    })
    .await
}

async fn failed_writes(t: Trial) -> Verdict {
    watching(t, async |t, kv| {
        let old = kv.put("d/a", "1").await?.version;
        kv.put("d/a", "2").await?;
        let mut follower = Follower::of_tree(&t, &kv, "d").await?;
        refused("a create of what is there", kv.put("d/a", "3").if_missing().await, ErrorKind::KeyExists)?;
        refused(
            "a put at a stale version",
            kv.put("d/a", "3").if_version(old).await,
            ErrorKind::KeyModified,
        )?;
        refused("a delete at a stale version", kv.atomic_delete("d/a", old).await, ErrorKind::KeyModified)?;
        same("whether a missing key was there", kv.delete("d/b").await?, false)?;
        same("the events of refused writes", follower.rest(&kv, "d/mark").await?, vec![])
    })
    .await
}

async fn order(t: Trial) -> Verdict {
    watching(t, async |t, kv| {
        let mut follower = Follower::of_tree(&t, &kv, "d").await?;
        let clients = [t.open().await?, t.open().await?, kv.clone()];
        let write = async {
            all(16, (0..400).map(|n| scribble(&clients[n % 3], n % 8, n / 8).boxed())).await?;
            Ok::<_, Failure>(kv.put("d/end", "").await?.version)
        };
        let read = async {
            while !follower.map.contains_key("d/end") {
                follower.next().await?;
            }
            Ok::<_, Failure>(())
        };
        futures::try_join!(write, read)?;
        follower.agrees(&kv, "d").await?;
        same("what was told out of order", follower.disorder, Vec::<String>::new())
    })
    .await
}

async fn rewrite(t: Trial) -> Verdict {
    watching(t, async |t, kv| {
        let mut version = kv.put("d/a", "same").await?.version;
        let (mut tree, mut key) =
            (Follower::of_tree(&t, &kv, "d").await?, Follower::of_key(&t, &kv, "d/a").await?);
        for _ in 0..3 {
            let next = kv.put("d/a", "same").await?.version;
            holds("writing the same bytes gives a new version", next > version)?;
            version = next;
            tree.told("d/a", version).await?;
            key.told("d/a", version).await?;
        }
        Ok(())
    })
    .await
}

async fn siblings(t: Trial) -> Verdict {
    watching(t, async |t, kv| {
        put_all(&kv, ["application/x", "app/a", "app.d/x"]).await?;
        let mut follower =
            Follower::new(&t, "a watch of the directory \"app\"", kv.watch_tree("app")).await?;
        same("events before Synced", follower.synced().await?.len(), 1)?;
        put_all(&kv, ["application/y", "application", "app-x", "app.d/y", "ap/a", "other"]).await?;
        kv.delete_tree("application").await?;
        same("events of the neighbours", follower.rest(&kv, "app/mark").await?, vec![])
    })
    .await
}

async fn key_not_children(t: Trial) -> Verdict {
    watching(t, async |t, kv| {
        put_all(&kv, ["d/e", "d/e/f"]).await?;
        let mut follower = Follower::new(&t, "a watch of a key with children", kv.watch("d/e")).await?;
        same("events before Synced", follower.synced().await?.len(), 1)?;
        put_all(&kv, ["d/e/g", "d/e/f", "d/ef", "d"]).await?;
        kv.delete("d/e/f").await?;
        same("events of other keys", follower.rest(&kv, "d/e").await?, vec![])
    })
    .await
}

async fn children_not_key(t: Trial) -> Verdict {
    watching(t, async |t, kv| {
        put_all(&kv, ["d/e", "d/e/f"]).await?;
        let what = "a watch of a directory with a key of its name";
        let mut follower = Follower::new(&t, what, kv.watch_tree("d/e")).await?;
        same("events before Synced", follower.synced().await?.len(), 1)?;
        kv.put("d/e", "again").await?;
        kv.delete("d/e").await?;
        kv.put("d/e", "anew").await?;
        same("events of the key", follower.rest(&kv, "d/e/mark").await?, vec![])
    })
    .await
}

async fn internals(t: Trial) -> Verdict {
    watching(t, async |t, kv| {
        let mut follower = Follower::of_tree(&t, &kv, "").await?;
        let other = t.open().await?;
        if other.capabilities().lock.is_some() {
            let guard = other.new_lock("d/lock").value("me").acquire().await?;
            same("try_acquire of a held lock", kv.new_lock("d/lock").try_acquire().await?.is_some(), false)?;
            guard.release().await?;
        }
        if let Some(range) = other.capabilities().lease.clone() {
            other.lease(range.least.max(Duration::from_secs(30))).await?.revoke().await?;
        }
        let put = other.put("d/a", "1").await?.version;
        other.atomic_delete("d/a", put).await?;
        let came = follower.rest(&other, "mark").await?;
        let foreign = came.iter().find(|event| event.key().is_some_and(|key| key.as_str() != "d/a"));
        same("an event of what is no data", foreign, None)
    })
    .await
}

async fn prefix(t: Trial) -> Verdict {
    watching(t, async |t, kv| {
        let outside = t.open_elsewhere().await?;
        put_all(&outside, ["d/a", "b"]).await?;
        let (mut root, mut tree) = (
            Follower::new(&t, "a watch of the root", kv.watch_tree("")).await?,
            Follower::of_tree(&t, &kv, "d").await?,
        );
        same("events before Synced", root.synced().await?, vec![])?;
        put_all(&outside, ["d/a", "d/b", "c"]).await?;
        outside.delete_tree("").await?;
        same("events from outside the prefix, of a directory", tree.rest(&kv, "d/mark").await?, vec![])?;
        let came = root.rest(&kv, "mark").await?;
        let foreign = came.iter().find(|event| event.key().is_none_or(|key| key.as_str() != "d/mark"));
        same("an event from outside the prefix, of the root", foreign, None)
    })
    .await
}

async fn bytes(t: Trial) -> Verdict {
    watching(t, async |t, kv| {
        let values = [
            Bytes::new(),
            Bytes::from_static(&[0]),
            Bytes::from_static(b"\xff\xfe\x00\r\n\x80"),
            (0..=255).collect::<Vec<u8>>().into(),
            Bytes::from_static(b"\r\n$5\r\nhello"),
            vec![0xa5; 100_000].into(),
        ];
        let mut follower = Follower::of_key(&t, &kv, "d/a").await?;
        for value in values {
            let version = kv.put("d/a", value.clone()).await?.version;
            follower.told("d/a", version).await?;
            holds(
                format!("a value of {} bytes is told as it is", value.len()),
                follower.map["d/a"].value == value,
            )?;
            let again = Follower::of_key(&t, &kv, "d/a").await?;
            let there = again.map.get("d/a").map(|entry| &entry.value);
            holds(format!("a value of {} bytes comes first as it is", value.len()), there == Some(&value))?;
        }
        Ok(())
    })
    .await
}

async fn closed(t: Trial) -> Verdict {
    watching(t, async |t, kv| {
        let (mut tree, mut key) =
            (Follower::of_tree(&t, &kv, "d").await?, Follower::of_key(&t, &kv, "d/a").await?);
        let waiting = async {
            let events = futures::future::join(tree.watch().event(), key.watch().event());
            t.soon("`close` to end the waits for events", events).await
        };
        let closing = async {
            // The waits begin before `close`.
            tokio::task::yield_now().await;
            kv.close().await
        };
        let (ended, closed) = tokio::join!(waiting, closing);
        closed?;
        let (of_tree, of_key) = ended?;
        refused("an event of a tree after `close`", of_tree, ErrorKind::Closed)?;
        refused("an event of a key after `close`", of_key, ErrorKind::Closed)?;
        refused("a second event after `close`", tree.watch().event().await, ErrorKind::Closed)?;
        refused("a watch begun after `close`", kv.watch("d/a").await, ErrorKind::Closed)?;
        Ok(())
    })
    .await
}
