//! Large values are read once, not again with every page.

mod common;

use common::{Node, single};
use kv_core::Kv;
use kv_testsuite::{Failure, Proxy};
use std::time::Duration;

const VALUE: usize = 100 << 10;
const KEYS: usize = 200;

/// Puts as many small values as the first request asks for, and the large ones behind them.
async fn fill(node: &Node, small: usize, large: usize) -> Result<Kv, Failure> {
    let kv = kv_zookeeper::open(&format!("zookeeper://{}/large/", node.address)).await?;
    for n in 0..small {
        kv.put(format!("d/a{n:03}"), "small").await?;
    }
    for n in 0..large {
        kv.put(format!("d/b{n:03}"), vec![b'v'; VALUE]).await?;
    }
    Ok(kv)
}

#[tokio::test(flavor = "multi_thread")]
async fn large_values_are_listed_and_deleted_by_reading_them_about_once() -> Result<(), Failure> {
    for (small, times) in [(0, 2), (100, 3)] {
        let node = single("zookeeper").await?;
        let (other, proxy) = (fill(&node, small, KEYS).await?, Proxy::start(node.address).await);
        let kv = kv_zookeeper::open(&format!("zookeeper://{}/large/", proxy.address())).await?;
        let most = (times * KEYS * VALUE) as u64;

        let before = proxy.traffic().to_client;
        assert_eq!(kv.list("d").await?.len(), small + KEYS);
        let read = proxy.traffic().to_client - before;
        assert!(read < most, "a listing read {read} bytes, behind {small} small values");

        let before = proxy.traffic().to_client;
        assert_eq!(kv.delete_tree("d").await?, Some((small + KEYS) as u64));
        let read = proxy.traffic().to_client - before;
        assert!(read < most, "a deletion read {read} bytes, behind {small} small values");
        assert!(other.list("").await?.is_empty());
        kv.close().await?;
        other.close().await?;
    }
    Ok(())
}

/// An answer that takes longer than a connection may be silent breaks the connection, so no answer
/// may be that long.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_link_carries_large_values_behind_small_ones() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let (small, large) = (100, KEYS / 2);
    let (other, proxy) = (fill(&node, small, large).await?, Proxy::start(node.address).await);
    let kv = kv_zookeeper::open(&format!("zookeeper://{}/large/", proxy.address())).await?;
    // The machine may be busy with other things.
    let kv = kv.with_deadline(Duration::from_secs(20));
    // The delay is that of each 16 KiB.
    proxy.delay(Duration::from_millis(5));
    assert_eq!(kv.list("d").await?.len(), small + large);
    assert_eq!(kv.delete_tree("d").await?, Some((small + large) as u64));
    proxy.heal().await;
    kv.close().await?;
    Ok(other.close().await?)
}
