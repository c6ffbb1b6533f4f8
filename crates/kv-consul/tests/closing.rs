//! The answer of `close`, of what was given up a moment before.

mod common;

use common::{
    guarded::{Guarded, MINE, ROOT},
    sessions, single,
};
use kv_core::{ErrorKind, Kv};
use kv_testsuite::{Failure, Proxy, failover::soon};
use serde_json::json;
use std::{net::SocketAddr, time::Duration};

/// Opens a store whose own part of closing is given three seconds: enough on a busy machine, and
/// not for all the looks that a lost answer has otherwise.
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
    let lease = kv.lease(Duration::from_secs(12)).deadline(Duration::from_secs(4));
    assert!(lease.await.is_err());
    soon("the request", proxy.trapped()).await?;
    proxy.reset().await;
    proxy.heal().await;
    kv.close().await?;
    assert_eq!(sessions(node.address).await?, [""; 0]);
    Ok(())
}

/// Nothing was made, which is not known before the session has been looked for some times.
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

/// A lock that may not be given back, and whose session may not be ended, is there until its TTL
/// is over: `close` tries once more, and tells so.
#[tokio::test(flavor = "multi_thread")]
async fn a_close_tells_what_it_may_not_give_back() -> Result<(), Failure> {
    let guarded = Guarded::start(&json!({})).await?;
    let token = guarded.token("mine", MINE).await?;
    let root = guarded.config(ROOT).open().await?;
    for (lock, may_again) in [("goes", true), ("stays", false)] {
        let kv = guarded.config(&token).open().await?;
        let guard = kv.new_lock(lock).ttl(Duration::from_secs(60)).acquire().await?;
        guarded.change("mine", &MINE.replace("write", "read")).await?;
        soon("the rights to be gone", async { while kv.put("a", "").await.is_ok() {} }).await?;
        assert_eq!(guard.release().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert!(root.lock_holder(lock).await?.is_some());
        if may_again {
            guarded.change("mine", MINE).await?;
            soon("the rights to be back", async { while kv.put("a", "").await.is_err() {} }).await?;
        }
        let told = kv.close().await.map_err(|e| e.kind());
        assert_eq!(root.lock_holder(lock).await?.is_none(), may_again, "{lock}");
        assert_eq!(told, if may_again { Ok(()) } else { Err(ErrorKind::PermissionDenied) }, "{lock}");
    }
    Ok(())
}
