//! Many watches, and slow ones.

use super::{Follower, all, put_all, watching};
use crate::{Ended, Failure, Proxy, Trial, Verdict, check::holds};
use futures::FutureExt;
use kv_core::{Kv, WatchEvent};
use std::{future::IntoFuture, time::Duration};
use tokio::task::JoinSet;

pub(super) async fn slow_reader(t: Trial) -> Verdict {
    const WRITES: usize = 3000;
    watching(t, async |t, kv| {
        let (mut slow, mut fast) =
            (Follower::of_tree(&t, &kv, "d").await?, Follower::of_tree(&t, &kv, "d").await?);
        let writer = t.open().await?;
        let write = async {
            let put = |n| writer.put(format!("d/{}", n % 100), format!("{n:01000}")).into_future();
            all(16, (0..WRITES).map(put)).await?;
            writer.put("d/end", "").await?;
            Ok::<_, Failure>(())
        };
        let read = async {
            while !fast.map.contains_key("d/end") {
                fast.next().await.map_err(|e| format!("beside a reader that does not read: {e}"))?;
            }
            Ok::<_, Failure>(())
        };
        futures::try_join!(write, read)?;
        let entry =
            kv.get("d/end").await.map_err(|e| format!("beside a reader that does not read: {e:?}"))?;
        holds("a call goes on beside a reader that does not read", entry.is_some())?;
        let mut third = Follower::of_tree(&t, &kv, "d").await?;
        third.agrees(&kv, "d").await?;
        slow.agrees(&kv, "d").await
    })
    .await
}

/// The number of values that are put to see whether they are told, and their length in bytes.
const BATCH: usize = 16;
const VALUE: usize = 4096;

pub(super) async fn dropped(t: Trial) -> Verdict {
    let Some(opened) = t.open_behind_proxy().await else {
        return Ended::ignored(crate::cases::outages::NO_LINK);
    };
    let (watched, proxy) = opened?;
    watching(t, async |t, kv| {
        let mut follower = Follower::of_tree(&t, &watched, "d").await?;
        let before = proxy.traffic().to_client;
        for n in 0..BATCH {
            kv.put(format!("d/{n}"), vec![b'x'; VALUE]).await?;
        }
        follower.agrees(&kv, "d").await?;
        // The proxy counts bytes a moment after it passed them on.
        let told = proxy.answered_beyond(before + (BATCH * VALUE) as u64 - 1);
        t.soon("what a watch tells to come from the server, through the proxy", told).await?;
        drop(follower);
        no_more_told(&t, &watched, &proxy, &kv, "d").await
    })
    .await
}

/// Waits until what this other client writes below the directory does not come through the proxy
/// any more: watches that were dropped end in the background.
pub(in crate::cases) async fn no_more_told(
    t: &Trial,
    watched: &Kv,
    proxy: &Proxy,
    other: &Kv,
    directory: &str,
) -> Result<(), Failure> {
    let quiet = async {
        let mut rounds = 0;
        while rounds < 3 {
            let before = proxy.traffic().to_client;
            // The puts are made at once, so that three rounds fit into the time on a slow server
            // too.
            let puts =
                (0..BATCH).map(|n| other.put(format!("{directory}/{n}"), vec![b'y'; VALUE]).into_future());
            all(BATCH, puts).await?;
            // The answer comes behind what the server had to tell, or most of it; the rest has a
            // moment.
            watched.get("elsewhere").await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
            let quiet = proxy.traffic().to_client - before < (BATCH * VALUE / 4) as u64;
            rounds = if quiet { rounds + 1 } else { 0 };
        }
        Ok::<_, Failure>(())
    };
    t.soon("the server to stop telling a watch that was dropped", quiet).await?
}

pub(super) async fn many(t: Trial) -> Verdict {
    watching(t, async |t, kv| {
        let (kv, proxy) = match t.open_behind_proxy().await {
            Some(opened) => opened.map(|(kv, proxy)| (kv, Some(proxy)))?,
            None => (kv, None),
        };
        let other = t.open().await?;
        let locks = if kv.capabilities().lock.is_some() { 200 } else { 0 };
        let watches = 1000 - locks;

        let guards =
            all(16, (0..locks).map(|n| other.new_lock(format!("lock/{n}")).acquire().boxed())).await?;
        let mut waits = JoinSet::new();
        for n in 0..locks {
            waits.spawn(kv.new_lock(format!("lock/{n}")).acquire());
        }
        let mut watching = all(32, (0..watches).map(|n| begun(&t, &kv, format!("d/{n}")).boxed())).await?;
        if let Some(proxy) = &proxy {
            let open = proxy.traffic().open;
            holds(format!("1,000 watches and waits share connections; there are {open}"), open <= 100)?;
        }

        put_all(&other, (0..watches).map(|n| format!("d/{n}"))).await?;
        all(watches, watching.iter_mut().map(|(_, follower)| first(follower).boxed())).await?;

        drop(guards);
        let got = async {
            while let Some(got) = waits.join_next().await {
                got?.map(drop)?;
            }
            Ok::<_, Failure>(())
        };
        t.within(t.patience() * 3, "200 waits to get their locks", got).await??;
        let (key, follower) = watching.first_mut().ok_or("there are watches")?;
        other.delete(&*key).await?;
        let event = follower.change().await?;
        holds(format!("the watches go on; found {event:?}"), matches!(event, WatchEvent::Delete { .. }))?;
        // The proxy is needed until `close` has ended: the guards give back through it.
        Ok(kv.close().await?)
    })
    .await
}

async fn begun(t: &Trial, kv: &Kv, key: String) -> Result<(String, Follower), Failure> {
    let follower = Follower::of_key(t, kv, &key).await?;
    Ok((key, follower))
}

/// Reads until the key is told.
async fn first(follower: &mut Follower) -> Result<(), Failure> {
    while follower.map.is_empty() {
        follower.next().await?;
    }
    Ok(())
}
