//! Large values in every way of writing.

use crate::{
    Ended, Failure, Trial, Verdict,
    check::{holds, same},
};
use kv_core::{Bytes, Kv};
use std::time::Duration;

const SIZE: usize = 256 << 10;
/// Limits the values that the case writes.
const REACHED: usize = 64 << 20;

/// Returns the length and the first byte of the key's value.
async fn found(kv: &Kv, key: &str) -> kv_core::Result<Option<(usize, u8)>> {
    Ok(kv.get(key).await?.map(|entry| (entry.value.len(), entry.value[0])))
}

pub(super) async fn every_way(t: Trial) -> Verdict {
    for size in [SIZE, t.capabilities().max_value.min(REACHED)] {
        of_size(&t, size).await.map_err(|e| format!("values of {size} bytes: {e}"))?;
    }
    Ok(Ended::Kept)
}

async fn of_size(t: &Trial, size: usize) -> Result<(), Failure> {
    let (kv, other, c) = (t.open().await?, t.open().await?, t.capabilities());
    // Names take room too.
    let long = &"n".repeat(512);
    let mut last = 0;
    // Each value has other bytes, so that none passes for another.
    let mut value = || {
        last += 1;
        (Bytes::from(vec![last; size]), Some((size, last)))
    };
    let (bytes, wanted) = value();
    let version = kv.put("k", bytes).await?.version;
    same("a put", found(&other, "k").await?, wanted)?;
    let (bytes, wanted) = value();
    kv.atomic_put("k", bytes, version).await?;
    same("an atomic_put", found(&other, "k").await?, wanted)?;
    if c.ttl.is_some() {
        let (bytes, wanted) = value();
        kv.put("ttl", bytes).ttl(t.short_ttl(Duration::from_secs(30))).await?;
        same("a put with a TTL", found(&other, "ttl").await?, wanted)?;
    }
    if let Some(range) = &c.lease {
        let lease = kv.lease(range.greatest.min(Duration::from_secs(20))).await?;
        let (bytes, wanted) = value();
        kv.put("leased", bytes).lease(&lease).await?;
        same("a put under a lease", found(&other, "leased").await?, wanted)?;
        lease.revoke().await?;
    }
    if c.max_txn_ops > 1 {
        let (bytes, wanted) = value();
        let steps = kv.transact().when_exists("k").when_missing("none").then(kv.put(long, bytes));
        holds("a transaction with a large value commits", steps.await?.is_committed())?;
        same("a put in a transaction", found(&other, long).await?, wanted)?;
    }
    if c.lock.as_ref().is_some_and(|locking| locking.fenced_writes) {
        let guard = t.soon("a free lock", kv.new_lock(long).acquire()).await??;
        let (bytes, wanted) = value();
        let put = kv.put(long, bytes).fenced(&guard).await;
        let version = put.map_err(|e| format!("a fenced put: {e}"))?.version;
        same("a fenced put", found(&other, long).await?, wanted)?;
        let (bytes, wanted) = value();
        let put = kv.atomic_put(long, bytes, version).fenced(&guard).await;
        put.map_err(|e| format!("a fenced atomic_put: {e}"))?;
        same("a fenced atomic_put", found(&other, long).await?, wanted)?;
        if c.max_txn_ops > 1 {
            let (bytes, wanted) = value();
            let steps = kv.transact().when_held(&guard).when_exists("k").then(kv.put(long, bytes)).await;
            let steps = steps.map_err(|e| format!("a fenced transaction: {e}"))?;
            holds("a fenced transaction with a large value commits", steps.is_committed())?;
            same("a put in a fenced transaction", found(&other, long).await?, wanted)?;
        }
        guard.release().await?;
    }
    Ok(())
}
