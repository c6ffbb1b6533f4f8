//! Calls that their program begins and does not poll.

mod common;

use common::front::{Trouble, behind_front};
use kv_testsuite::{Failure, failover::soon};
use std::{
    pin::pin,
    time::{Duration, Instant},
};

/// A put that is under way and not polled holds up the deletions of its key once, not each of
/// them.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_not_polled_holds_up_others_once() -> Result<(), Failure> {
    let (_node, front, kv) = behind_front("unpolled").await?;
    kv.put("a", "0").await?;
    front.trouble("PutItem", Trouble::Held(Duration::from_secs(60)), 1);
    front.counted();
    let mut unpolled = pin!(kv.put("a", "1").deadline(Duration::from_secs(50)).into_future());
    soon("the request", async {
        while !front.counted().iter().any(|(operation, _)| operation == "PutItem") {
            assert!(futures::poll!(unpolled.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
    })
    .await?;
    let began = Instant::now();
    for n in 0..5 {
        kv.delete("a").await?;
        kv.put("a", n.to_string()).await?;
    }
    let took = began.elapsed();
    assert!(
        took < Duration::from_secs(6),
        "five deletions waited {took:?} for a write that takes two at most"
    );
    Ok(())
}
