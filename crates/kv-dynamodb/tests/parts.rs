//! Deletions of trees that come to their end in part.

mod common;

use common::{
    Node, config,
    front::{Front, Trouble},
    single,
};
use kv_core::{ErrorKind, Kv};
use kv_testsuite::Failure;
use std::{future::IntoFuture, time::Duration};

const TABLE: &str = "parts";
const KEYS: usize = 300;
const THROTTLED: Trouble = Trouble::Refused(400, "ThrottlingException");

async fn filled() -> Result<(Node, Front, Kv, Kv), Failure> {
    let node = single().await?;
    let front = Front::new(node.address).await?;
    let kv = config(front.address, TABLE).create(true).open().await?;
    let other = node.config(TABLE).open().await?;
    let puts = (0..KEYS).map(|n| other.put(format!("d/{n:03}"), "").into_future());
    futures::future::try_join_all(puts).await?;
    Ok((node, front, kv, other))
}

/// Deletes the tree, of which only a part can be deleted.
async fn assert_known_in_part(kv: &Kv, other: &Kv) -> Result<(), Failure> {
    let answer = kv.delete_tree("d").deadline(Duration::from_secs(8)).await;
    let left = other.list("d").await?.len();
    assert!(0 < left && left < KEYS, "{left} keys are left");
    let e = answer.expect_err("there are keys left");
    assert_eq!(e.kind(), ErrorKind::OutcomeUnknown, "{left} keys are left: {e}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_behind_the_first_batch_has_an_unknown_outcome() -> Result<(), Failure> {
    let (_node, front, kv, other) = filled().await?;
    front.trouble("Query", Trouble::Late(Duration::ZERO), 1);
    front.trouble("Query", THROTTLED, 100_000);
    assert_known_in_part(&kv, &other).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_within_a_batch_has_an_unknown_outcome() -> Result<(), Failure> {
    let (_node, front, kv, other) = filled().await?;
    front.trouble("BatchWriteItem", Trouble::Late(Duration::ZERO), 1);
    front.trouble("BatchWriteItem", THROTTLED, 100_000);
    assert_known_in_part(&kv, &other).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_deletes_nothing_took_no_effect() -> Result<(), Failure> {
    let (_node, front, kv, other) = filled().await?;
    front.trouble("BatchWriteItem", THROTTLED, 100_000);
    let e = kv.delete_tree("d").deadline(Duration::from_secs(1)).await.expect_err("it is throttled");
    assert!(e.is_transient(), "{e}");
    assert_eq!(other.list("d").await?.len(), KEYS);
    Ok(())
}
