//! Transactions that are cancelled, in answers that do not say why.

mod common;

use common::front::{Trouble, behind_front_and_beside};
use kv_core::Outcome;
use kv_testsuite::Failure;
use std::time::{Duration, Instant};

const TABLE: &str = "cancelled";
const CANCELLED: Trouble = Trouble::Refused(400, "TransactionCanceledException");

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_was_cancelled_without_reasons_is_not_committed() -> Result<(), Failure> {
    let (_node, front, kv, other) = behind_front_and_beside(TABLE).await?;
    front.trouble("TransactWriteItems", CANCELLED, 100_000);
    let soon = Duration::from_millis(600);
    let answer = kv.transact().then(kv.put("a", "1")).deadline(soon).await;
    assert!(!other.exists("a").await?);
    let e = answer.expect_err("it was not done");
    assert!(e.is_transient(), "it took no effect, and may be tried again: {e}");
    // It is tried again within its deadline.
    front.no_more_trouble();
    front.trouble("TransactWriteItems", CANCELLED, 1);
    let answer = kv.transact().then(kv.put("a", "2")).await?;
    assert!(matches!(answer, Outcome::Committed(_)), "{answer:?}");
    assert_eq!(other.get("a").await?.as_ref().and_then(kv_core::Entry::text), Some("2"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_was_cancelled_without_reasons_did_not_renew() -> Result<(), Failure> {
    let (_node, front, kv, other) = behind_front_and_beside(TABLE).await?;
    let ttl = Duration::from_secs(8);
    let lease = kv.lease(ttl).await?;
    kv.put("a", "").lease(&lease).await?;
    front.trouble("TransactWriteItems", CANCELLED, 100_000);
    let began = Instant::now();
    while lease.is_held() {
        let is_there = other.exists("a").await?;
        // Its life may have ended between the two questions.
        assert!(is_there || !lease.is_held(), "it ended, and its lease is said to live");
        assert!(began.elapsed() < ttl * 3, "no renewal was done, and the lease is held");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
