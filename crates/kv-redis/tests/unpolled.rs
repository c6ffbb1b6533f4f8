//! Calls that their program begins and does not poll.

mod common;

use common::single;
use kv_core::ErrorKind;
use kv_testsuite::{Failure, Proxy, failover::soon};
use std::{pin::pin, time::Duration};

/// The answer to a call that nobody polls shows that the connection is not silent.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_not_polled_is_no_silence_of_the_server() -> Result<(), Failure> {
    let node = single("redis").await?;
    let proxy = Proxy::start(node.address).await;
    let kv = kv_redis::open(&format!("redis://{}/unpolled/", proxy.address())).await?;
    kv.put("a", "1").await?;
    let sent = async |before: u64| {
        let sends = async {
            while proxy.traffic().to_server <= before {
                tokio::task::yield_now().await
            }
        };
        soon("the request", sends).await
    };

    proxy.freeze_answers();
    let before = proxy.traffic();
    let mut unpolled = pin!(kv.get("a").into_future());
    soon("the request", async {
        while proxy.traffic().to_server <= before.to_server {
            assert!(futures::poll!(unpolled.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
    })
    .await?;
    proxy.thaw();
    soon("the answer", proxy.answered_beyond(before.to_client)).await?;
    // Longer than a connection may be silent.
    tokio::time::sleep(Duration::from_millis(1500)).await;

    proxy.freeze_answers();
    let before = proxy.traffic();
    let writes = tokio::spawn(kv.put("b", "1").into_future());
    sent(before.to_server).await?;
    let late = kv.get("a").deadline(Duration::from_millis(200)).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
    proxy.thaw();
    soon("the write", writes).await???;
    assert_eq!(proxy.traffic().connections, before.connections);
    assert_eq!(unpolled.await?.ok_or("a")?.text(), Some("1"));
    Ok(())
}
