//! Three servers: the leader is killed, paused, cut off from us; and a server is left without a
//! quorum. Two datacenters.

mod common;

use common::{
    Node,
    beyond::{self, NEAR},
    names, nodes, sessions, with,
};
use kv_core::{ErrorKind, Kv};
use kv_testsuite::{
    Failure,
    cluster::{Cluster, answers_stale_reads},
};
use serde_json::json;
use std::time::Duration;

async fn three() -> Result<Cluster<Node>, Failure> {
    Cluster::start(nodes(3, &json!({}))?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_killed() -> Result<(), Failure> {
    three().await?.the_leader_is_killed().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_paused() -> Result<(), Failure> {
    three().await?.the_leader_is_paused().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_cut_off_from_us() -> Result<(), Failure> {
    three().await?.the_leader_is_cut_off_from_us().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_was_lost_goes_to_no_other_server() -> Result<(), Failure> {
    three().await?.an_answer_is_lost().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_quorum() -> Result<(), Failure> {
    let cluster = three().await?;
    let checked = cluster.the_quorum_is_lost(async |kv: &Kv, before| {
        answers_stale_reads(kv, before).await?;
        // A server may look for a leader for longer than the write has time.
        let put = kv.put("k", "late").await.unwrap_err();
        assert!(put.is_transient() || put.kind() == ErrorKind::OutcomeUnknown, "{put}");
        Ok(())
    });
    checked.await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_datacenter() -> Result<(), Failure> {
    let near = with(&json!({ "datacenter": NEAR })).await?;
    let far = beyond::start(&near).await?;
    let kv = beyond::open(&near, "dc/").await?;
    let ttl = Duration::from_secs(60);
    kv.put("k", "v").ttl(ttl).await?;
    let guard = kv.new_lock("l").ttl(ttl).acquire().await?;
    kv.put("fenced", "").fenced(&guard).await?;
    let mut watch = kv.watch("k").await?;
    assert!(matches!(watch.event().await?, kv_core::WatchEvent::Put(_)));
    assert_eq!((names(far.address, "dc/").await?.len(), names(near.address, "").await?.len()), (3, 0));
    assert_eq!((sessions(far.address).await?.len(), sessions(near.address).await?.len()), (2, 0));
    assert!(guard.release().await?);
    Ok(())
}
