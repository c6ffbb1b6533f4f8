//! The cost of each call, by the server's own counters; and that nothing is left when a store is
//! closed.

mod common;

use common::{Node, single};
use kv_core::{ErrorKind, Kv};
use kv_testsuite::Failure;
use std::time::Duration;

/// Counts the requests to the server's own API, without those that a connection or the counting
/// itself needs.
async fn requests(node: &Node) -> Result<f64, Failure> {
    node.metric("grpc_server_started_total", &["etcdserverpb."]).await
}

/// Makes the call, and counts its requests.
async fn cost<T>(node: &Node, call: impl Future<Output = kv_core::Result<T>>) -> Result<(T, f64), Failure> {
    let before = requests(node).await?;
    let answer = call.await?;
    Ok((answer, requests(node).await? - before))
}

macro_rules! costs {
    ($node:expr, $most:expr, $call:expr) => {{
        let (answer, found) = cost($node, async { $call.await }).await?;
        assert!(found <= $most as f64, "{}: {found} requests, at most {}", stringify!($call), $most);
        answer
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_per_call() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let kv: &Kv = &kv_etcd::open(&format!("etcd://{}/requests/", node.address)).await?;
    kv.get("warm").await?;

    let new = costs!(node, 1, kv.put("k", "v"));
    let seen = costs!(node, 1, kv.put("k", "v"));
    assert_ne!(new.version, seen.version);
    costs!(node, 1, kv.get("k"));
    costs!(node, 1, kv.get("k").stale());
    costs!(node, 1, kv.exists("k"));
    costs!(node, 1, kv.get_many(["k", "l", "m"]));
    let swapped = costs!(node, 1, kv.atomic_put("k", "w", seen.version));
    let refused = async { Ok(kv.atomic_put("k", "x", seen.version).await.unwrap_err().kind()) };
    assert_eq!(costs!(node, 1, refused), ErrorKind::KeyModified);
    costs!(node, 1, kv.atomic_delete("k", swapped.version));
    costs!(node, 1, kv.atomic_put("k", "v", None));
    let done = costs!(node, 1, kv.transact().when_exists("k").then(kv.put("l", "")).then(kv.delete("k")));
    assert!(done.is_committed());
    costs!(node, 1, kv.delete("l"));
    costs!(node, 2, kv.put("t", "v").ttl(Duration::from_secs(5)));

    for n in 0..200 {
        kv.put(format!("d/{n}"), "v").await?;
    }
    assert_eq!(costs!(node, 2, kv.list("d")).len(), 200);
    assert_eq!(costs!(node, 1, kv.list("d").limit(10)).len(), 10);
    assert_eq!(costs!(node, 1, kv.delete_tree("d")), Some(200));

    let first = kv.new_lock("first").acquire().await?; // with a lease and a stream for its kind
    let watches = async {
        while node.metric("etcd_debugging_mvcc_watcher_total", &[]).await? == 0.0 {}
        Ok::<_, Failure>(())
    };
    tokio::time::timeout(Duration::from_secs(10), watches).await??;
    assert!(costs!(node, 1, first.release()));
    let guard = costs!(node, 1, kv.new_lock("l").acquire()); // on the same ones
    assert!(costs!(node, 1, kv.new_lock("l").try_acquire()).is_none());
    costs!(node, 1, kv.put("k", "v").fenced(&guard));
    costs!(node, 1, kv.lock_holder("l"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_and_an_idle_wait_cost_no_request() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let url = format!("etcd://{}/idle/", node.address);
    let (kv, other) = (kv_etcd::open(&url).await?, kv_etcd::open(&url).await?);
    let mut watch = kv.watch_tree("d").await?;
    watch.event().await?; // Synced
    other.put("d/first", "").await?;
    watch.event().await?;
    let before = requests(node).await?;
    for n in 0..20 {
        other.put(format!("d/{n}"), "").await?;
        watch.event().await?;
    }
    assert_eq!(requests(node).await? - before, 20.0, "the puts alone");
    Ok(())
}

/// Counts the watches, keys and leases that the server has.
async fn left(node: &Node) -> Result<(f64, f64, usize), Failure> {
    let tool = etcd_client::Client::connect([node.address.to_string()], None).await?;
    let all = etcd_client::GetOptions::new().with_all_keys().with_count_only();
    let keys = tool.kv_client().get("", Some(all)).await?.count();
    let leases = tool.lease_client().leases().await?.leases().len();
    Ok((node.metric("etcd_debugging_mvcc_watcher_total", &[]).await?, keys as f64, leases))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_store_leaves_nothing() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let kv = kv_etcd::open(&format!("etcd://{}/left/", node.address)).await?;
    let lease = kv.lease(Duration::from_secs(600)).await?;
    kv.put("leased", "").lease(&lease).await?;
    let mut watch = kv.watch_tree("").await?;
    watch.event().await?;
    let guard = kv.new_lock("l").ttl(Duration::from_secs(600)).acquire().await?;
    let mut holder = kv.lock_holder("l").watch().await?;
    holder.event().await?;
    let waiting = tokio::spawn(kv.new_lock("l").acquire());
    let refused = kv.put("leased", "").ttl(Duration::from_secs(600)).if_missing().await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::KeyExists);
    assert!(kv.new_lock("l").try_acquire().await?.is_none());
    kv.close().await?;
    assert!(!guard.is_held() && !lease.is_held());
    assert_eq!(waiting.await?.unwrap_err().kind(), ErrorKind::Closed);
    drop((watch, holder));
    let gone = async {
        while left(node).await? != (0.0, 0.0, 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, Failure>(())
    };
    match tokio::time::timeout(Duration::from_secs(10), gone).await {
        Ok(done) => done,
        Err(_) => Err(format!("watchers, keys and leases that are left: {:?}", left(node).await?).into()),
    }
}
