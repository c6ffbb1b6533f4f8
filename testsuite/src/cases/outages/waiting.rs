//! Waits for locks in an outage.

use super::*;
use crate::{
    cases::locks::{lock_ttl, waits_in_line},
    check::{holds, still_held},
};
use tokio::task::JoinSet;

pub(super) async fn outage(t: Trial) -> Verdict {
    if t.capabilities().lock.is_none() {
        return Ended::ignored("no locks");
    }
    served(t, async |t, server, kv| {
        // With this TTL the lock is held over the outage.
        let (holder, long) = (t.open().await?, lock_ttl(&t, Duration::from_secs(60)));
        for away in ["hangs", "is stopped", "is killed"] {
            let guard = t.soon("a free lock", holder.new_lock("l").ttl(long).acquire()).await??;
            let mut waiting = JoinSet::new();
            waiting.spawn(kv.new_lock("l").ttl(lock_ttl(&t, Duration::from_secs(10))).acquire());
            waits_in_line(&t, &kv, "l", 1).await?;
            match away {
                "hangs" => server.pause().await,
                "is stopped" => server.stop().await,
                _ => server.kill().await,
            }
            // This is longer than any request of the waiter's may take.
            let early = tokio::time::timeout(DEADLINE * 4, waiting.join_next()).await;
            holds(format!("a wait goes on while the server {away}; found {early:?}"), early.is_err())?;
            match away {
                "hangs" => server.resume().await,
                _ => server.start().await,
            }
            t.until("reads to succeed again", || async { Ok(holder.get("up").await.is_ok()) }).await?;
            let first = guard.token();
            // The lock may have been lost in the outage.
            let _ = guard.release().await;
            let what = format!("a waiter to get the lock after the server {away}");
            let got = t.within(t.patience() * 2, &what, waiting.join_next()).await?;
            let got = got.ok_or("the wait was begun")??;
            let got = got.map_err(|e| format!("a wait ended because the server {away}: {e:?}"))?;
            still_held("a lock that was got is held", &got)?;
            holds("its token is above that of the one before", got.token() > first)?;
            t.until("the lock to be given back", || async { Ok(holder.get("up").await.is_ok()) }).await?;
            drop(got);
            let free = || async { Ok(holder.lock_holder("l").await.is_ok_and(|holder| holder.is_none())) };
            t.until("the lock to be free", free).await?;
        }
        Ok(())
    })
    .await
}
