//! A file that is moved, deleted or replaced under an open store.
#![cfg(unix)]

use kv_core::{ErrorKind, Kv, Result};
use kv_redb::Config;
use std::{fs, path::Path, time::Duration};

const SECOND: Duration = Duration::from_secs(1);
/// A TTL that leaves time for renewals that fail: the loss tells why they failed.
const TTL: Duration = Duration::from_secs(8);

async fn opened(file: &Path) -> Result<Kv> {
    let kv = Config::new(file).open().await?;
    kv.put("before", "1").await?;
    Ok(kv)
}

#[tokio::test]
async fn what_would_go_nowhere_is_refused() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (file, aside) = (folder.path().join("a.redb"), folder.path().join("aside.redb"));
    let kv = opened(&file).await?;
    for how in ["moved", "replaced"] {
        fs::rename(&file, &aside).unwrap();
        if how == "replaced" {
            fs::copy(&aside, &file).unwrap();
        }
        for error in [
            kv.put("lost", "1").await.unwrap_err(),
            kv.delete("before").await.map(drop).unwrap_err(),
            Config::new(&file).open().await.map(drop).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{how}: {error}");
            assert!(error.to_string().contains(how) && error.to_string().contains("put it back"), "{error}");
        }
        assert!(kv.exists("before").await?, "reads go on");
        fs::rename(&aside, &file).unwrap();
        kv.put("back", how).await?;
    }
    kv.close().await?;
    let kv = Config::new(&file).open().await?;
    assert_eq!(kv.get("back").await?.unwrap().text(), Some("replaced"));
    assert!(!kv.exists("lost").await?);
    Ok(())
}

#[tokio::test]
async fn a_deleted_file_can_be_made_anew_once_its_stores_are_closed() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.redb");
    let kv = opened(&file).await?;
    fs::remove_file(&file).unwrap();
    assert_eq!(kv.put("lost", "1").await.unwrap_err().kind(), ErrorKind::Unavailable);
    kv.close().await?;
    let kv = Config::new(&file).open().await?;
    assert!(!kv.exists("before").await?, "it is a new one");
    kv.put("after", "1").await.map(drop)
}

/// Another process may have opened the file that is at the path now, in which all locks were free.
#[tokio::test]
async fn locks_and_leases_end_by_time_while_the_file_is_not_at_its_path() -> Result<()> {
    for how in ["moved", "replaced"] {
        let folder = tempfile::tempdir().unwrap();
        let (file, aside) = (folder.path().join("a.redb"), folder.path().join("aside.redb"));
        let kv = opened(&file).await?;
        let guard = kv.new_lock("lock").ttl(TTL).acquire().await?;
        let lease = kv.lease(TTL).await?;
        let long = kv.new_lock("long").ttl(SECOND * 3_600).acquire().await?;
        fs::rename(&file, &aside).unwrap();
        if how == "replaced" {
            fs::copy(&aside, &file).unwrap();
        }
        let lost = tokio::time::timeout(SECOND * 40, guard.lost()).await.expect(how);
        assert!(lost.to_string().contains(how), "{lost}");
        tokio::time::timeout(SECOND * 40, lease.lost()).await.expect(how);
        assert!(!guard.is_held() && !lease.is_held() && long.is_held());
        // Whoever has time left goes on when the file is back.
        fs::rename(&aside, &file).unwrap();
        kv.put("back", how).fenced(&long).await?;
        let next = kv.new_lock("lock").ttl(TTL).acquire().await?;
        assert!(next.token() > guard.token() && long.is_held());
        assert_eq!(kv.put("back", how).fenced(&guard).await.unwrap_err().kind(), ErrorKind::LockLost);
        kv.close().await?;
    }
    Ok(())
}
