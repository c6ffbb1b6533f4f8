//! Leases and locks of another file.

use kv_core::{ErrorKind, Fence, Kv, Result};
use kv_redb::Config;
use std::{path::Path, time::Duration};

const TTL: Duration = Duration::from_secs(60);

async fn open(folder: &Path, name: &str) -> Result<Kv> {
    Config::new(folder.join(name)).open().await
}

#[tokio::test]
async fn a_lease_or_lock_of_another_file_is_not_believed() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (open(folder.path(), "a").await?, open(folder.path(), "b").await?);
    let (of_a, of_b) = (a.lease(TTL).await?, b.lease(TTL).await?);
    assert_ne!(of_a.id(), of_b.id());
    let refused = b.put("k", "v").lease(&of_a).await.expect_err("a lease of another file");
    assert_eq!(refused.kind(), ErrorKind::LeaseLost, "{refused}");
    let (of_a, of_b) = (a.new_lock("l").acquire().await?, b.new_lock("l").acquire().await?);
    let refused = b.put("k", "v").fenced(&of_a).await.expect_err("a lock of another file");
    assert_eq!(refused.kind(), ErrorKind::LockLost, "{refused}");
    // The other file may have counted alike.
    let alike = Fence::new(of_b.fence().lock().clone(), of_b.token(), of_a.fence().proof().clone());
    let refused = b.put("k", "v").fenced(&alike).await.expect_err("a lock of another file");
    assert_eq!(refused.kind(), ErrorKind::LockLost, "{refused}");
    assert!(!b.exists("k").await?);
    b.put("k", "v").fenced(&of_b).await?;
    a.close().await?;
    b.close().await
}
