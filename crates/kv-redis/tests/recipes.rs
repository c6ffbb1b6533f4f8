//! Recipes that many use at once. What takes minutes is run by `ci/long redis`.

mod common;

use common::{resp::requests, single};
use kv_testsuite::{Failure, crowds};

async fn count(callers: usize, each: usize) -> Result<(), Failure> {
    let node = single("redis").await?;
    let open = async |address| kv_redis::open(&format!("redis://{address}/crowd/")).await;
    crowds::count(node.address, callers, each, open).await
}

async fn hand_over(sizes: &[usize]) -> Result<(), Failure> {
    let node = single("redis").await?;
    let open = async || kv_redis::open(&format!("redis://{}/line/", node.address)).await;
    crowds::hand_over(sizes, open, async || requests(&mut node.resp().await?).await).await
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
