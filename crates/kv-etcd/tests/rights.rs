//! Locks whose rights are withdrawn while they are held.

mod common;

use common::{
    Node, single,
    users::{as_root, open, open_as_root, two_in_line, with_users},
};
use kv_core::{Kv, driver::async_trait};
use kv_testsuite::{
    Failure,
    rights::{self, Rights},
};
use std::time::Duration;

/// Withdraws from `me` the right to take anybody out of the queue of `l`; `me` keeps all other
/// rights.
fn withdraw_l(node: &Node) -> Result<(), Failure> {
    // At no moment is another right missing.
    for [from, to] in [["mine/", "mine/\u{1}lock/l\u{1}"], ["mine/\u{1}lock/l\u{2}", "mine0"]] {
        as_root(node, &["role", "grant-permission", "me", "readwrite", from, to])?;
    }
    as_root(node, &["role", "grant-permission", "me", "read", "--prefix=true", "mine/"])
}

#[async_trait]
impl Rights for Node {
    const TTL: Duration = Duration::from_secs(12);
    async fn open(&self) -> Result<Kv, Failure> {
        open(self, "me").await
    }
    async fn open_of_another(&self) -> Result<Kv, Failure> {
        open_as_root(self).await
    }
    async fn two_in_line(&self, lock: &str) -> Result<(), Failure> {
        two_in_line(self, lock).await
    }
    async fn withdraw(&self) -> Result<(), Failure> {
        withdraw_l(self)
    }
}

/// A lock that may not be given back is there until its TTL is over, and `close` tells so.
#[tokio::test(flavor = "multi_thread")]
async fn a_close_tells_what_it_may_not_give_back() -> Result<(), Failure> {
    let node = single("etcd").await?;
    with_users(&node)?;
    let reader = open(&node, "reader").await?;
    let may = |rights| as_root(&node, &["role", "grant-permission", "me", rights, "--prefix=true", "mine/"]);
    let (withdraw, allow) = (async || may("read"), async || may("readwrite"));
    rights::close_tells(async || open(&node, "me").await, &reader, withdraw, allow).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_may_not_be_given_back_ends_while_others_are_waited_for() -> Result<(), Failure> {
    let node = single("etcd").await?;
    with_users(&node)?;
    rights::ends_while_others_are_waited_for(&node).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_may_not_be_given_back_ends_while_it_is_waited_for() -> Result<(), Failure> {
    let node = single("etcd").await?;
    with_users(&node)?;
    rights::ends_while_it_is_waited_for(&node).await
}
