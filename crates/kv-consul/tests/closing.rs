//! What `close` says of what was given up a moment before.

mod common;

use common::{sessions, single};
use kv_core::Kv;
use kv_testsuite::{Failure, Proxy, failover::soon};
use std::{net::SocketAddr, time::Duration};

/// The store's own part of closing is given three seconds: enough on a busy machine, and not for all the looks that a lost
/// answer has otherwise.
async fn open(address: SocketAddr) -> kv_core::Result<Kv> {
    let kv = kv_consul::open(&format!("consul://{address}/closing/")).await?;
    Ok(kv.with_deadline(Duration::from_secs(15)))
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_that_were_given_up_are_gone_when_close_says_so() -> Result<(), Failure> {
    let node = single().await?;
    for round in 0..3 {
        let kv = open(node.address).await?;
        for n in 0..40 {
            let lease = kv.lease(Duration::from_secs(12));
            let _ = tokio::time::timeout(Duration::from_micros(300 + 80 * n), lease.into_future()).await;
        }
        kv.close().await?;
        assert_eq!(sessions(node.address).await?, [""; 0], "{round}");
    }
    Ok(())
}

/// The session is made, and nobody hears of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_whose_answer_was_lost_is_gone_when_close_says_so() -> Result<(), Failure> {
    let node = single().await?;
    let proxy = Proxy::start(node.address).await;
    let kv = open(proxy.address()).await?;
    proxy.hold_answer_to("/v1/session/create");
    let lease = kv.lease(Duration::from_secs(12)).deadline(Duration::from_millis(600));
    assert!(lease.await.is_err());
    soon("the request", proxy.trapped()).await?;
    proxy.reset().await;
    proxy.heal().await;
    kv.close().await?;
    assert_eq!(sessions(node.address).await?, [""; 0]);
    Ok(())
}

/// Nothing was made, which is not known before it has been looked for some times.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_never_came_to_the_server_does_not_hold_close_up() -> Result<(), Failure> {
    let node = single().await?;
    let proxy = Proxy::start(node.address).await;
    let kv = open(proxy.address()).await?;
    kv.exists("connected").await?;
    proxy.freeze_requests();
    let lease = kv.lease(Duration::from_secs(12)).deadline(Duration::from_millis(600));
    assert!(lease.await.is_err());
    proxy.reset().await;
    proxy.heal().await;
    kv.close().await?;
    assert_eq!(sessions(node.address).await?, [""; 0]);
    Ok(())
}
