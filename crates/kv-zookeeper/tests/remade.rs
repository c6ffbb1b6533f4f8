//! A store's nodes that an administrator deleted, or put back one by one, while connections stand.

mod common;

use common::{Node, single};
use kv_core::{ErrorKind, Kv, Version};
use kv_testsuite::{Failure, Mirror};
use std::time::Duration;
use zookeeper_client::{Acls, Client, CreateMode, MultiWriteError};

const ROOT: &str = "/remade";

async fn open(node: &Node) -> Result<Kv, Failure> {
    Ok(kv_zookeeper::open(&format!("zookeeper://{}{ROOT}/", node.address)).await?)
}

async fn tool(node: &Node) -> Result<Client, Failure> {
    Ok(Client::connect(&node.address.to_string()).await?)
}

/// Returns a node and all nodes below it, each behind its parent.
async fn tree(tool: &Client, root: &str) -> Result<Vec<String>, Failure> {
    let mut all = vec![root.to_owned()];
    let mut at = 0;
    while let Some(path) = all.get(at).cloned() {
        let names = tool.list_children(&path).await?;
        all.extend(names.into_iter().map(|name| format!("{path}/{name}")));
        at += 1;
    }
    Ok(all)
}

/// Deletes nodes in one step, each before its parent.
async fn delete(tool: &Client, paths: &[String]) -> Result<(), Failure> {
    let mut writer = tool.new_multi_writer();
    for path in paths.iter().rev() {
        writer.add_delete(path, None)?;
    }
    writer.commit().await.map(drop).map_err(|e: MultiWriteError| format!("{e}").into())
}

/// Checks that a version of what was there before is refused, and that what is there stays.
async fn is_refused(kv: &Kv, stale: Version, there: &str) -> Result<(), Failure> {
    let e = kv.put("k", "mine").if_version(stale).await.err().ok_or("a stale version matched")?;
    assert_eq!(e.kind(), ErrorKind::KeyModified, "{e}");
    assert_eq!(kv.get("k").await?.ok_or("it is there")?.text(), Some(there));
    let e = kv.atomic_delete("k", stale).await.err().ok_or("a stale version matched")?;
    assert_eq!(e.kind(), ErrorKind::KeyModified, "{e}");
    // Whoever knows the version of now writes on it.
    let now = kv.get("k").await?.ok_or("it is there")?.version;
    kv.put("k", "next").if_version(now).await?;
    Ok(())
}

/// The key is the first creation of its slot in both trees, and its data version is 0 in both.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_of_a_deleted_tree_does_not_match() -> Result<(), Failure> {
    for kind in ["zookeeper", "zookeeper38"] {
        let node = single(kind).await?;
        let (kv, tool) = (open(&node).await?, tool(&node).await?);
        let stale = kv.put("k", "1").await?.version;
        delete(&tool, &tree(&tool, ROOT).await?).await?;
        let other = open(&node).await?;
        other.put("k", "theirs").await?;
        is_refused(&kv, stale, "theirs").await?;
        kv.close().await?;
        other.close().await?;
    }
    Ok(())
}

/// The tree was made anew by this handle itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_tree_is_made_anew_by_the_next_write() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let (kv, other, tool) = (open(&node).await?, open(&node).await?, tool(&node).await?);
    let stale = kv.put("k", "1").await?.version;
    let seen = other.get("k").await?.ok_or("it was put")?.version;
    assert_eq!(stale, seen);
    delete(&tool, &tree(&tool, ROOT).await?).await?;
    kv.put("k", "theirs").await?;
    is_refused(&other, seen, "theirs").await?;
    kv.close().await?;
    Ok(other.close().await?)
}

/// Only the node that counts the creations of the key was deleted, and the key with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_count_that_begins_anew_does_not_match() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let (kv, other, tool) = (open(&node).await?, open(&node).await?, tool(&node).await?);
    let stale = kv.put("k", "1").await?.version;
    delete(&tool, &[format!("{ROOT}/k"), counting(&tool).await?]).await?;
    other.put("k", "theirs").await?;
    is_refused(&kv, stale, "theirs").await?;
    kv.close().await?;
    Ok(other.close().await?)
}

/// Returns the node that counted the one creation that there was.
async fn counting(tool: &Client) -> Result<String, Failure> {
    for slot in 0..16 {
        let path = format!("{ROOT}/.kv/epoch/{slot:x}");
        if tool.check_stat(&path).await?.is_some_and(|stat| stat.version > 0) {
            return Ok(path);
        }
    }
    Err("nothing was counted".into())
}

/// A tool puts a copy back node by node: all data versions begin at 0 again.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_does_not_match_in_a_copy_of_its_tree() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let (kv, tool) = (open(&node).await?, tool(&node).await?);
    let stale = kv.put("k", "1").await?.version;
    let counting = counting(&tool).await?;
    let paths = tree(&tool, ROOT).await?;
    let mut copy = Vec::new();
    for path in &paths {
        copy.push((path, tool.get_data(path).await?.0));
    }
    delete(&tool, &paths).await?;
    let create = CreateMode::Persistent.with_acls(Acls::anyone_all());
    for (path, data) in &copy {
        tool.create(path, data, &create).await?;
    }
    let other = open(&node).await?;
    for n in 0.. {
        if tool.check_stat(&counting).await?.ok_or("it was copied")?.version > 0 {
            break;
        }
        other.put(format!("n/{n}"), "").await?;
    }
    is_refused(&kv, stale, "1").await?;
    kv.close().await?;
    Ok(other.close().await?)
}

/// A key as it was before the store had any node of its own is no proof later.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_tool_is_written_by_its_version() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let (kv, tool) = (open(&node).await?, tool(&node).await?);
    let create = CreateMode::Persistent.with_acls(Acls::anyone_all());
    tool.create(ROOT, b"", &create).await?;
    tool.create(&format!("{ROOT}/k"), b"theirs", &create).await?;
    let seen = kv.get("k").await?.ok_or("it is there")?.version;
    kv.put("k", "mine").if_version(seen).await?;
    is_refused(&kv, seen, "mine").await?;
    Ok(kv.close().await?)
}

/// With the contender go its queue and the node above all queues, so that no node is left whose
/// stat tells when the lock became free.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_a_holder_tells_the_end_with_its_tree() -> Result<(), Failure> {
    for kind in ["zookeeper", "zookeeper38"] {
        let node = single(kind).await?;
        let (kv, other, tool) = (open(&node).await?, open(&node).await?, tool(&node).await?);
        for root in [format!("{ROOT}/.kv/lock"), ROOT.to_owned()] {
            let guard = kv.new_lock("l").value("leader").acquire().await?;
            let mut holder = Mirror::new(other.lock_holder("l").watch().await?);
            holder.shows(&[("l", "leader")]).await?;
            delete(&tool, &tree(&tool, &root).await?).await?;
            holder.shows(&[]).await?;
            assert!(other.lock_holder("l").await?.is_none());
            tokio::time::timeout(Duration::from_secs(30), guard.lost()).await?;
            let next = kv.new_lock("l").value("next").acquire().await?;
            holder.shows(&[("l", "next")]).await?;
            assert!(next.release().await?);
        }
        kv.close().await?;
        other.close().await?;
    }
    Ok(())
}
