//! The leader is cut off from its peers, and not from us.

mod common;

use common::{Node, hosts};
use kv_testsuite::{
    Failure,
    network::Network,
    partition::{Apart, apart},
};
use serde_json::json;

fn three(network: &Network) -> Result<Vec<Node>, Failure> {
    hosts(network, 3, &json!({}))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes network namespaces: needs root, or the right to make user namespaces"]
async fn the_leader_is_cut_off_from_its_peers() -> Result<(), Failure> {
    apart("the_leader_is_cut_off_from_its_peers", three, Apart::goes_on).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes network namespaces: needs root, or the right to make user namespaces"]
async fn a_lock_by_a_leader_without_followers_is_lost_in_time() -> Result<(), Failure> {
    apart("a_lock_by_a_leader_without_followers_is_lost_in_time", three, Apart::loses_in_time).await
}
