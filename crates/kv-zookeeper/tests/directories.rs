//! Directories are deleted with the last key below them.

mod common;

use common::single;
use kv_testsuite::Failure;
use zookeeper_client::Client;

/// The number of nodes in a batch of `delete_tree`.
const BATCH: usize = 1000;

/// No directory is left, wherever a batch ends: within a directory, behind it, on the directory
/// itself, or between it and the nodes below it, where `b!` stands in the order of names.
#[tokio::test(flavor = "multi_thread")]
async fn a_tree_of_several_batches_leaves_no_directory() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let kv = kv_zookeeper::open(&format!("zookeeper://{}/app/", node.address)).await?;
    let client = Client::connect(&node.address.to_string()).await?;
    for before in BATCH - 6..=BATCH {
        let keys: Vec<_> = (0..before).map(|n| format!("t/a/{n:04}")).collect();
        let deep = ["t/b!", "t/b/c/d/1", "t/b/c/d/2", "t/b/e"].map(str::to_owned);
        for keys in [keys, deep.to_vec()].concat().chunks(100) {
            let puts = keys.iter().map(|key| kv.put(key, "").into_future());
            futures::future::try_join_all(puts).await?;
        }
        assert_eq!(kv.delete_tree("t").await?, Some(before as u64 + 4));
        assert!(client.check_stat("/app/t").await?.is_none(), "left behind {before} keys");
    }
    Ok(())
}
