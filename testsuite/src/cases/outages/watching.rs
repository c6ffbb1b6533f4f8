//! Watches in an outage.

use super::*;
use crate::{
    cases::{put_all, watches::Follower},
    check::{holds, same},
};
use kv_core::{WatchEvent, Watching};
use std::collections::BTreeSet;

const UNCHANGED: usize = 40;

fn unwatched(t: &Trial) -> Option<Verdict> {
    (t.capabilities().watch == Watching::Unsupported).then(|| Ended::ignored("no watches"))
}

/// Runs the case where there are watches, and a network.
async fn linked_watch<F>(t: Trial, case: impl FnOnce(Trial, Linked) -> F) -> Verdict
where
    F: Future<Output = Result<(), Failure>>,
{
    match unwatched(&t) {
        Some(ignored) => ignored,
        None => linked(t, case).await,
    }
}

/// Runs the case where there are watches, and a server that can be taken away.
async fn served_watch<F>(t: Trial, case: impl FnOnce(Trial, Arc<dyn Server>, Kv) -> F) -> Verdict
where
    F: Future<Output = Result<(), Failure>>,
{
    match unwatched(&t) {
        Some(ignored) => ignored,
        None => served(t, case).await,
    }
}

/// Makes a tree, and watches it by `kv`: through the proxy, or on the server that will be away.
async fn watched(t: &Trial, kv: &Kv, direct: &Kv) -> Result<Follower, Failure> {
    let direct = &direct.clone().with_deadline(PATIENT);
    put_all(direct, (0..UNCHANGED).map(|n| format!("d/same/{n:02}"))).await?;
    put_all(direct, ["d/changed", "d/deleted", "d/remade"]).await?;
    Follower::of_tree(t, kv, "d").await
}

/// Makes the changes that happen while the watch cannot see them.
async fn meanwhile(kv: &Kv) -> Result<(), Failure> {
    let kv = &kv.clone().with_deadline(PATIENT);
    kv.put("d/new", "new").await?;
    kv.put("d/changed", "changed").await?;
    kv.delete("d/deleted").await?;
    kv.delete("d/remade").await?;
    kv.put("d/remade", "made anew").await?;
    Ok(())
}

