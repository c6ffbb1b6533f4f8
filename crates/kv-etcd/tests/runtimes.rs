//! Handles that outlive the runtime on which they were opened or first used, and runtimes that
//! stand still.

mod common;

use common::single;
use kv_core::{Kv, Result, WatchEvent};
use kv_testsuite::Failure;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

fn threads() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(1).enable_all().build()
}

/// Uses everything once.
async fn everything(kv: &Kv) -> Result<()> {
    kv.put("a", "1").ttl(Duration::from_secs(60)).await?;
    kv.get("a").await?;
    let mut watch = kv.watch_tree("d").await?;
    watch.event().await?;
    kv.put("d/a", "1").await?;
    watch.event().await?;
    let guard = kv.new_lock("l").acquire().await?;
    let mut holder = kv.lock_holder("l").watch().await?;
    holder.event().await?;
    let waiting = tokio::spawn(kv.new_lock("l").acquire());
    assert!(guard.is_held());
    kv.put("a", "2").fenced(&guard).await?;
    assert!(guard.release().await?);
    let guard = waiting.await.expect("it does not panic")?;
    let lost = tokio::time::timeout(Duration::from_millis(300), guard.lost());
    assert!(lost.await.is_err() && guard.is_held(), "it is held, and not lost");
    assert!(guard.release().await?);
    let lease = kv.lease(Duration::from_secs(60)).await?;
    kv.put("leased", "").lease(&lease).await?;
    assert!(lease.revoke().await?);
    kv.delete("d/a").await.map(drop)
}

fn soon<T>(runtime: &Runtime, work: impl Future<Output = Result<T>>) -> Result<T, Failure> {
    Ok(runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), work).await })??)
}

#[test]
fn a_handle_outlives_the_runtime_that_opened_it() -> Result<(), Failure> {
    let servers = threads()?;
    let node = servers.block_on(single("etcd"))?;
    let first = threads()?;
    let url = format!("etcd://{}/outlived/", node.address);
    let kv = soon(&first, kv_etcd::open(&url))?;
    soon(&first, everything(&kv))?;
    let (guard, mut watch) =
        soon(&first, async { Ok((kv.new_lock("kept").acquire().await?, kv.watch_tree("w").await?)) })?;
    assert!(matches!(soon(&first, watch.event())?, WatchEvent::Synced));
    first.shutdown_timeout(Duration::from_secs(5));
    assert!(!guard.is_held(), "nobody renews it any more");
    let second = threads()?;
    soon(&second, async { Ok(guard.lost().await) })?;
    soon(&second, everything(&kv))?;
    soon(&second, async {
        kv.put("w/a", "").await?;
        while !matches!(watch.event().await?, WatchEvent::Put(_)) {}
        Ok(())
    })?;
    soon(&second, kv.close())?;
    Ok(())
}

#[test]
fn a_handle_outlives_the_runtime_that_used_it_first() -> Result<(), Failure> {
    let stays = threads()?;
    let node = stays.block_on(single("etcd"))?;
    let kv = soon(&stays, kv_etcd::open(&format!("etcd://{}/outlived/", node.address)))?;
    let passes = threads()?;
    soon(&passes, everything(&kv))?;
    passes.shutdown_timeout(Duration::from_secs(5));
    soon(&stays, everything(&kv))?;
    Ok(())
}

/// Tests and small programs call `block_on` now and then: a runtime that stood still does not know
/// what happened in between.
#[test]
fn a_handle_is_used_by_a_runtime_while_another_stands_still() -> Result<(), Failure> {
    let stays = threads()?;
    let node = stays.block_on(single("etcd"))?;
    let still = Builder::new_current_thread().enable_all().build()?;
    let kv = soon(&still, kv_etcd::open(&format!("etcd://{}/still/", node.address)))?;
    soon(&still, everything(&kv))?;
    soon(&stays, everything(&kv))?;
    soon(&still, everything(&kv))?;
    Ok(())
}

#[test]
fn a_runtime_that_stood_still_learns_of_a_restart_before_it_writes() -> Result<(), Failure> {
    let servers = threads()?;
    let node = servers.block_on(single("etcd"))?;
    let still = Builder::new_current_thread().enable_all().build()?;
    let kv = soon(&still, kv_etcd::open(&format!("etcd://{}/still/", node.address)))?;
    for n in 0..3 {
        soon(&still, kv.put("a", n.to_string()).into_future())?;
        servers.block_on(async {
            node.daemon.kill();
            node.start().await
        })?;
    }
    soon(&still, kv.put("a", "last").into_future())?;
    Ok(())
}

#[test]
fn runtimes_that_stand_still_keep_no_session_at_the_end() -> Result<(), Failure> {
    let stays = threads()?;
    let node = stays.block_on(single("etcd"))?;
    let url = format!("etcd://{}/end/", node.address);
    let kv = soon(&stays, kv_etcd::open(&url))?;
    let mut still = Vec::new();
    for n in 0..6 {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let guard = soon(&runtime, kv.new_lock(format!("still{n}")).acquire().into_future())?;
        still.push((runtime, guard));
    }
    assert!(soon(&stays, async { kv.new_lock("l").acquire().await?.release().await })?);
    let leases = || {
        stays.block_on(async {
            let tool = etcd_client::Client::connect([node.address.to_string()], None).await?;
            Ok::<_, Failure>(tool.lease_client().leases().await?.leases().len())
        })
    };
    assert_eq!(leases()?, still.len() + 1);
    // The runtime that closes gives back what the others hold, and waits for none of them.
    soon(&stays, kv.close())?;
    assert_eq!(leases()?, 0);
    assert!(still.iter().all(|(_, guard)| !guard.is_held()));
    Ok(())
}
