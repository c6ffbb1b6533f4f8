//! Large values: they cost their own write, and no other write.

use kv_core::{Bytes, Kv, Result, WatchEvent};
use kv_redb::Config;
use redb::{Database, ReadableDatabase, ReadableTableMetadata, TableDefinition};
use std::{path::Path, time::Duration};

const LARGEST: usize = 16 << 20;

fn large(byte: u8) -> Bytes {
    vec![byte; LARGEST].into()
}

/// Returns how many bytes this process has written.
#[cfg(target_os = "linux")]
fn written() -> usize {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap().parse().unwrap()
}

/// Puts small keys that a tree would have in one page with `m`, which stands between them.
async fn small(kv: &Kv) -> Result<()> {
    let mut all = kv.transact().then(kv.put("l", "x"));
    for n in 0..1_000 {
        all = all.then(kv.put(format!("n/{n:03}"), "x"));
    }
    assert!(all.await?.is_committed());
    Ok(())
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn neighbours_of_a_large_value_do_not_write_it_again() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let kv = Config::new(folder.path().join("a.redb")).open().await?.with_deadline(Duration::from_secs(60));
    small(&kv).await?;
    let low = kv.new_lock("l").acquire().await?;
    let before = written();
    kv.put("m", large(1)).await?;
    let guard = kv.new_lock("m").value(large(2)).acquire().await?;
    assert!(written() - before >= 2 * LARGEST, "what is counted is the file's writes");

    let before = written();
    for n in 0..10 {
        kv.put("l", n.to_string()).await?;
        kv.new_lock("n").acquire().await?.release().await?;
    }
    // The deletion is in ascending order, so that page after page ends beside that of the large
    // value.
    assert_eq!(kv.delete_tree("n").await?, Some(1_000));
    assert!(low.release().await?);
    let wrote = written() - before;
    assert!(wrote < LARGEST, "{wrote} bytes for small writes beside a large value");
    assert_eq!(kv.get("m").await?.unwrap().value, large(1));
    assert_eq!(kv.lock_holder("m").await?.unwrap().value, large(2));
    assert!(guard.release().await?);
    kv.close().await
}

/// Counts the large values in the file of a closed store.
fn rows(file: &Path) -> u64 {
    let read = Database::open(file).unwrap().begin_read().unwrap();
    read.open_table(TableDefinition::<u64, &[u8]>::new("kv.large")).unwrap().len().unwrap()
}

#[tokio::test]
async fn a_large_value_goes_with_its_key() -> Result<()> {
    const SIZE: usize = 100_000;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.redb");
    let kv = Config::new(&file).open().await?;
    let value = |byte: u8| vec![byte; SIZE];
    for key in ["deleted", "d/1", "d/2", "replaced", "shrunk", "kept"] {
        kv.put(key, value(1)).await?;
    }
    let lease = kv.lease(Duration::from_secs(60)).await?;
    kv.put("leased", value(1)).lease(&lease).await?;
    let mut expiry = kv.watch("expired").await?;
    kv.put("expired", value(1)).ttl(Duration::from_millis(10)).await?;
    kv.put("grown", "x").await?;
    let guard = kv.new_lock("held").value(value(2)).acquire().await?;

    assert!(kv.delete("deleted").await?);
    kv.delete_tree("d").await?;
    kv.put("replaced", value(3)).await?;
    kv.put("shrunk", "x").await?;
    kv.put("grown", value(4)).await?;
    assert!(lease.revoke().await?);
    assert!(guard.release().await?);
    // A refused write leaves nothing behind either.
    assert!(kv.put("kept", value(9)).if_missing().await.unwrap_err().is_conflict());
    // The deletion is committed when it is told.
    while !matches!(expiry.event().await?, WatchEvent::Delete { .. }) {}
    kv.close().await?;
    assert_eq!(rows(&file), 3, "kept, replaced and grown");

    let kv = Config::new(&file).open().await?;
    let there = kv.list("").await?;
    let there: Vec<_> = there.iter().map(|entry| (entry.key.as_str(), entry.value.to_vec())).collect();
    let all = [("grown", value(4)), ("kept", value(1)), ("replaced", value(3)), ("shrunk", b"x".to_vec())];
    assert_eq!(there, all);
    kv.close().await
}
