//! Layers in programs of several runtimes, of which one ends or stands still. Those of `Coalesce`
//! are with its other tests.

use crate::below::{Below, SLOW};
use futures::poll;
use kv_core::{Kv, Result, WatchEvent};
use kv_layers::{Chaos, Coalesce, Limit, Tee};
use kv_memory::{Config, Faults};
use std::{future::Future, pin::pin, time::Duration};
use tokio::{
    runtime::{Builder, Runtime},
    time::{sleep, timeout},
};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Runs the work in a runtime that ends with it: a single thread ends before it has begun what was
/// left to it, several may end in the middle.
fn in_one_that_ends(threads: bool, work: impl Future<Output = Result<()>>) -> Result<()> {
    let mut builder = if threads { Builder::new_multi_thread() } else { Builder::new_current_thread() };
    builder.worker_threads(2).enable_all().build().expect("a runtime").block_on(work)
}

/// Opens two stores, each twice: a handle that writes to both, the faults of its copies, and
/// handles that look at the stores.
async fn teed(name: &str) -> Result<(Kv, Faults, Kv, Kv)> {
    let open = |which: &str| Config::new().name(format!("runtimes-{name}-{which}")).open();
    let (old, new, copied) = (open("old").await?, open("new").await?, open("new").await?);
    let tee = Tee::to(copied.store().clone()).patience(Duration::from_millis(20));
    let faults = Faults::of(&copied).expect("a store in memory");
    Ok((open("old").await?.layer(tee), faults, old, new))
}

#[test]
fn close_revokes_a_lease_of_both_stores_whose_runtime_ended_as_it_was_dropped() -> Result<()> {
    for round in 0..20 {
        let (stays, ends_with_threads) = (runtime(), round % 2 == 1);
        let (kv, _, old, new) = stays.block_on(teed(&format!("lease-{round}")))?;
        in_one_that_ends(ends_with_threads, async {
            let lease = kv.lease(Duration::from_secs(3600)).await?;
            kv.put("member", "").lease(&lease).await?;
            assert!(old.exists("member").await? && new.exists("member").await?);
            drop(lease);
            Ok(())
        })?;
        stays.block_on(async {
            kv.close().await?;
            assert!(!old.exists("member").await?, "round {round}: the store below has it");
            assert!(!new.exists("member").await?, "round {round}: the other store has it");
            Ok::<_, kv_core::Error>(())
        })?;
    }
    Ok(())
}

#[test]
fn a_copy_that_the_end_of_a_runtime_cut_off_is_made_with_the_next_write_or_by_close() -> Result<()> {
    let stays = runtime();
    let (kv, faults, old, new) = stays.block_on(teed("copy"))?;
    for (threads, key) in [(false, "a"), (true, "b")] {
        faults.pause();
        in_one_that_ends(threads, async { kv.put(key, "1").await.map(drop) })?;
        faults.resume();
        stays.block_on(async {
            assert!(old.exists(key).await? && !new.exists(key).await?, "{key} is not copied yet");
            kv.put("next", key).await?;
            let copied = async {
                while !new.exists(key).await? {
                    sleep(Duration::from_millis(1)).await;
                }
                Ok::<_, kv_core::Error>(())
            };
            timeout(Duration::from_secs(20), copied).await.expect("the copy is made")
        })?;
    }
    faults.pause();
    in_one_that_ends(false, async {
        kv.put("c", "1").await?;
        kv.delete_tree("a").await.map(drop)
    })?;
    faults.resume();
    stays.block_on(async {
        kv.close().await?;
        assert!(new.exists("c").await?, "`close` made the copy");
        let found = Tee::differences(&old, &new, "").await?;
        assert!(found.is_empty(), "{found:?}");
        Ok(())
    })
}

#[test]
fn an_event_that_was_held_back_comes_in_another_runtime() -> Result<()> {
    for has_ended in [false, true] {
        let (first, second) = (runtime(), runtime());
        let chaos = Chaos::new(5).delays(1.0, Duration::from_secs(3600));
        let mut watch = first.block_on(async {
            let kv = kv_memory::open("memory://").await?.layer(chaos.clone());
            let mut watch = kv.watch_tree("d").await?;
            let held = timeout(Duration::from_millis(50), watch.event()).await;
            assert!(held.is_err(), "{held:?}");
            Ok::<_, kv_core::Error>(watch)
        })?;
        chaos.pause();
        let first = (!has_ended).then_some(first);
        let event = second.block_on(async { timeout(Duration::from_secs(10), watch.event()).await });
        assert_eq!(event.expect("it comes")?, WatchEvent::Synced);
        drop(first);
    }
    Ok(())
}

#[test]
fn a_watch_that_pauses_before_it_lists_again_goes_on_in_another_runtime() -> Result<()> {
    for has_ended in [false, true] {
        let (first, second) = (runtime(), runtime());
        let store = first.block_on(kv_memory::open("memory://"))?;
        let (kv, faults) = (store.clone().layer(Coalesce), Faults::of(&store).expect("a store in memory"));
        let mut watch = first.block_on(async {
            let mut watch = kv.watch_tree("d").await?;
            assert_eq!(watch.event().await?, WatchEvent::Synced);
            faults.cut_watches();
            assert!(poll!(pin!(watch.event())).is_pending());
            Ok::<_, kv_core::Error>(watch)
        })?;
        let first = (!has_ended).then_some(first);
        let read = second.block_on(async {
            store.put("d/a", "").await?;
            let read = async {
                while !matches!(watch.event().await?, WatchEvent::Put(_)) {}
                Ok::<_, kv_core::Error>(())
            };
            Ok::<_, kv_core::Error>(timeout(Duration::from_secs(10), read).await)
        })?;
        read.expect("the put is told")?;
        drop(first);
    }
    Ok(())
}

#[test]
fn calls_in_a_runtime_that_stands_still_keep_no_permit_of_another() -> Result<()> {
    let (first, second, below) = (runtime(), runtime(), Below::new());
    let kv = first.block_on(kv_memory::open("memory://"))?.layer(below.clone());
    let kv = kv.layer(Limit::new().reads(1).writes(1).watches(1));
    let (slow, next) = first.block_on(async {
        let put = |key| tokio::spawn(kv.put(key, "").deadline(Duration::from_secs(600)).into_future());
        let puts = (put(SLOW), put("a"));
        while below.waiting() == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        puts
    });
    second.block_on(async {
        kv.put("b", "1").await?;
        assert!(!kv.exists("a").await?, "it has no turn yet");
        Ok::<_, kv_core::Error>(())
    })?;
    first.block_on(async {
        below.go();
        slow.await.expect("it does not panic")?;
        next.await.expect("it does not panic")?;
        assert!(kv.exists("a").await?);
        kv.close().await
    })
}
