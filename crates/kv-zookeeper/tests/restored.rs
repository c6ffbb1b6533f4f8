//! A server that was restored from an older copy: its counter went back.

mod common;

use common::{Node, single};
use kv_core::{ErrorKind, Kv};
use kv_testsuite::{Failure, Mirror, Server};
use std::time::Duration;
use tokio::time::timeout;
use zookeeper_client::Client;

const SOON: Duration = Duration::from_secs(30);

async fn open(node: &Node) -> Result<Kv, Failure> {
    Ok(kv_zookeeper::open(&format!("zookeeper://{}/back/", node.address)).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_arrives_at_what_is_there() -> Result<(), Failure> {
    for kind in ["zookeeper", "zookeeper38"] {
        let node = single(kind).await?;
        let (kv, other) = (open(&node).await?, open(&node).await?);
        for key in ["c/a", "c/b", "c/old"] {
            other.put(key, "1").await?;
        }
        assert!(node.save().await);
        let (mut tree, mut key) =
            (Mirror::new(kv.watch_tree("c").await?), Mirror::new(kv.watch("c/b").await?));
        let mut holder = Mirror::new(kv.lock_holder("l").watch().await?);
        for n in 2..60 {
            other.put("c/a", n.to_string()).await?;
            other.put("c/b", n.to_string()).await?;
        }
        other.delete("c/old").await?;
        other.put("c/new", "1").await?;
        let guard = other.new_lock("l").ttl(Duration::from_secs(5)).value("me").acquire().await?;
        tree.shows(&[("c/a", "59"), ("c/b", "59"), ("c/new", "1")]).await?;
        key.shows(&[("c/b", "59")]).await?;
        holder.shows(&[("l", "me")]).await?;

        node.restore_saved().await;
        tree.shows(&[("c/a", "1"), ("c/b", "1"), ("c/old", "1")]).await?;
        key.shows(&[("c/b", "1")]).await?;
        holder.shows(&[]).await?;
        timeout(SOON, guard.lost()).await?;
        assert!(!guard.is_held());
        for key in ["c/a", "c/b", "c/fresh"] {
            other.put(key, "after").await?;
        }
        tree.shows(&[("c/a", "after"), ("c/b", "after"), ("c/fresh", "after"), ("c/old", "1")]).await?;
        key.shows(&[("c/b", "after")]).await?;
        let next = timeout(SOON, kv.new_lock("l").value("next").acquire()).await??;
        holder.shows(&[("l", "next")]).await?;
        assert!(other.put("c/a", "late").fenced(&guard).await.is_err(), "the old holder writes no more");
        assert!(next.release().await?);
        kv.close().await?;
        other.close().await?;
    }
    Ok(())
}

/// The nodes that a handle remembers are of a history that is no more: no version of it matches
/// again, although the server counts through the same numbers.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_was_never_does_not_match() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let kv = open(&node).await?;
    for key in ["k", "there"] {
        kv.put(key, "before").await?;
    }
    assert!(node.save().await);
    // These writes bring the server's counter well beyond its value after the new beginning.
    for n in 0..50 {
        kv.put("there", n.to_string()).await?;
    }
    let seen = kv.put("k", "mine").await?.version;
    node.restore_saved().await;
    let tool = Client::connect(&node.address.to_string()).await?;
    let first = tool.set_data("/back/k", b"theirs", None).await?;
    // The data version and the count of creations are those that were seen.
    let e = kv.atomic_put("k", "again", seen).await.err().ok_or("a version of another history matched")?;
    assert_eq!(e.kind(), ErrorKind::KeyModified, "{e}");
    assert_eq!(kv.get("k").await?.ok_or("it is there")?.text(), Some("theirs"));

    // Now the node also has the zxid of the last write that was seen.
    let (zxid, _) = seen.parts();
    let mut at = first.mzxid;
    while u64::try_from(at)? < zxid {
        at = tool.set_data("/back/k", b"theirs", None).await?.mzxid;
    }
    assert_eq!(u64::try_from(at)?, zxid, "nobody else writes");
    let e = kv.atomic_put("k", "again", seen).await.err().ok_or("a version of another history matched")?;
    assert_eq!(e.kind(), ErrorKind::KeyModified, "{e}");
    let now = kv.get("k").await?.ok_or("it is there")?.version;
    assert_ne!(now, seen);
    kv.atomic_put("k", "again", now).await?;
    // The directory is remembered, and does not exist.
    kv.delete_tree("").await?;
    Ok(kv.close().await?)
}

/// A wiped server is one that went back to an empty copy.
#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_server_is_written_and_watched_on() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    assert!(node.save().await);
    let kv = open(&node).await?;
    kv.put("d/e/a", "1").await?;
    let seen = kv.put("d/e/b", "1").await?.version;
    let mut tree = Mirror::new(kv.watch_tree("").await?);
    tree.shows(&[("d/e/a", "1"), ("d/e/b", "1")]).await?;
    node.daemon.kill();
    node.restore_saved().await;
    tree.shows(&[]).await?;
    let e = kv.atomic_put("d/e/b", "2", seen).await.err().ok_or("it is gone")?;
    assert_eq!(e.kind(), ErrorKind::KeyModified, "{e}");
    kv.put("d/e/b", "after").await?;
    kv.put("d/f", "").ttl(Duration::from_secs(50)).await?;
    assert_eq!(kv.get("d/f").await?.ok_or("it was put")?.text(), Some(""));
    tree.shows(&[("d/e/b", "after"), ("d/f", "")]).await?;
    assert!(kv.new_lock("l").acquire().await?.release().await?);
    Ok(kv.close().await?)
}

/// The keys of one TTL that are put at about the same time share a session. While it is not
/// connected, nobody here knows that the server has lost it.
#[tokio::test(flavor = "multi_thread")]
async fn a_put_with_a_ttl_needs_no_session_of_the_past() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    assert!(node.save().await);
    let (kv, ttl) = (open(&node).await?, Duration::from_secs(50));
    kv.put("k", "before").ttl(ttl).await?;
    node.daemon.kill();
    let e = loop {
        let put = kv.put("k", "meanwhile").ttl(ttl).deadline(Duration::from_millis(200));
        match put.await.err().ok_or("there is no server")? {
            // It was sent, since the end of the connection was not noticed yet.
            e if e.kind() == ErrorKind::OutcomeUnknown => {}
            e => break e,
        }
    };
    assert!(e.is_transient(), "{e}");
    // It is polled first, and so waits for the session that it found.
    let puts = kv.put("k", "after").ttl(ttl).deadline(SOON).into_future();
    let (put, _) = tokio::join!(puts, node.restore_saved());
    put?;
    assert_eq!(kv.get("k").await?.ok_or("it was put")?.text(), Some("after"));
    let done = kv.transact().then(kv.put("t", "").ttl(ttl)).await?;
    assert!(done.is_committed());
    Ok(kv.close().await?)
}
