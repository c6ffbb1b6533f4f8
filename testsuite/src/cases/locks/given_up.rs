//! Acquisitions that a client gives up again and again while it goes on holding another lock.

use super::{lock_ttl, locking, take};
use crate::{Ended, Trial, Verdict};
use std::{collections::HashSet, time::Duration};
use tokio::time::{Instant, sleep, timeout};

const TIMES: u32 = 300;

pub(super) async fn beside_a_holder(t: Trial) -> Verdict {
    if t.capabilities().lock.is_some() && t.harness().internals(t.prefix()).await.is_none() {
        return Ended::ignored("the harness cannot look into the server");
    }
    locking(t, async |t, kv| {
        // All locks have one TTL: what they share lives as long as the lock that is held.
        let ttl = lock_ttl(&t, Duration::from_secs(30));
        let other = t.open().await?;
        for name in ["busy", "free"] {
            // A lock that was once used may leave something on the server, which does not count.
            take(&t, &other, name).await?.release().await?;
            let mine = t.soon("a free lock", kv.new_lock(name).ttl(ttl).acquire()).await??;
            mine.release().await?;
        }
        let held = t.soon("a free lock", kv.new_lock("held").ttl(ttl).acquire()).await??;
        let busy = t.soon("a free lock", other.new_lock("busy").ttl(ttl).acquire()).await??;
        let all = async || t.harness().internals(t.prefix()).await.unwrap_or_default();
        let before: HashSet<_> = all().await.into_iter().collect();
        for n in 0..TIMES {
            let name = if n % 2 == 0 { "busy" } else { "free" };
            let short = Duration::from_micros(300 + u64::from(n * 9));
            if let Ok(got) = timeout(short, kv.new_lock(name).ttl(ttl).acquire()).await {
                got?.release().await?;
            }
        }
        t.note("what was given up to go");
        let end = Instant::now() + t.patience();
        loop {
            let left: Vec<_> = all().await.into_iter().filter(|line| !before.contains(line)).collect();
            if left.is_empty() {
                break;
            }
            if Instant::now() > end {
                let some: Vec<_> = left.iter().take(5).collect();
                let many = left.len();
                return Err(format!(
                    "left of {TIMES} acquisitions that were given up: {many}, such as {some:?}"
                )
                .into());
            }
            sleep(Duration::from_millis(100)).await;
        }
        busy.release().await?;
        held.release().await?;
        Ok(())
    })
    .await
}
