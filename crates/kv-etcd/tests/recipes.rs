//! Recipes that many use at once. What takes minutes is run by `ci/long etcd`.

mod common;

use common::single;
use kv_testsuite::{Failure, crowds};

async fn count(callers: usize, each: usize) -> Result<(), Failure> {
    let node = single("etcd").await?;
    let open = async |address| kv_etcd::open(&format!("etcd://{address}/crowd/")).await;
    crowds::count(node.address, callers, each, open).await
}

/// Counts the requests, and the messages on streams that are open.
async fn hand_over(sizes: &[usize]) -> Result<(), Failure> {
    let node = single("etcd").await?;
    let open = async || kv_etcd::open(&format!("etcd://{}/line/", node.address)).await;
    let asked = async || Ok(node.metric("grpc_server_msg_received_total", &["etcdserverpb."]).await? as u64);
    crowds::hand_over(sizes, open, asked).await
}

#[tokio::test(flavor = "multi_thread")]
async fn some_count_over_links_that_lose_answers() -> Result<(), Failure> {
    count(8, 20).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn many_count_over_links_that_lose_answers() -> Result<(), Failure> {
    count(64, 1000).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handover_costs_as_much_with_some_waiters() -> Result<(), Failure> {
    hand_over(&[10, 50]).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn a_handover_costs_as_much_with_many_waiters() -> Result<(), Failure> {
    hand_over(&[10, 100, 1000]).await
}
