//! Calls and watches that nobody polls, in an outage.

use super::*;
use crate::cases::watches::Follower;
use kv_core::Watching;
use tokio::time::timeout;

/// The time for which each is polled: enough to notice that the connection is gone, and to begin
/// another one.
const POLLED: Duration = Duration::from_millis(150);

/// A program that reads one watch, or works on one answer, polls nothing else meanwhile.
pub(super) async fn after_an_outage(t: Trial) -> Verdict {
    linked(t, async |t, Linked { kv, proxy, .. }| {
        let kv = kv.with_deadline(t.patience());
        let there = kv.put("d/there", "").await?.version;
        let watches = t.capabilities().watch != Watching::Unsupported;
        let mut tree = if watches { Some(Follower::of_tree(&t, &kv, "d").await?) } else { None };
        proxy.cut().await;
        proxy.heal().await;
        proxy.freeze();
        if let Some(tree) = &mut tree {
            let _ = timeout(POLLED, tree.watch().event()).await;
        }
        let mut left = reads(&kv);
        left.extend(acquisitions(&kv));
        left.extend(writes(&kv, there));
        // Some may give up: not all of them can be sent again.
        for (_, call) in &mut left {
            let _ = timeout(POLLED, call).await;
        }
        proxy.thaw();
        t.soon("a put behind what nobody polls", kv.put("d/behind", "").into_future()).await??;
        t.soon("a get behind what nobody polls", kv.get("d/behind").into_future()).await??;
        Ok(())
    })
    .await
}
