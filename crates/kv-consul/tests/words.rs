//! Keys whose names hold the words of the server's refusals, which quote the names.

mod common;

use common::{http, names, single};
use kv_core::{ErrorKind, WatchEvent};
use kv_testsuite::{Failure, failover::soon};
use std::time::Duration;

const WORDS: [&str; 9] = [
    "Permission denied",
    "ACL not found",
    "invalid session",
    "failed session lookup",
    "failed to lock key due to lock delay",
    "Value for key is too large",
    "key doesn't exist",
    "x: Permission denied",
    "No cluster leader",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_key_may_be_called_as_the_server_speaks() -> Result<(), Failure> {
    let node = single().await?;
    let url = format!("consul://{}/words/", node.address);
    let (kv, other) = (kv_consul::open(&url).await?, kv_consul::open(&url).await?);
    let mut watch = kv.watch_tree("d").await?;
    while watch.event().await? != WatchEvent::Synced {}
    for words in WORDS {
        let key = format!("d/{words}");
        let version = kv.put(&key, "").await?.version;
        let exists = kv.atomic_put(&key, "", None).await.map(drop).map_err(|e| e.kind());
        assert_eq!(exists, Err(ErrorKind::KeyExists), "{words}");
        let told = soon("the put", watch.event()).await?.map_err(|e| format!("{words}: {e}"))?;
        assert!(matches!(&told, WatchEvent::Put(entry) if entry.key.as_str() == key), "{words}: {told:?}");
        assert!(other.delete(&key).await?, "{words}");
        let told = soon("the deletion", watch.event()).await?.map_err(|e| format!("{words}: {e}"))?;
        let is_it = matches!(&told, WatchEvent::Delete { key: gone, .. } if gone.as_str() == key);
        assert!(is_it, "{words}: {told:?}");
        assert!(!kv.delete(&key).await?, "{words}");
        let modified = kv.atomic_put(&key, "", version).await.map(drop).map_err(|e| e.kind());
        assert_eq!(modified, Err(ErrorKind::KeyModified), "{words}");
        assert!(!kv.exists(&key).await? && kv.get(&key).await?.is_none(), "{words}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_may_be_called_as_the_server_speaks() -> Result<(), Failure> {
    let node = single().await?;
    let kv = kv_consul::open(&format!("consul://{}/words/", node.address)).await?;
    for words in WORDS {
        let guard = kv.new_lock(words).ttl(Duration::from_secs(60)).acquire().await?;
        for name in names(node.address, "words/.kv/lock/").await? {
            http(node.address, &format!("DELETE /v1/kv/{}", name.replace(' ', "%20")), b"").await?;
        }
        soon("the loss", guard.lost()).await?;
        assert!(!guard.release().await.map_err(|e| format!("{words}: {e}"))?, "{words}");
    }
    Ok(())
}
