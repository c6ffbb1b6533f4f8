//! Contenders whose creation was never confirmed: nobody waits for them.

mod common;

use common::single;
use kv_core::ErrorKind;
use kv_testsuite::{Failure, Proxy};
use std::time::Duration;
use tokio::time::timeout;
use zookeeper_client::{Acl, AuthId, Client, Permission};

const SOON: Duration = Duration::from_secs(20);
const LINE: &str = "/ghosts/.kv/lock/l";
/// The TTL: longer than the whole test takes, so that nothing ends by itself.
const TTL: Duration = Duration::from_secs(45);
const DEADLINE: Duration = Duration::from_secs(5);

/// The server has done a request for a lock, its answer is lost, and for longer than a deadline
/// the server cannot be asked. Another lock keeps the session alive that the two share.
async fn is_got_after_an_outage(kind: &str, has_line: bool) -> Result<(), Failure> {
    let node = single(kind).await?;
    let proxy = Proxy::start(node.address).await;
    let kv = kv_zookeeper::open(&format!("zookeeper://{}/ghosts/", proxy.address())).await?;
    let kv = kv.with_deadline(DEADLINE);
    let observer = kv_zookeeper::open(&format!("zookeeper://{}/ghosts/", node.address)).await?;
    let other = kv.new_lock("other").ttl(TTL).acquire().await?;
    if has_line {
        assert!(kv.new_lock("l").ttl(TTL).acquire().await?.release().await?);
        // A look at the place in the queue may be on its way still. Answers come in order.
        kv.exists("settled").await?;
    }
    // The path of the contender in its queue.
    proxy.hold_answer_to(format!("{LINE}/"));
    let mut asks = tokio::spawn(kv.new_lock("l").ttl(TTL).acquire());
    timeout(SOON, proxy.trapped()).await?;
    if !has_line {
        // The first request was refused; the next one makes the queue too.
        proxy.hold_answer_to(format!("{LINE}/"));
        timeout(SOON, proxy.trapped()).await?;
    }
    let done = async {
        while observer.lock_holder("l").await?.is_none() {}
        Ok::<_, Failure>(())
    };
    timeout(SOON, done).await??;
    proxy.cut().await;
    tokio::time::sleep(DEADLINE * 3 / 2).await; // the outage
    assert!(timeout(Duration::ZERO, &mut asks).await.is_err(), "it rides out what a wait rides out");
    proxy.heal().await;
    let guard = timeout(SOON, asks).await.map_err(|_| "it waits for a contender of its own")???;
    assert!(other.is_held() && guard.is_held());
    assert_eq!(observer.lock_holder("l").await?.ok_or("it is held")?.token, guard.token());
    assert!(guard.release().await?);
    assert!(observer.lock_holder("l").await?.is_none());
    kv.close().await?;
    Ok(observer.close().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contender_of_an_outage_is_not_waited_for() -> Result<(), Failure> {
    is_got_after_an_outage("zookeeper", true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contender_that_made_its_line_is_not_waited_for() -> Result<(), Failure> {
    is_got_after_an_outage("zookeeper", false).await?;
    is_got_after_an_outage("zookeeper38", false).await
}

/// The queue may not be read when the contender is looked for, and may be read again later.
#[tokio::test(flavor = "multi_thread")]
async fn a_contender_that_may_not_be_looked_for_is_left_later() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let proxy = Proxy::start(node.address).await;
    let kv = kv_zookeeper::open(&format!("zookeeper://{}/ghosts/", proxy.address())).await?;
    let observer = kv_zookeeper::open(&format!("zookeeper://{}/ghosts/", node.address)).await?;
    let tool = Client::connect(&node.address.to_string()).await?;
    let allow = async |rights| tool.set_acl(LINE, &[Acl::new(rights, AuthId::anyone())], None).await;
    let other = kv.new_lock("other").ttl(TTL).acquire().await?;
    assert!(kv.new_lock("l").ttl(TTL).acquire().await?.release().await?);
    // A look at the place in the queue may be on its way still. Answers come in order.
    kv.exists("settled").await?;
    proxy.hold_answer_to(format!("{LINE}/"));
    let asks = tokio::spawn(kv.new_lock("l").ttl(TTL).acquire());
    timeout(SOON, proxy.trapped()).await?;
    let done = async {
        while observer.lock_holder("l").await?.is_none() {}
        Ok::<_, Failure>(())
    };
    timeout(SOON, done).await??;
    allow(Permission::CREATE | Permission::DELETE | Permission::ADMIN).await?;
    proxy.reset().await;
    proxy.heal().await;
    let e = timeout(SOON, asks).await??.err().ok_or("it may not see who is before it")?;
    assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e}");
    allow(Permission::ALL).await?;
    let guard = timeout(SOON, observer.new_lock("l").ttl(TTL).acquire())
        .await
        .map_err(|_| "somebody is left in line")??;
    assert!(other.is_held(), "it was free because the session had ended");
    assert!(guard.release().await?);
    kv.close().await?;
    Ok(observer.close().await?)
}