/// Checks that the watch goes on: what is written over and over is told in the end.
async fn goes_on(t: &Trial, follower: &mut Follower, kv: &Kv) -> Result<(), Failure> {
    let told = async {
        loop {
            let event = follower.watch().event().await;
            let event = event.map_err(|e| format!("the watch ended: {e:?}"))?;
            if event.key().is_some_and(|key| key.as_str() == "d/on") {
                return Ok::<_, Failure>(());
            }
        }
    };
    let write = async {
        loop {
            // The write may fail: the server may still be on its way back.
            let _ = kv.put("d/on", "").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let either = async {
        tokio::select! {
            told = told => told,
            never = write => never,
        }
    };
    // It may take a while to notice a connection that is silent for ever.
    t.within(t.patience() * 2, "an event after the outage", either).await?
}

pub(super) async fn survives_cut(t: Trial) -> Verdict {
    linked_watch(t, async |t, link| {
        let mut follower = watched(&t, &link.kv, &link.direct).await?;
        for _ in 0..2 {
            link.proxy.cut().await;
            meanwhile(&link.direct).await?;
            // The watch is not given up, though this is longer than a request may take.
            let early = tokio::time::timeout(DEADLINE * 2, follower.watch().event()).await;
            holds(format!("a cut ends no watch; found {early:?}"), !matches!(early, Ok(Err(_))))?;
            link.proxy.heal().await;
            goes_on(&t, &mut follower, &link.direct).await?;
        }
        Ok(())
    })
    .await
}

pub(super) async fn survives_freeze(t: Trial) -> Verdict {
    linked_watch(t, async |t, link| {
        let mut follower = watched(&t, &link.kv, &link.direct).await?;
        link.proxy.freeze();
        let early = tokio::time::timeout(DEADLINE * 2, follower.watch().event()).await;
        holds(format!("a freeze ends no watch; found {early:?}"), !matches!(early, Ok(Err(_))))?;
        link.proxy.thaw();
        goes_on(&t, &mut follower, &link.direct).await
    })
    .await
}

pub(super) async fn survives_dead_link(t: Trial) -> Verdict {
    linked_watch(t, async |t, link| {
        let mut follower = watched(&t, &link.kv, &link.direct).await?;
        link.proxy.strand();
        goes_on(&t, &mut follower, &link.direct).await
    })
    .await
}

pub(super) async fn survives_begun(t: Trial) -> Verdict {
    linked_watch(t, async |t, link| {
        link.direct.put("d/a", "").await?;
        link.proxy.cut().await;
        let watch = link.kv.watch_tree("d").await;
        let mut watch =
            watch.map_err(|e| format!("a server that is away is waited for in the stream: {e:?}"))?;
        let early = tokio::time::timeout(DEADLINE * 2, watch.event()).await;
        holds(format!("nothing is told while the server is away; found {early:?}"), early.is_err())?;
        link.proxy.heal().await;
        let mut told = Vec::new();
        while told.last() != Some(&WatchEvent::Synced) {
            told.push(t.soon("the snapshot when the server is back", watch.event()).await??);
        }
        same("events up to Synced", told.len(), 2)
    })
    .await
}

#[derive(Clone, Copy)]
enum Away {
    Stopped,
    Killed,
    Paused,
}

async fn survives(t: Trial, away: Away) -> Verdict {
    served_watch(t, async move |t: Trial, server: Arc<dyn Server>, kv: Kv| {
        let mut follower = watched(&t, &kv, &kv).await?;
        match away {
            Away::Stopped => server.stop().await,
            Away::Killed => server.kill().await,
            Away::Paused => server.pause().await,
        }
        let early = tokio::time::timeout(DEADLINE * 2, follower.watch().event()).await;
        holds(format!("an outage ends no watch; found {early:?}"), !matches!(early, Ok(Err(_))))?;
        match away {
            Away::Stopped | Away::Killed => server.start().await,
            Away::Paused => server.resume().await,
        }
        goes_on(&t, &mut follower, &kv).await
    })
    .await
}

pub(super) async fn survives_restart(t: Trial) -> Verdict {
    survives(t, Away::Stopped).await
}

pub(super) async fn survives_kill(t: Trial) -> Verdict {
    survives(t, Away::Killed).await
}

pub(super) async fn survives_pause(t: Trial) -> Verdict {
    survives(t, Away::Paused).await
}

pub(super) async fn gapless_cut(t: Trial) -> Verdict {
    linked_watch(t, async |t, link| {
        let mut follower = watched(&t, &link.kv, &link.direct).await?;
        link.proxy.cut().await;
        meanwhile(&link.direct).await?;
        link.proxy.heal().await;
        follower.agrees(&link.direct, "d").await
    })
    .await
}

pub(super) async fn gapless_freeze(t: Trial) -> Verdict {
    linked_watch(t, async |t, link| {
        let mut follower = watched(&t, &link.kv, &link.direct).await?;
        link.proxy.freeze();
        meanwhile(&link.direct).await?;
        link.proxy.thaw();
        follower.agrees(&link.direct, "d").await
    })
    .await
}

pub(super) async fn gapless_restart(t: Trial) -> Verdict {
    served_watch(t, async |t, server, kv| {
        let mut follower = watched(&t, &kv, &kv).await?;
        meanwhile(&kv).await?;
        server.stop().await;
        server.start().await;
        t.until("writes to succeed again", || async { Ok(kv.put("d/after", "").await.is_ok()) }).await?;
        kv.delete("d/changed").deadline(PATIENT).await?;
        follower.agrees(&kv, "d").await
    })
    .await
}

pub(super) async fn order_after_outage(t: Trial) -> Verdict {
    linked_watch(t, async |t, link| {
        let mut follower = watched(&t, &link.kv, &link.direct).await?;
        for _ in 0..2 {
            link.proxy.cut().await;
            meanwhile(&link.direct).await?;
            // By then a watch that polls has met the outage; one that missed nothing tells no
            // `Synced`.
            tokio::time::sleep(DEADLINE).await;
            link.proxy.heal().await;
            let came = follower.synced().await.map_err(|e| format!("up to Synced after an outage: {e}"))?;
            let differs = BTreeSet::from(["d/new", "d/changed", "d/deleted", "d/remade"]);
            let other = came.iter().filter_map(WatchEvent::key).find(|key| !differs.contains(key.as_str()));
            same("a key that is told after an outage and did not change", other, None)?;
            let listed = link.direct.list("d").await?;
            same("what is told up to Synced", follower.map.values().cloned().collect::<Vec<_>>(), listed)?;
            link.direct.put("d/deleted", "back").await?;
            follower.agrees(&link.direct, "d").await?;
        }
        same("what was told out of order", follower.disorder, Vec::<String>::new())
    })
    .await
}
