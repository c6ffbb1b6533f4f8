//! Recipes that many use at once. What takes minutes is run by `ci/long etcd`.

mod common;

use common::single;
use kv_testsuite::{Failure, crowds};

async fn count(callers: usize, each: usize) -> Result<(), Failure> {
    let node = single("etcd").await?;
    let open = async |address| kv_etcd::open(&format!("etcd://{address}/crowd/")).await;
    crowds::count(node.address, callers, each, open).await
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
