//! Handles that outlive the runtime in which they were opened or first used, and runtimes that
//! stand still.

mod common;

use common::{Node, single};
use kv_core::{Guard, Kv, Lease, Watch, WatchEvent};
use kv_testsuite::Failure;
use std::{sync::Arc, time::Duration};
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

const SOON: Duration = Duration::from_secs(30);
const TTL: Duration = Duration::from_secs(10);

fn runtime() -> Result<Runtime, Failure> {
    Ok(Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}

/// Starts a server in a runtime of its own.
fn server() -> Result<(Runtime, Arc<Node>), Failure> {
    let runtime = runtime()?;
    let node = runtime.block_on(single("zookeeper"))?;
    Ok((runtime, Arc::new(node)))
}

/// The watches, the guard and the lease of a handle in the runtime that ended.
struct Had {
    tree: Watch,
    holder: Watch,
    guard: Guard,
    lease: Lease,
}

async fn until(watch: &mut Watch, wanted: impl Fn(&WatchEvent) -> bool) -> Result<(), Failure> {
    let reading = async {
        while !wanted(&watch.event().await?) {}
        Ok::<_, Failure>(())
    };
    timeout(SOON, reading).await.map_err(|_| "a watch is silent")?
}

/// Uses everything that a handle can do.
async fn used(kv: &Kv) -> Result<Had, Failure> {
    kv.put("d/k", "v").await?;
    kv.put("d/ttl", "v").ttl(TTL).await?;
    let mut tree = kv.watch_tree("d").await?;
    let mut holder = kv.lock_holder("l").watch().await?;
    until(&mut tree, |event| *event == WatchEvent::Synced).await?;
    until(&mut holder, |event| *event == WatchEvent::Synced).await?;
    let guard = kv.new_lock("l").ttl(TTL).acquire().await?;
    let lease = kv.lease(TTL).await?;
    kv.put("d/leased", "v").lease(&lease).await?;
    assert!(kv.new_lock("l").ttl(TTL).try_acquire().await?.is_none());
    Ok(Had { tree, holder, guard, lease })
}

/// Checks that everything works in another runtime, and that lost things are known to be lost.
async fn works_on(kv: &Kv, other: &Kv, had: Had) -> Result<(), Failure> {
    let Had { mut tree, mut holder, guard, lease } = had;
    timeout(SOON, kv.put("d/k", "on")).await??;
    assert_eq!(kv.get("d/k").await?.ok_or("it was put")?.text(), Some("on"));
    assert!(!guard.is_held(), "nobody renews it");
    timeout(SOON, guard.lost()).await?;
    assert!(!lease.is_held());
    timeout(SOON, lease.lost()).await?;
    // The earlier watches go on.
    let last = other.put("d/k", "last").await?.version;
    until(&mut tree, |event| matches!(event, WatchEvent::Put(e) if e.version == last)).await?;
    let next = timeout(SOON, kv.new_lock("l").ttl(TTL).acquire()).await??;
    let token = next.token();
    until(&mut holder, |event| matches!(event, WatchEvent::Put(e) if e.version.parts().0 == token)).await?;
    // It is held longer than it could be without renewals.
    if let Ok(lost) = timeout(TTL * 3 / 2, next.lost()).await {
        return Err(lost.into());
    }
    assert!(next.is_held());
    kv.put("fenced", "v").fenced(&next).await?;
    assert!(next.release().await?);
    // New watches, locks and leases work too.
    let had = used(kv).await?;
    assert!(had.guard.release().await? && had.lease.revoke().await?);
    assert!(!lease.revoke().await?);
    Ok(())
}

#[test]
fn a_handle_outlives_its_runtime() -> Result<(), Failure> {
    let (servers, node) = server()?;
    let url = format!("zookeeper://{}/outlives/", node.address);
    let other = servers.block_on(async { kv_zookeeper::open(&url).await })?;
    let first = runtime()?;
    let (kv, had) = first.block_on(async {
        let kv = kv_zookeeper::open(&url).await?;
        let had = used(&kv).await?;
        Ok::<_, Failure>((kv, had))
    })?;
    drop(first);
    let second = runtime()?;
    second.block_on(async {
        works_on(&kv, &other, had).await?;
        kv.close().await?;
        Ok::<_, Failure>(())
    })?;
    servers.block_on(other.close())?;
    Ok(())
}

#[test]
fn a_handle_is_first_used_in_a_runtime_that_passes() -> Result<(), Failure> {
    let (servers, node) = server()?;
    let url = format!("zookeeper://{}/passes/", node.address);
    let stays = runtime()?;
    let (kv, other) = stays.block_on(async {
        Ok::<_, Failure>((kv_zookeeper::open(&url).await?, kv_zookeeper::open(&url).await?))
    })?;
    let passes = runtime()?;
    let had = passes.block_on(used(&kv))?;
    drop(passes);
    stays.block_on(async {
        works_on(&kv, &other, had).await?;
        kv.close().await?;
        other.close().await?;
        Ok::<_, Failure>(())
    })?;
    drop(servers);
    Ok(())
}

/// A handle that was opened in a runtime that ended is closed in another, which gives back what it
/// held.
#[test]
fn what_outlived_its_runtime_is_closed_in_time() -> Result<(), Failure> {
    let (servers, node) = server()?;
    let url = format!("zookeeper://{}/closed/", node.address);
    let first = runtime()?;
    let (kv, had) = first.block_on(async {
        let kv = kv_zookeeper::open(&url).await?;
        let had = used(&kv).await?;
        Ok::<_, Failure>((kv, had))
    })?;
    drop(first);
    servers.block_on(async {
        timeout(SOON, kv.close()).await??;
        drop(had);
        let other = kv_zookeeper::open(&url).await?;
        timeout(SOON, other.new_lock("l").ttl(TTL).acquire()).await??.release().await?;
        other.close().await?;
        Ok::<_, Failure>(())
    })
}

/// A program enters its runtime now and then, and its server was restarted meanwhile: the end of
/// the connection is known before the next write is sent.
#[test]
fn a_restart_while_the_runtime_stands_still_costs_no_write() -> Result<(), Failure> {
    let (servers, node) = server()?;
    let now_and_then = Builder::new_current_thread().enable_all().build()?;
    let kv = now_and_then
        .block_on(async { kv_zookeeper::open(&format!("zookeeper://{}/still/", node.address)).await })?;
    for round in 0..2 {
        now_and_then.block_on(async { kv.put("k", round.to_string()).await })?;
        node.daemon.kill();
        servers.block_on(node.start())?;
        now_and_then.block_on(async { kv.put("k", "after").await })?;
        node.daemon.stop();
        servers.block_on(node.start())?;
        now_and_then.block_on(async { kv.delete("k").await })?;
    }
    now_and_then.block_on(async { kv.close().await })?;
    Ok(())
}

/// Sessions that the server ended while nobody renewed them are known to be lost at once, and new
/// ones are opened.
#[test]
fn what_expires_while_the_runtime_stands_still_is_lost() -> Result<(), Failure> {
    let (servers, node) = server()?;
    let url = format!("zookeeper://{}/expired/", node.address);
    let now_and_then = Builder::new_current_thread().enable_all().build()?;
    let (kv, had) = now_and_then.block_on(async {
        let kv = kv_zookeeper::open(&url).await?;
        let had = used(&kv).await?;
        Ok::<_, Failure>((kv, had))
    })?;
    let other = servers.block_on(async { kv_zookeeper::open(&url).await })?;
    // Another client finds the lock free, and takes it, while its holder sleeps.
    let theirs = servers
        .block_on(async { timeout(SOON, other.new_lock("l").ttl(TTL).acquire()).await })
        .map_err(|_| "nobody renews it")??;
    // The lease has a session of its own, which the server ends at a later tick.
    servers.block_on(async {
        let mut leased = other.watch("d/leased").await?;
        until(&mut leased, |event| *event == WatchEvent::Synced).await?;
        while other.exists("d/leased").await? {
            until(&mut leased, |event| matches!(event, WatchEvent::Delete { .. })).await?;
        }
        Ok::<_, Failure>(())
    })?;
    assert!(!had.guard.is_held() && !had.lease.is_held());
    now_and_then.block_on(async {
        timeout(SOON, had.guard.lost()).await?;
        timeout(SOON, had.lease.lost()).await?;
        assert!(kv.put("late", "v").fenced(&had.guard).await.is_err(), "another holds it");
        assert!(!kv.exists("d/leased").await?);
        kv.put("d/k", "on").await?;
        assert!(kv.new_lock("l").ttl(TTL).try_acquire().await?.is_none());
        Ok::<_, Failure>(())
    })?;
    assert!(servers.block_on(theirs.release())?);
    now_and_then.block_on(async {
        assert!(timeout(SOON, kv.new_lock("l").ttl(TTL).acquire()).await??.release().await?);
        assert!(!had.guard.release().await? && !had.lease.revoke().await?);
        kv.close().await?;
        Ok::<_, Failure>(())
    })?;
    Ok(servers.block_on(other.close())?)
}
