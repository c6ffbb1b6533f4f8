//! Handles that are closed while others drop what they hold, and handles that outlive the runtime
//! that they were made in.

mod cut_off;
mod outlived;
mod stands_still;

use crate::{
    Ended, Failure, Trial, Verdict,
    check::{holds, refused, same},
};
use futures::poll;
use kv_core::ErrorKind;
use std::{
    pin::pin,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

cases! {
    "close.gives_back/dropped_meanwhile": "`close` answers when all is given back, also what others drop while it ends them" => dropped_meanwhile,
    "close.gives_back/acquiring": "`close` answers when nothing is left of what is being acquired, though nobody polls it any more" => acquiring,
    "close.gives_back/cut_off": "`close` gives back what was dropped just as its runtime ended" => cut_off::closed,
    "runtime.outlived/opened": "a handle that was opened and used in a runtime that ended works in another" => outlived::opened,
    "runtime.outlived/first_used": "a handle that others used first, in a runtime that ended, works in the one it was opened in" => outlived::first_used,
    "runtime.outlived/held": "what was held in a runtime that ended is known to be lost: `is_held()` and `lost()` say the same" => outlived::held,
    "runtime.outlived/dropped": "a guard, a wait and a lease that are dropped just as their runtime ends go within their TTL and its lateness, whatever else the handle holds" => cut_off::dropped,
    "runtime.outlived/stands_still": "a handle works in other runtimes while the one that opened it stands still, in the middle of its calls, and there when that goes on" => stands_still::others_go_on,
}

async fn dropped_meanwhile(t: Trial) -> Verdict {
    const ROUNDS: usize = 200;
    let other = t.open().await?;
    let (lease_ttl, locks) = (t.capabilities().lease.clone(), t.capabilities().lock.is_some());
    if lease_ttl.is_none() && !locks {
        return Ended::ignored("nothing is held: no leases, no locks");
    }
    for round in 0..ROUNDS {
        let (kv, (began, has_begun)) = (t.open().await?, oneshot::channel());
        let lease = match &lease_ttl {
            Some(range) => {
                Some(kv.lease(range.greatest.min(range.least.max(Duration::from_secs(10)))).await?)
            }
            None => None,
        };
        if let Some(lease) = &lease {
            kv.put("member", round.to_string()).lease(lease).await?;
        }
        // A lock costs more than a lease, so that it is taken only now and then.
        let guard = match locks && (round % 4 == 0 || lease.is_none()) {
            true => Some(t.soon("the lock, which was given back", kv.new_lock("l").acquire()).await??),
            false => None,
        };
        // The task does as a program that has registered: it waits for the loss, and drops what it
        // has.
        let member = tokio::spawn(async move {
            let _ = began.send(());
            match (&lease, &guard) {
                (Some(lease), _) => drop(lease.lost().await),
                (None, Some(guard)) => drop(guard.lost().await),
                (None, None) => {}
            }
            drop((lease, guard));
        });
        has_begun.await?;
        let closed = kv.close().await;
        holds(format!("`close` gives everything back; it said {closed:?}"), closed.is_ok())?;
        let left = other.get("member").await?;
        same(format!("what `close` left of a lease, in round {round}"), left.map(|entry| entry.key), None)?;
        if locks {
            let holder = other.lock_holder("l").await?.map(|holder| holder.token);
            same(format!("who holds the lock after `close`, in round {round}"), holder, None)?;
        }
        let ended = t.soon("who waited for the loss to end", member).await?;
        ended.map_err(|e| Failure::from(format!("who waited for the loss: {e}")))?;
    }
    Ok(Ended::Kept)
}

async fn acquiring(t: Trial) -> Verdict {
    const ROUNDS: u32 = 60;
    let other = t.open().await?;
    let Some(locking) = t.capabilities().lock.clone() else { return Ended::ignored("no locks") };
    // The TTL is far longer than the case waits.
    let ttl = locking.ttl.grant(Duration::from_secs(60).clamp(locking.ttl.least, locking.ttl.greatest))?;
    let mut takes = Duration::MAX;
    for _ in 0..5 {
        let (kv, began) = (t.open().await?, Instant::now());
        let guard = kv.new_lock("l").ttl(ttl).acquire().await?;
        takes = takes.min(began.elapsed());
        holds("the lock was held", guard.release().await?)?;
        kv.close().await?;
    }
    for round in 0..ROUNDS {
        let kv = t.open().await?;
        let mut acquire = pin!(kv.new_lock("l").ttl(ttl).acquire());
        // A program that is told to end polls its acquisition no more, and closes the handle. Each
        // round ends it after another part of the time that an acquisition takes. A timer would
        // know milliseconds only.
        let (began, polled) = (Instant::now(), takes * round / ROUNDS);
        let mut got = poll!(acquire.as_mut());
        while got.is_pending() && began.elapsed() < polled {
            tokio::task::yield_now().await;
            got = poll!(acquire.as_mut());
        }
        let closed = kv.close().await;
        holds(format!("`close` gives everything back; it said {closed:?}"), closed.is_ok())?;
        let holder = other.lock_holder("l").await?.map(|holder| holder.token);
        same(format!("who holds the lock after `close`, in round {round}"), holder, None)?;
        let next = t.soon("the lock, of which nothing is left", other.new_lock("l").acquire()).await??;
        holds("the lock was held", next.release().await?)?;
        if got.is_pending() {
            refused("a wait whose handle was closed", acquire.await, ErrorKind::Closed)?;
        }
    }
    Ok(Ended::Kept)
}
