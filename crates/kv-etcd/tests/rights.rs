//! Locks whose rights are withdrawn while they are held.

mod common;

use common::{
    Node, single,
    users::{as_root, open, open_as_root, two_in_line, with_users},
};
use kv_core::ErrorKind;
use kv_testsuite::{Failure, failover::soon};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(5);

/// Withdraws from `me` the right to take anybody out of the queue of `l`; `me` keeps all other
/// rights.
fn withdraw_l(node: &Node) -> Result<(), Failure> {
    // At no moment is another right missing.
    for [from, to] in [["mine/", "mine/\u{1}lock/l\u{1}"], ["mine/\u{1}lock/l\u{2}", "mine0"]] {
        as_root(node, &["role", "grant-permission", "me", "readwrite", from, to])?;
    }
    as_root(node, &["role", "grant-permission", "me", "read", "--prefix=true", "mine/"])
}

/// A lock that may not be given back is there until its TTL is over, and `close` tells so.
#[tokio::test(flavor = "multi_thread")]
async fn a_close_tells_what_it_may_not_give_back() -> Result<(), Failure> {
    let node = single("etcd").await?;
    with_users(&node)?;
    let (kv, reader) = (open(&node, "me").await?, open(&node, "reader").await?);
    let guard = kv.new_lock("l").ttl(Duration::from_secs(60)).acquire().await?;
    as_root(&node, &["role", "grant-permission", "me", "read", "--prefix=true", "mine/"])?;
    assert_eq!(guard.release().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    let told = kv.close().await;
    assert!(reader.lock_holder("l").await?.is_some());
    assert_eq!(told.unwrap_err().kind(), ErrorKind::PermissionDenied);
    Ok(())
}

/// A contender that waits under the same session would keep it, and the lock with it, for as long
/// as others hold what the contender waits for.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_may_not_be_given_back_ends_while_others_are_waited_for() -> Result<(), Failure> {
    let node = single("etcd").await?;
    with_users(&node)?;
    let (kv, theirs, third) =
        (open(&node, "me").await?, open_as_root(&node).await?, open_as_root(&node).await?);
    let other = theirs.new_lock("other").ttl(TTL).acquire().await?;
    let guard = kv.new_lock("l").ttl(TTL).acquire().await?;
    let waits = tokio::spawn(kv.new_lock("other").ttl(TTL).acquire().into_future());
    two_in_line(&node, "other").await?;
    withdraw_l(&node)?;
    assert_eq!(guard.release().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    let next = soon("the lock", third.new_lock("l").ttl(TTL).acquire()).await??;
    assert!(!waits.is_finished() && other.release().await?);
    let got = soon("who waited", waits).await???;
    // The lock hangs on a session that is kept alive.
    tokio::time::sleep(2 * TTL).await;
    assert!(got.is_held() && next.is_held());
    kv.put("fenced", "").fenced(&got).await?;
    assert!(got.release().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_may_not_be_given_back_ends_while_it_is_waited_for() -> Result<(), Failure> {
    let node = single("etcd").await?;
    with_users(&node)?;
    let (kv, third) = (open(&node, "me").await?, open_as_root(&node).await?);
    let guard = kv.new_lock("l").ttl(TTL).acquire().await?;
    let waits = tokio::spawn(kv.new_lock("l").ttl(TTL).acquire().into_future());
    two_in_line(&node, "l").await?;
    withdraw_l(&node)?;
    assert_eq!(guard.release().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    // Nor may `me` get into that queue again.
    let refused = soon("who waited", waits).await??.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused}");
    assert!(soon("the lock", third.new_lock("l").ttl(TTL).acquire()).await??.release().await?);
    Ok(())
}
