//! Servers that are full: calls that need no room work.

use super::names;
use crate::{
    Ended, Failure, Full, Trial, Verdict,
    cases::{put_all, watches::Follower},
    check::{holds, refused, same, still_held},
};
use kv_core::{ErrorKind, Kv, Watching};
use std::{future::Future, sync::Arc, time::Duration};

cases! {
    "server.full/writes": "a write to a full server is `NoSpace`, nothing is written, and it works once there is room" => writes,
    "server.full/room": "reading, deleting, revoking and releasing work on a full server" => room,
    "server.full/opened": "a store is opened on a full server, read, and emptied" => opened,
    "server.full/holding": "locks and leases live on, on a full server" => holding,
    "server.full/watches": "watches of a full server go on, and tell what is deleted" => watches,
}

/// Runs the case on a server of its own with little room, with a client and four keys that are
/// there.
async fn filling<F>(t: Trial, case: impl FnOnce(Trial, Arc<dyn Full>, Kv) -> F) -> Verdict
where
    F: Future<Output = Result<(), Failure>>,
{
    let Some(server) = t.harness().full().await else {
        return Ended::ignored("the harness has no server that can be filled");
    };
    let kv = server.open(t.prefix()).await?.with_deadline(t.patience());
    put_all(&kv, ["d/a", "d/b", "e/c", "e/f"]).await?;
    case(t, server, kv).await?;
    Ok(Ended::Kept)
}

async fn writes(t: Trial) -> Verdict {
    filling(t, async |t, server, kv| {
        let version = kv.get("d/a").await?.ok_or("the key is there")?.version;
        t.note("the server to be full");
        server.fill().await;
        refused("a put", kv.put("d/a", "more").await, ErrorKind::NoSpace)?;
        refused("a put of a new key", kv.put("d/new", "more").await, ErrorKind::NoSpace)?;
        refused("an atomic_put", kv.atomic_put("d/a", "more", version).await, ErrorKind::NoSpace)?;
        if t.capabilities().max_txn_ops > 1 {
            let steps =
                kv.transact().when_exists("d/a").then(kv.put("d/b", "more")).then(kv.put("d/new", ""));
            refused("a transaction that puts", steps.await, ErrorKind::NoSpace)?;
        }
        same("the listing", names(&kv, "").await?, ["d/a", "d/b", "e/c", "e/f"])?;
        same("the version of a key", kv.get("d/a").await?.map(|entry| entry.version), Some(version))?;
        t.note("room");
        server.relieve().await;
        kv.put("d/new", "more").await?;
        same("the listing with room", names(&kv, "d").await?, ["d/a", "d/b", "d/new"])
    })
    .await
}

async fn room(t: Trial) -> Verdict {
    filling(t, async |t, server, kv| {
        let c = t.capabilities();
        let lease = match &c.lease {
            Some(range) => Some(kv.lease(range.greatest.min(Duration::from_secs(30))).await?),
            None => None,
        };
        if let Some(lease) = &lease {
            kv.put("leased", "").lease(lease).await?;
        }
        let guard = match c.lock {
            Some(_) => Some(t.soon("a free lock", kv.new_lock("l").acquire()).await??),
            None => None,
        };
        t.note("the server to be full");
        server.fill().await;
        same("a get", kv.get("d/a").await?.as_ref().and_then(|e| e.text()), Some("d/a"))?;
        same("a listing", names(&kv, "d").await?, ["d/a", "d/b"])?;
        let failed = |what: &'static str| {
            move |e: kv_core::Error| Failure::from(format!("{what} on a full server: {e:?}"))
        };
        if let Some(lease) = lease {
            holds("the lease was alive", lease.revoke().await.map_err(failed("revoke"))?)?;
            holds("its key is gone", !kv.exists("leased").await?)?;
        }
        if let Some(guard) = guard {
            same("the holder", kv.lock_holder("l").await?.map(|h| h.token), Some(guard.token()))?;
            holds("the lock was held", guard.release().await.map_err(failed("release"))?)?;
            same("the holder in the end", kv.lock_holder("l").await?, None)?;
        }
        if c.max_txn_ops > 1 {
            let steps = kv.transact().when_exists("e/c").then(kv.delete("e/c")).then(kv.delete("e/f")).await;
            holds("a transaction that deletes commits", steps.map_err(failed("transact"))?.is_committed())?;
        }
        holds("delete finds its key", kv.delete("d/a").await.map_err(failed("delete"))?)?;
        kv.delete_tree("").await.map_err(failed("delete_tree"))?;
        same("the listing in the end", names(&kv, "").await?, Vec::<String>::new())
    })
    .await
}

async fn opened(t: Trial) -> Verdict {
    filling(t, async |t, server, kv| {
        kv.close().await?;
        t.note("the server to be full");
        server.fill().await;
        let kv = server.open(t.prefix()).await.map_err(|e| format!("open on a full server: {e:?}"))?;
        let kv = kv.with_deadline(t.patience());
        same("a get", kv.get("d/a").await?.as_ref().and_then(|e| e.text()), Some("d/a"))?;
        same("a listing", names(&kv, "").await?, ["d/a", "d/b", "e/c", "e/f"])?;
        kv.delete("d/a").await.map_err(|e| format!("delete on a full server: {e:?}"))?;
        kv.delete_tree("").await.map_err(|e| format!("delete_tree on a full server: {e:?}"))?;
        same("the listing in the end", names(&kv, "").await?, Vec::<String>::new())?;
        kv.close().await.map_err(|e| format!("close on a full server: {e:?}").into())
    })
    .await
}

async fn holding(t: Trial) -> Verdict {
    filling(t, async |t, server, kv| {
        let c = t.capabilities();
        let short = Duration::from_secs(10);
        let lease = match &c.lease {
            Some(range) => Some(kv.lease(range.grant(range.least.max(short).min(range.greatest))?).await?),
            None => None,
        };
        let ttl = super::locks::lock_ttl(&t, short);
        let guard = match c.lock {
            Some(_) => Some(t.soon("a free lock", kv.new_lock("l").ttl(ttl).acquire()).await??),
            None => None,
        };
        t.note("the server to be full");
        server.fill().await;
        let longest = lease.as_ref().map_or(ttl, |lease| lease.ttl().max(ttl));
        t.note("a lock and a lease to be lost, were they not renewed");
        tokio::time::sleep(longest.mul_f64(1.5)).await;
        if let Some(lease) = &lease {
            still_held("a lease lives on", lease)?;
        }
        if let Some(guard) = &guard {
            still_held("a lock is held", guard)?;
            same("its holder", kv.lock_holder("l").await?.map(|h| h.token), Some(guard.token()))?;
        }
        Ok(())
    })
    .await
}

async fn watches(t: Trial) -> Verdict {
    if t.capabilities().watch == Watching::Unsupported {
        return Ended::ignored("no watches");
    }
    filling(t, async |t, server, kv| {
        let mut early = Follower::of_tree(&t, &kv, "").await?;
        t.note("the server to be full");
        server.fill().await;
        let mut late = Follower::of_tree(&t, &kv, "d").await?;
        kv.delete("d/a").await.map_err(|e| format!("delete on a full server: {e:?}"))?;
        late.agrees(&kv, "d").await?;
        early.agrees(&kv, "").await?;
        t.note("room");
        server.relieve().await;
        kv.put("d/new", "").await?;
        late.agrees(&kv, "d").await?;
        early.agrees(&kv, "").await
    })
    .await
}
