//! The cost of each call, by the server's own counters; and that nothing is left when a store is
//! closed.

mod common;

use common::{Node, single};
use kv_core::Kv;
use kv_testsuite::{
    Failure, Proxy,
    failover::soon,
    leavings,
    requests::{Costs, LONG},
};
use std::{cell::Cell, time::Duration};

/// Counts the requests to the server's own API, without those that a connection or the counting
/// itself needs.
async fn requests(node: &Node) -> Result<f64, Failure> {
    node.metric("grpc_server_started_total", &["etcdserverpb."]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_per_call() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let kv: &Kv = &kv_etcd::open(&format!("etcd://{}/requests/", node.address)).await?;
    kv.get("warm").await?;
    // Its lease and the stream for its kind are there for the locks that are counted.
    let _first = kv.new_lock("with a lease").ttl(LONG).acquire().await?;
    let watches = async {
        while node.metric("etcd_debugging_mvcc_watcher_total", &[]).await? == 0.0 {}
        Ok::<_, Failure>(())
    };
    soon("the watch", watches).await??;

    let last = Cell::new(0.0);
    let asked = async || -> Result<Vec<String>, Failure> {
        let all = requests(node).await?;
        Ok(vec!["a request".to_owned(); (all - last.replace(all)) as usize])
    };
    let others = ["put with a TTL", "put with the same TTL", "locks", "break_lock"];
    let others = others.map(|call| (call, 1..=2));
    Costs::new(asked, &others).of_each_call(kv, 200, Some(200)).await
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

#[tokio::test(flavor = "multi_thread")]
async fn puts_of_one_ttl_and_the_end_of_their_tree_cost_one_request_each() -> Result<(), Failure> {
    const KEYS: u32 = 100;
    let node = &single("etcd").await?;
    let kv = kv_etcd::open(&format!("etcd://{}/ttls/", node.address)).await?;
    let before = requests(node).await?;
    // Each key is written three times: with and without a precondition, and by a transaction.
    for n in 0..KEYS {
        let seen = kv.put(format!("d/{n}"), "").ttl(LONG).await?.version;
        kv.put(format!("d/{n}"), "").ttl(LONG).if_version(seen).await?;
        assert!(kv.transact().then(kv.put(format!("d/{n}"), "").ttl(LONG)).await?.is_committed());
    }
    let asked = requests(node).await? - before;
    // A lease of ten minutes is given to puts for ten seconds.
    assert!(asked <= f64::from(3 * KEYS) + 6.0, "{asked} requests for {} puts", 3 * KEYS);

    let lease = kv.lease(LONG).await?;
    kv.put("d/leased", "").lease(&lease).await?;
    let before = requests(node).await?;
    assert_eq!(kv.delete_tree("d").await?, Some(u64::from(KEYS) + 1));
    assert_eq!(requests(node).await? - before, 1.0, "whatever the keys live by");
    Ok(())
}

/// Lists the watches, keys and leases that the server has.
async fn left(node: &Node) -> Result<Vec<String>, Failure> {
    let tool = etcd_client::Client::connect([node.address.to_string()], None).await?;
    let all = etcd_client::GetOptions::new().with_all_keys().with_keys_only();
    let keys = tool.kv_client().get("", Some(all)).await?;
    let mut left: Vec<_> = keys.kvs().iter().map(|kv| format!("key {:?}", kv.key_str())).collect();
    let leases = tool.lease_client().leases().await?;
    left.extend(leases.leases().iter().map(|lease| format!("lease {}", lease.id())));
    let watches = node.metric("etcd_debugging_mvcc_watcher_total", &[]).await?;
    left.extend((watches != 0.0).then(|| format!("{watches} watches")));
    Ok(left)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_store_leaves_nothing() -> Result<(), Failure> {
    let node = single("etcd").await?;
    let kv = kv_etcd::open(&format!("etcd://{}/left/", node.address)).await?;
    leavings::none(kv, Duration::from_secs(600), async || left(&node).await).await
}

/// Asks for the lease of a TTL of a day, and a thirtieth of it: its time is the first field of the
/// request.
const LEASE_OF_A_DAY: [u8; 5] = [0x08, 0xc0, 0xb9, 0x05, 0x10];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_before_it_is_sent_leaves_no_lease() -> Result<(), Failure> {
    const HOUR: Duration = Duration::from_secs(3600);
    let node = &single("etcd").await?;
    let proxy = Proxy::start(node.address).await;
    let kv = kv_etcd::open(&format!("etcd://{}/dropped/", proxy.address())).await?;
    // The second lease is asked for when the first is there.
    proxy.hold_answer_to(LEASE_OF_A_DAY);
    let puts = kv.transact().then(kv.put("a", "").ttl(HOUR)).then(kv.put("b", "").ttl(24 * HOUR));
    let asks = tokio::spawn(puts.into_future());
    soon("the request for the second lease", proxy.trapped()).await?;
    let leases = async |count: usize| {
        let counted = async {
            while Box::pin(left(node)).await?.len() != count {}
            Ok::<_, Failure>(())
        };
        soon(&format!("{count} leases"), counted).await?
    };
    leases(2).await?;
    asks.abort();
    proxy.thaw();
    leases(0).await?;
    kv.close().await?;
    Ok(())
}
