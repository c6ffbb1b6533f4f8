//! Handles that outlive the runtime in which they were opened or first used, and runtimes that
//! stand still.

mod common;

use common::{Node, single};
use kv_core::{Guard, Kv, Watch, WatchEvent};
use kv_testsuite::{Failure, failover::soon};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

fn runtime() -> Result<Runtime, Failure> {
    Ok(Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

async fn everything(kv: &Kv) -> Result<(Watch, Watch, Guard), Failure> {
    kv.put("a", "1").await?;
    let mut tree = kv.watch_tree("").await?;
    while soon("Synced", tree.event()).await?? != WatchEvent::Synced {}
    let mut holder = kv.lock_holder("l").watch().await?;
    while soon("Synced", holder.event()).await?? != WatchEvent::Synced {}
    let guard = kv.new_lock("l").ttl(Duration::from_secs(15)).acquire().await?;
    let waiting = tokio::spawn(kv.new_lock("l").ttl(Duration::from_secs(15)).acquire());
    assert!(kv.new_lock("l").try_acquire().await?.is_none());
    assert!(guard.release().await?);
    let began = Instant::now();
    let guard = soon("the lock", waiting).await???;
    // Without a message it would look again when the life of the one before ends.
    assert!(began.elapsed() < Duration::from_secs(8), "it was woken, not found after {:?}", began.elapsed());
    assert!(guard.is_held());
    let lease = kv.lease(Duration::from_secs(15)).await?;
    kv.put("leased", "").lease(&lease).await?;
    soon("the change", async {
        while !matches!(tree.event().await?, WatchEvent::Put(entry) if entry.key.as_str() == "leased") {}
        Ok::<_, kv_core::Error>(())
    })
    .await??;
    soon("the holder", async {
        while !matches!(holder.event().await?, WatchEvent::Put(entry) if entry.version.parts().0 == guard.token()) {
        }
        Ok::<_, kv_core::Error>(())
    })
    .await??;
    assert!(lease.revoke().await?);
    Ok((tree, holder, guard))
}

/// Checks what an earlier runtime began: its watches go on, and its guard is lost, or renewed.
async fn goes_on(kv: &Kv, before: (Watch, Watch, Guard)) -> Result<(), Failure> {
    let (mut tree, mut holder, guard) = before;
    // If nobody renews it, it is lost at once, and says so; or it is renewed and stays.
    let held = guard.is_held();
    let lost = tokio::time::timeout(Duration::from_millis(300), guard.lost()).await;
    assert_eq!(held, lost.is_err(), "is_held() and lost() say the same");
    kv.put("later", "").await?;
    soon("the change", async {
        while !matches!(tree.event().await?, WatchEvent::Put(entry) if entry.key.as_str() == "later") {}
        Ok::<_, kv_core::Error>(())
    })
    .await??;
    drop(guard);
    let guard = soon("the lock", kv.new_lock("l").acquire()).await??;
    soon("the holder", async {
        while !matches!(holder.event().await?, WatchEvent::Put(entry) if entry.version.parts().0 == guard.token()) {
        }
        Ok::<_, kv_core::Error>(())
    })
    .await??;
    assert!(guard.release().await?);
    Ok(())
}

async fn opened(node: &Node) -> Result<Kv, Failure> {
    Ok(kv_redis::open(&format!("redis://{}/later/", node.address)).await?)
}

#[test]
fn a_handle_outlives_its_runtime() -> Result<(), Failure> {
    let servers = runtime()?;
    let node = servers.block_on(single("redis"))?;
    let first = runtime()?;
    let kv = first.block_on(opened(&node))?;
    let before = first.block_on(everything(&kv))?;
    drop(first);
    let second = runtime()?;
    second.block_on(goes_on(&kv, before))?;
    drop(second.block_on(everything(&kv))?);
    second.block_on(kv.close())?;
    Ok(())
}

#[test]
fn a_handle_was_first_used_in_a_runtime_that_passed() -> Result<(), Failure> {
    let stays = runtime()?;
    let node = stays.block_on(single("redis"))?;
    let kv = stays.block_on(opened(&node))?;
    let passes = runtime()?;
    let before = passes.block_on(everything(&kv))?;
    drop(passes);
    stays.block_on(goes_on(&kv, before))?;
    drop(stays.block_on(everything(&kv))?);
    stays.block_on(kv.close())?;
    Ok(())
}

/// The end of the connection has long arrived when the runtime goes on: a write is not sent into
/// it.
#[test]
fn a_runtime_stood_still_while_the_server_restarted() -> Result<(), Failure> {
    let servers = runtime()?;
    let node = servers.block_on(single("redis"))?;
    let still = Builder::new_current_thread().enable_all().build()?;
    let kv = still.block_on(opened(&node))?;
    for n in 0..5 {
        still.block_on(async { kv.put("a", "1").await })?;
        node.daemon.kill();
        servers.block_on(node.start())?;
        if let Err(e) = still.block_on(async { kv.put("a", n.to_string()).await }) {
            return Err(format!("round {n}: {e}").into());
        }
    }
    Ok(())
}
