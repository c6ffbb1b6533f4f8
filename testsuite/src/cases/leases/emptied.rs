//! Leases without keys: a lease lives as long as its handle, whoever takes its last key.

use super::{long, range};
use crate::{
    Ended, Failure, Trial, Verdict,
    cases::{names, text},
    check::{holds, same, still_held},
};
use kv_core::{Kv, Lease};
use std::time::Duration;

/// The time within which cleaning in the background has seen leases without keys.
const LOOK: Duration = Duration::from_secs(2);

/// The ways in which the last key of a lease goes.
const WAYS: [&str; 8] = [
    "deleted",
    "by-another",
    "at-a-version",
    "in-a-tree",
    "permanent",
    "moved",
    "with-a-ttl",
    "in-a-transaction",
];

/// Takes the key from its lease; `false` where the backend has no such call.
async fn take(t: &Trial, way: &str, key: &str, kv: &Kv, by: &Kv, other: &Lease) -> Result<bool, Failure> {
    match way {
        "deleted" => drop(kv.delete(key).await?),
        "by-another" => drop(by.delete(key).await?),
        "at-a-version" => {
            let version = by.get(key).await?.ok_or("the key of a lease is there")?.version;
            by.atomic_delete(key, version).await?;
        }
        "in-a-tree" => drop(by.delete_tree(way).await?),
        "permanent" => drop(by.put(key, "").await?),
        "moved" => drop(kv.put(key, "").lease(other).await?),
        "with-a-ttl" => {
            let Some(range) = &t.capabilities().ttl else { return Ok(false) };
            by.put(key, "").ttl(range.greatest.min(Duration::from_secs(60))).await?;
        }
        _ if t.capabilities().max_txn_ops < 2 => return Ok(false),
        _ => drop(by.transact().when_exists(key).then(by.delete(key)).await?),
    }
    Ok(true)
}

pub(super) async fn lives_on(t: Trial) -> Verdict {
    let range = match range(&t).await? {
        Ok(range) => range,
        Err(ended) => return Ok(ended),
    };
    let (kv, by) = (t.open().await?, t.open().await?);
    let (bare, other) = (long(&kv, &range).await?, long(&kv, &range).await?);
    let mut leases = vec![("never-had-one", bare)];
    for way in WAYS {
        let (lease, key) = (long(&kv, &range).await?, format!("{way}/1"));
        kv.put(&key, "first").lease(&lease).await?;
        if take(&t, way, &key, &kv, &by, &other).await? {
            leases.push((way, lease));
        }
    }
    t.note("what may be done to empty leases in the background");
    tokio::time::sleep(LOOK).await;
    for (way, lease) in &leases {
        let key = format!("{way}/2");
        still_held(format!("a lease is held whose key went: {way}"), lease)?;
        let put = kv.put(&key, "second").lease(lease).await;
        put.map_err(|e| format!("a put under a lease whose key went, {way}: {e}"))?;
        same(format!("what was put, {way}"), text(&by, &key).await?, Some("second".to_owned()))?;
        by.delete(&key).await?;
    }
    tokio::time::sleep(LOOK).await;
    for (way, lease) in leases {
        let revoked = lease.revoke().await?;
        holds(format!("a lease was alive until it was revoked, whose key went: {way}"), revoked)?;
    }
    holds("the lease of the moved key was alive", other.revoke().await?)?;
    let left = names(&kv, "").await?;
    let with_a_ttl = ["permanent/1", "with-a-ttl/1"];
    let stay = with_a_ttl.into_iter().filter(|key| t.capabilities().ttl.is_some() || *key != "with-a-ttl/1");
    same("what is left", left, stay.collect::<Vec<_>>())?;
    Ok(Ended::Kept)
}

pub(super) async fn race(t: Trial) -> Verdict {
    const TURNS: usize = 10;
    const AT_ONCE: usize = 15;
    let range = match range(&t).await? {
        Ok(range) => range,
        Err(ended) => return Ok(ended),
    };
    let (kv, by) = (t.open().await?, t.open().await?);
    for turn in 0..TURNS {
        let mut leases = Vec::new();
        for n in 0..AT_ONCE {
            let (lease, old, new) = (long(&kv, &range).await?, format!("old/{n}"), format!("new/{n}"));
            kv.put(&old, "").lease(&lease).await?;
            by.delete(&old).await?;
            let put = kv.put(&new, turn.to_string()).lease(&lease).await;
            put.map_err(|e| format!("a put right behind the end of a lease's last key: {e}"))?;
            leases.push(lease);
        }
        t.note("what may be done to the last leases in the background");
        tokio::time::sleep(Duration::from_millis(150)).await;
        same("puts that were acknowledged and stayed", names(&by, "new").await?.len(), AT_ONCE)?;
        for lease in leases {
            still_held("a lease with a key is held", &lease)?;
            holds("it was alive until it was revoked", lease.revoke().await?)?;
        }
        same("the keys of revoked leases", names(&by, "").await?, Vec::<String>::new())?;
    }
    Ok(Ended::Kept)
}
