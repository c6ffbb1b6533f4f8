//! The call that an error names: the one that the program made.

use crate::{Ended, Failure, Trial, Verdict, check::same};
use kv_core::{Entry, Error, ErrorKind, Guard, Kv, Version};
use std::time::Duration;

/// Checks that the call failed, and that the error names it.
#[track_caller]
fn named<T>(call: &str, answer: kv_core::Result<T>) -> Result<(), Failure> {
    let e = answer.err().ok_or_else(|| format!("{call} was to fail"))?;
    same(format!("the call that {e:?} names"), e.operation(), Some(call))
}

pub(super) async fn calls(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let before = kv.put("k", "").await?.version;
    kv.put("k", "").await?;
    named("put", kv.put("k", "").if_missing().await)?;
    named("put", kv.put("k", "").if_version(before).await)?;
    named("atomic_put", kv.atomic_put("k", "", None).await)?;
    named("atomic_put", kv.atomic_put("k", "", before).await)?;
    named("delete", kv.delete("k").if_version(before).await)?;
    named("atomic_delete", kv.atomic_delete("k", before).await)?;
    let refuses = |_: Option<&Entry>| Err::<String, _>(Error::new(ErrorKind::Other, "no change"));
    named("update", kv.update("k", refuses).await)?;
    each_fails(&kv, "a/../b").await?;
    named("within", kv.within("a/../b"))?;

    let (locking, mut guard) = (t.capabilities().lock.clone(), None);
    if let Some(locking) = locking {
        let lost = take(&t, &kv).await?;
        let fence = lost.fence().clone();
        lost.release().await?;
        if locking.fenced_writes && t.capabilities().max_txn_ops > 2 {
            named("put", kv.put("k", "").fenced(&fence).await)?;
            named("delete", kv.delete("k").fenced(&fence).await)?;
            named("update", kv.update("k", |_| Ok("")).fenced(&fence).await)?;
        }
        guard = Some(take(&t, &kv).await?);
    }
    kv.close().await?;
    each_fails(&kv, "k").await?;
    named("lease", kv.lease(Duration::from_secs(15)).await)?;
    named("health", kv.health().await)?;
    if let Some(guard) = guard {
        named("set_value", guard.set_value("").await)?;
    }
    Ok(Ended::Kept)
}

async fn take(t: &Trial, kv: &Kv) -> Result<Guard, Failure> {
    Ok(t.soon("a free lock", kv.new_lock("l").acquire()).await??)
}

/// Makes every call that takes a name with this one, for which each must fail.
async fn each_fails(kv: &Kv, name: &str) -> Result<(), Failure> {
    let version = Version::new(1, 0);
    named("get", kv.get(name).await)?;
    named("get_many", kv.get_many([name]).await)?;
    named("exists", kv.exists(name).await)?;
    named("put", kv.put(name, "").await)?;
    named("put", kv.put(name, "").if_version(version).await)?;
    named("atomic_put", kv.atomic_put(name, "", version).await)?;
    named("update", kv.update(name, |_| Ok("")).await)?;
    named("delete", kv.delete(name).await)?;
    named("delete", kv.delete(name).if_version(version).await)?;
    named("atomic_delete", kv.atomic_delete(name, version).await)?;
    named("list", kv.list(name).await)?;
    named("list", kv.list(name).keys().next().await.ok_or("a listing that fails says so")?)?;
    named("delete_tree", kv.delete_tree(name).await)?;
    named("adopt", kv.adopt(name).await)?;
    named("watch", kv.watch(name).await)?;
    named("watch_tree", kv.watch_tree(name).await)?;
    named("transact", kv.transact().then(kv.delete(name)).await)?;
    named("lock_holder", kv.lock_holder(name).await)?;
    named("lock_holder", kv.lock_holder(name).watch().await)?;
    named("locks", kv.locks(name).await)?;
    named("break_lock", kv.break_lock(name).token(1).await)?;
    named("acquire", kv.new_lock(name).acquire().await)?;
    named("try_acquire", kv.new_lock(name).try_acquire().await)?;
    named("acquire_within", kv.new_lock(name).acquire_within(Duration::from_secs(1)).await)
}
