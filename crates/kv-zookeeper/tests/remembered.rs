//! Nodes that a handle remembers and that others deleted and made anew meanwhile.

mod common;

use common::{Node, single};
use kv_core::{ErrorKind, Kv};
use kv_testsuite::Failure;
use std::time::Duration;
use zookeeper_client::{Acls, Client, CreateMode};

/// The number of children: of eight names one or two at most share their slot with the directory.
const CHILDREN: usize = 8;
const SOON: Duration = Duration::from_secs(60);

async fn two(node: &Node) -> Result<[Kv; 2], Failure> {
    let url = format!("zookeeper://{}/remembered/", node.address);
    Ok([kv_zookeeper::open(&url).await?, kv_zookeeper::open(&url).await?])
}

/// The node of a key that was deleted may come back as a directory with the data version that it
/// had.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_made_out_of_a_directory_has_a_version_of_its_own() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let [a, b] = two(&node).await?;
    for n in 0..CHILDREN {
        let (d, x) = (&format!("{n}/d"), &format!("{n}/d/x{n}"));
        a.put(d, "1").await?;
        let stale = a.put(d, "2").await?.version;
        assert!(b.get(d).await?.is_some());
        assert!(a.delete(d).await?);
        a.put(x, "below").await?;
        a.put(d, "3").await?;
        let e = b.atomic_put(d, "mine", stale).await.err().ok_or("a stale version matched")?;
        assert_eq!(e.kind(), ErrorKind::KeyModified, "{e}");
        assert_eq!(a.get(d).await?.ok_or("it was put")?.text(), Some("3"), "{d}");
    }
    a.close().await?;
    Ok(b.close().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_not_the_key_that_its_node_was() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let [a, b] = two(&node).await?;
    for n in 0..CHILDREN {
        let (d, x, z) = (&format!("{n}/d"), &format!("{n}/d/x{n}"), &format!("{n}/z"));
        let stale = a.put(d, "1").await?.version;
        assert!(b.get(d).await?.is_some());
        assert!(a.delete(d).await?);
        a.put(x, "below").await?;
        let done = b.transact().when_exists(d).then(b.put(z, "")).await?;
        assert!(!done.is_committed(), "{d} is a directory: {done:?}");
        let e = b.atomic_put(d, "mine", stale).await.err().ok_or("a stale version matched")?;
        assert_eq!(e.kind(), ErrorKind::KeyModified, "{e}");
        assert!(!a.exists(d).await?);
    }
    a.close().await?;
    Ok(b.close().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_made_out_of_a_directory_is_not_missing() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let [a, b] = two(&node).await?;
    for n in 0..CHILDREN {
        let (d, x, z) = (&format!("{n}/d"), &format!("{n}/d/x{n}"), &format!("{n}/z"));
        assert!(b.get(d).await?.is_none());
        a.put(x, "below").await?;
        a.put(d, "1").await?;
        let done = b.transact().when_missing(d).then(b.put(z, "")).await?;
        assert!(!done.is_committed(), "{d} is there: {done:?}");
        assert!(!a.exists(z).await?);

        let (d, x) = (&format!("{n}/e"), &format!("{n}/e/x{n}"));
        assert!(b.get(d).await?.is_none());
        a.put(x, "below").await?;
        a.put(d, "1").await?;
        assert!(b.delete(d).await?, "{d} is there");
        assert!(!a.exists(d).await?);
    }
    a.close().await?;
    Ok(b.close().await?)
}

/// Directories whose names are long together are made before the keys below them.
#[tokio::test(flavor = "multi_thread")]
async fn directories_that_are_made_first_are_counted_too() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let [a, b] = two(&node).await?;
    for n in 0..2 {
        let d = &format!("{n}");
        let stale = a.put(d, "1").await?.version;
        assert!(b.get(d).await?.is_some());
        assert!(a.delete(d).await?);
        let deep = "/s".repeat(200);
        let puts = (0..2).map(|m| a.put(format!("{n}/{m}{deep}/k"), ""));
        // These are hundreds of nodes, which a busy machine makes slowly.
        let done = puts.fold(a.transact().deadline(SOON), |all, put| all.then(put)).await?;
        assert!(done.is_committed());
        let e = b.atomic_put(d, "mine", stale).await.err().ok_or("a stale version matched")?;
        assert_eq!(e.kind(), ErrorKind::KeyModified, "{e}");
    }
    a.close().await?;
    Ok(b.close().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_tool_made_meanwhile_is_not_missing() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let [kv, other] = two(&node).await?;
    let tool = Client::connect(&node.address.to_string()).await?;
    let make = async |key: &str| {
        let create = CreateMode::Persistent.with_acls(Acls::anyone_all());
        tool.create(&format!("/remembered/{key}"), b"theirs", &create).await
    };
    kv.put("deleted", "").await?;
    assert!(kv.get("read").await?.is_none() && kv.delete("deleted").await?);
    for key in ["read", "deleted"] {
        make(key).await?;
        assert!(kv.delete(key).await?, "{key} is there");
        assert!(!other.exists(key).await? && !kv.delete(key).await?);
    }
    assert!(kv.get("missing").await?.is_none());
    make("missing").await?;
    let done = kv.transact().when_missing("missing").then(kv.put("z", "")).await?;
    assert!(!done.is_committed() && !other.exists("z").await?);
    let e = kv.atomic_put("missing", "mine", None).await.err().ok_or("it is there")?;
    assert_eq!(e.kind(), ErrorKind::KeyExists, "{e}");
    kv.close().await?;
    Ok(other.close().await?)
}
