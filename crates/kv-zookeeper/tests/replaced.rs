//! An empty value is replaced by one with a TTL, whose node is another: the key exists all the
//! while.

mod common;

use common::single;
use kv_testsuite::{Failure, Proxy};
use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);
const TTL: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_value_that_is_replaced_is_never_missing() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let proxy = Proxy::start(node.address).await;
    let kv = kv_zookeeper::open(&format!("zookeeper://{}/replaced/", proxy.address())).await?;
    let other = kv_zookeeper::open(&format!("zookeeper://{}/replaced/", node.address)).await?;
    // The first read of its node is done, and its answer under way.
    let replaced = async |call: Pin<Box<dyn Future<Output = kv_core::Result<bool>> + Send>>| {
        let replace = async {
            timeout(SOON, proxy.trapped()).await?;
            other.put("d/k", "x").ttl(TTL).await?;
            proxy.heal().await;
            Ok::<_, Failure>(())
        };
        other.put("d/k", "").await?;
        proxy.hold_answer_to("/replaced/d/k");
        let (is_there, replaced) = tokio::join!(call, replace);
        replaced?;
        Ok::<_, Failure>(is_there?)
    };
    assert!(replaced(Box::pin(kv.exists("d/k").into_future())).await?, "it was there all the while");
    let mut keys = kv.list("d").keys();
    let listed = async move { Ok(keys.next().await.transpose()?.is_some()) };
    assert!(replaced(Box::pin(listed)).await?, "it is listed");
    let mut children = kv.list("d").children();
    let listed = async move { Ok(children.next().await.transpose()?.is_some()) };
    assert!(replaced(Box::pin(listed)).await?, "it is a child");
    kv.close().await?;
    Ok(other.close().await?)
}
