//! Another datacenter, which is reached by way of a server of this one.

use super::{Node, with};
use kv_core::Kv;
use kv_testsuite::{Failure, failover::soon};
use serde_json::json;

/// The name of this datacenter: a server that is given one speaks to other datacenters too.
pub const NEAR: &str = "near";
const FAR: &str = "far";

/// Starts a server of another datacenter, which joins this one's, and returns when it serves.
pub async fn start(near: &Node) -> Result<Node, Failure> {
    with(&json!({ "datacenter": FAR, "retry_join_wan": [near.wan_address().to_string()] })).await
}

/// Opens a store in the other datacenter as soon as the two know each other.
pub async fn open(near: &Node, prefix: &str) -> Result<Kv, Failure> {
    let url = format!("consul://{}/{prefix}?dc={FAR}", near.address);
    let opened = soon("the datacenters to know each other", async {
        loop {
            match kv_consul::open(&url).await {
                Ok(kv) => break kv,
                Err(e) => assert!(e.is_transient() || e.to_string().contains("datacenter"), "{e}"),
            }
        }
    });
    opened.await
}
