//! A file that is moved, deleted or replaced under an open store.
#![cfg(unix)]

use kv_core::{ErrorKind, Kv, Result};
use kv_redb::Config;
use std::{fs, path::Path};

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
