//! Nodes that clients may not read. Of such a node itself servers since 3.8.4 and 3.9.2 send no
//! events.

mod common;

use common::{Node, single};
use kv_core::{Kv, Watch, WatchEvent};
use kv_testsuite::Failure;
use std::time::Duration;
use tokio::time::timeout;
use zookeeper_client::{Acl, AuthId, Client, Permission};

const SOON: Duration = Duration::from_secs(20);
const TTL: Duration = Duration::from_secs(6);
const LINE: &str = "/unread/.kv/lock/l";

async fn open(node: &Node) -> Result<Kv, Failure> {
    Ok(kv_zookeeper::open(&format!("zookeeper://{}/unread/", node.address)).await?)
}

async fn watched(node: &Node, times: u64) -> Result<(), Failure> {
    let watched = async {
        while node.count("zk_watch_count").await? < times {}
        Ok::<_, Failure>(())
    };
    timeout(SOON, watched).await?
}

/// Takes away the right to read a node.
async fn unreadable(tool: &Client, path: &str) -> Result<(), Failure> {
    let rights = Permission::CREATE | Permission::DELETE | Permission::WRITE | Permission::ADMIN;
    tool.set_acl(path, &[Acl::new(rights, AuthId::anyone())], None).await?;
    Ok(())
}

/// Takes away the right to read the holder's node, and returns the path of the node.
async fn hide(tool: &Client, token: u64) -> Result<String, Failure> {
    for name in tool.list_children(LINE).await? {
        let path = format!("{LINE}/{name}");
        let stat = tool.check_stat(&path).await?.ok_or("it is there")?;
        if u64::try_from(stat.czxid)? == token {
            unreadable(tool, &path).await?;
            return Ok(path);
        }
    }
    Err("nobody holds the lock".into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_gets_the_lock_of_a_holder_whose_node_it_may_not_read() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let (kv, other) = (open(&node).await?, open(&node).await?);
    let tool = Client::connect(&node.address.to_string()).await?;
    let guard = kv.new_lock("l").ttl(TTL).acquire().await?;
    let waiting = tokio::spawn(other.new_lock("l").ttl(TTL).acquire());
    watched(&node, 2).await?;
    hide(&tool, guard.token()).await?;
    assert!(guard.release().await?);
    let next = timeout(SOON, waiting).await.map_err(|_| "it waits for nobody")???;
    assert!(next.release().await?);
    kv.close().await?;
    Ok(other.close().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_whose_node_is_deleted_unread_hears_of_it() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let (kv, tool) = (open(&node).await?, Client::connect(&node.address.to_string()).await?);
    let guard = kv.new_lock("l").ttl(TTL).acquire().await?;
    watched(&node, 1).await?;
    let path = hide(&tool, guard.token()).await?;
    tool.delete(&path, None).await?;
    timeout(SOON, guard.lost()).await.map_err(|_| "it believes that it holds the lock")?;
    assert!(!guard.is_held());
    Ok(kv.close().await?)
}

/// The zxid of a deletion is in the stat of the parent.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_of_a_key_is_listed_by_its_watches_alone() -> Result<(), Failure> {
    for kind in ["zookeeper", "zookeeper38"] {
        let node = single(kind).await?;
        let (kv, tool) = (open(&node).await?, Client::connect(&node.address.to_string()).await?);
        kv.put("d/k", "v").await?;
        let (mut key, mut other) = (kv.watch("d/k").await?, kv.watch_tree("e").await?);
        let next = async |watch: &mut Watch| Ok::<_, Failure>(timeout(SOON, watch.event()).await??);
        while next(&mut key).await? != WatchEvent::Synced {}
        while next(&mut other).await? != WatchEvent::Synced {}
        unreadable(&tool, "/unread/d").await?;
        tool.delete("/unread/d/k", None).await?;
        let event = next(&mut key).await?;
        assert!(matches!(&event, WatchEvent::Delete { key, .. } if key.as_str() == "d/k"), "{event:?}");
        for name in ["e/x", "e/y"] {
            kv.put(name, "v").await?;
            // A watch that lists again says so by another `Synced`.
            let event = next(&mut other).await?;
            assert!(matches!(&event, WatchEvent::Put(entry) if entry.key.as_str() == name), "{event:?}");
        }
        kv.close().await?;
    }
    Ok(())
}
