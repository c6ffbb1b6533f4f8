//! Listings of the locks that are held.

use super::{all, in_line, locking, take};
use crate::{
    Ended, Failure, Trial, Verdict,
    check::{holds, refused, same},
};
use futures::FutureExt;
use kv_core::{ErrorKind, HeldLock, Kv, driver::Deadline};
use std::{collections::BTreeMap, future::Future};

/// Runs the case where locks can be listed; elsewhere sees that it is refused.
async fn listing<F>(t: Trial, case: impl FnOnce(Trial, Kv) -> F) -> Verdict
where
    F: Future<Output = Result<(), Failure>>,
{
    if t.capabilities().lock.as_ref().is_none_or(|locking| locking.lists) {
        return locking(t, case).await;
    }
    let kv = t.open().await?;
    let _guard = take(&t, &kv, "l").await?;
    refused("locks that are not declared", kv.locks("").await, ErrorKind::Unsupported)?;
    Ended::ignored("nobody lists locks")
}

fn names(listed: &[HeldLock]) -> Vec<&str> {
    listed.iter().map(|lock| lock.name.as_str()).collect()
}

pub(super) async fn held(t: Trial) -> Verdict {
    listing(t, async |t, kv| {
        let other = t.open().await?;
        same("the locks before anybody took one", other.locks("").await?, vec![])?;
        let mut guards = BTreeMap::new();
        for name in ["d/a", "application/x", "d", "d/*[x]", "d/a/b", "d-e", "app/x", "d/ä b"] {
            let guard = kv.new_lock(name).value(format!("of {name}")).acquire().await?;
            guards.insert(name, guard);
        }
        take(&t, &kv, "d/free").await?.release().await?;
        kv.put("d/key", "").await?;
        let everything = ["app/x", "application/x", "d", "d-e", "d/*[x]", "d/a", "d/a/b", "d/ä b"];
        for (directory, below) in [
            ("d", &everything[4..]),
            ("app", &everything[..1]),
            ("d/a", &everything[6..7]),
            ("d/*[x]", &everything[..0]),
            ("none", &everything[..0]),
            ("", &everything[..]),
        ] {
            let listed = other.locks(directory).await?;
            same(format!("the locks that are held below {directory:?}"), names(&listed), below)?;
            for HeldLock { name, holder, .. } in &listed {
                let token = guards.get(name.as_str()).map(|guard| guard.token());
                same(format!("the token of the holder of {name:?}"), Some(holder.token), token)?;
                let value = format!("of {name}");
                same(format!("the value of the holder of {name:?}"), &holder.value[..], value.as_bytes())?;
            }
        }
        for guard in guards.into_values() {
            holds("a lock that was listed was held", guard.release().await?)?;
        }
        same("the locks after all were released", other.locks("").await?, vec![])
    })
    .await
}

pub(super) async fn waiters(t: Trial) -> Verdict {
    if t.capabilities().lock.as_ref().is_none_or(|locking| !locking.lists) {
        return listing(t, async |_, _| Ok(())).await;
    }
    let (kv, other) = (t.open().await?, t.open().await?);
    let guard = take(&t, &kv, "l").await?;
    let in_line_now = async || -> Result<Option<u64>, Failure> {
        let listed = kv.locks("").await?;
        same("the locks that are held", names(&listed), ["l"])?;
        Ok(listed.first().and_then(|lock| lock.waiters))
    };
    if in_line_now().await?.is_none() {
        return Ended::ignored("the server does not know who waits");
    }
    same("those who wait for a lock that nobody waits for", in_line_now().await?, Some(0))?;
    let (mut first, mut second) = (other.new_lock("l").acquire().boxed(), kv.new_lock("l").acquire().boxed());
    in_line(&t, &other, ("l", 1), &mut first).await?;
    in_line(&t, &kv, ("l", 2), &mut second).await?;
    same("those who wait for a lock that two wait for", in_line_now().await?, Some(2))?;
    drop(first);
    let is_left = || async { Ok(kv.locks("").await?.first().and_then(|lock| lock.waiters) == Some(1)) };
    t.until_within(Deadline::DEFAULT, "a wait that was given up to be counted no more", is_left).await?;
    guard.release().await?;
    let next = t.soon("the lock after its release", second).await??;
    same("those who wait for a lock that its last waiter got", in_line_now().await?, Some(0))?;
    holds("the last waiter held it", next.release().await?)?;
    Ok(Ended::Kept)
}

pub(super) async fn many(t: Trial) -> Verdict {
    const MANY: usize = 110;
    listing(t, async |t, kv| {
        let other = t.open().await?;
        let locks = (0..MANY).map(|n| kv.new_lock(format!("many/{n:03}")).acquire().boxed());
        let guards = all(16, locks).await?;
        let comes_and_goes = async {
            for _ in 0..5 {
                take(&t, &other, "many/050-comes-and-goes").await?.release().await?;
            }
            Ok::<_, Failure>(())
        };
        let looks = async {
            for _ in 0..3 {
                let mut listed = kv.locks("many").await?;
                holds("locks are listed in order, each once", listed.is_sorted_by(|a, b| a.name < b.name))?;
                listed.retain(|lock| !lock.name.as_str().ends_with("goes"));
                same("locks that are held all the time, and are listed", listed.len(), MANY)?;
            }
            Ok::<_, Failure>(())
        };
        let (came, looked) = tokio::join!(comes_and_goes, looks);
        came?;
        looked?;
        let released = guards.into_iter().map(|guard| guard.release().boxed());
        let released = all(16, released).await?;
        same(
            "locks that were held until they were released",
            released.iter().filter(|held| **held).count(),
            MANY,
        )
    })
    .await
}
