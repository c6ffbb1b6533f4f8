//! Three members: the leader is killed, paused, cut off from us; and a member is left without a
//! quorum.

mod common;

use common::{Node, Setup, nodes};
use kv_core::Kv;
use kv_testsuite::{
    Failure,
    cluster::{Cluster, answers_stale_reads, refuses_writes},
};

async fn three() -> Result<Cluster<Node>, Failure> {
    Cluster::start(nodes(&Setup::cluster("etcd"), 3)?).await
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
async fn a_write_whose_answer_was_lost_goes_to_no_other_member() -> Result<(), Failure> {
    three().await?.an_answer_is_lost().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_a_quorum() -> Result<(), Failure> {
    let cluster = three().await?;
    let checked = cluster.the_quorum_is_lost(async |kv: &Kv, before| {
        answers_stale_reads(kv, before).await?;
        // A store that is opened now reads what this member has, too.
        answers_stale_reads(&cluster.open(&[0]).await?, before).await?;
        refuses_writes(kv).await
    });
    checked.await
}
