//! The content of a file's tables is checked before it is believed. Damage that redb's checksums
//! do not show, because a tool wrote it, is `Corrupt` before anything is written, and never a
//! panic.

use kv_core::{ErrorKind, Kv, Result};
use kv_redb::Config;
use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;

type Row<'a> = (u64, u64, u64, Option<&'a [u8]>);
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("kv.meta");
const DATA: TableDefinition<'_, &str, Row<'_>> = TableDefinition::new("kv.data");
const EXPIRY: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("kv.expiry");
const LEASED: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("kv.leased");
const LEASES: TableDefinition<'_, u64, u64> = TableDefinition::new("kv.leases");
const LOCKS: TableDefinition<'_, &str, (u64, u64, Option<&[u8]>)> = TableDefinition::new("kv.locks");

/// Makes a closed file with the keys `a`, `b` and `large`, which a foreign tool then changes.
async fn changed(by: impl FnOnce(&WriteTransaction)) -> Result<(TempDir, PathBuf)> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.redb");
    let kv = Config::new(&file).open().await?;
    for (key, size) in [("a", 1), ("b", 1), ("large", 5_000)] {
        kv.put(key, vec![7; size]).await?;
    }
    kv.close().await?;
    let database = Database::open(&file).unwrap();
    let write = database.begin_write().unwrap();
    by(&write);
    write.commit().unwrap();
    Ok((folder, file))
}

type Damage = Box<dyn Fn(&WriteTransaction)>;

async fn open(file: &Path) -> Kv {
    Config::new(file).open().await.expect("it can be opened")
}

fn number(write: &WriteTransaction, name: &str, number: u64) {
    write.open_table(META).unwrap().insert(name, number).unwrap();
}

#[tokio::test]
async fn numbers_that_no_store_has_counted_to_are_refused_at_opening() -> Result<()> {
    let lock = (9_999, 60_000, None);
    let damages: [(&str, Damage); 6] = [
        ("counter stands at", Box::new(|w| number(w, "counter", u64::MAX))),
        ("counter stands at", Box::new(|w| number(w, "counter", u64::MAX / 2))),
        ("after 1970", Box::new(|w| number(w, "seen", u64::MAX))),
        (
            "a lease of the number",
            Box::new(|w| {
                w.open_table(LEASES).unwrap().insert(u64::MAX, 1_000).unwrap();
            }),
        ),
        (
            "has the token 9999",
            Box::new(move |w| {
                number(w, "counter", 9_998);
                w.open_table(LOCKS).unwrap().insert("l\0", lock).unwrap();
            }),
        ),
        (
            "has the token",
            Box::new(|w| {
                w.open_table(LOCKS).unwrap().insert("l\0", (u64::MAX, u64::MAX, None)).unwrap();
            }),
        ),
    ];
    for (says, damage) in damages {
        let (_folder, file) = changed(|write| damage(write)).await?;
        let refused = Config::new(&file).open().await.expect_err(says);
        assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
        let text = refused.to_string();
        assert!(text.contains(says) && text.contains("a.redb") && text.contains("restore it"), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn a_version_that_was_never_given_out_is_not_written_over() -> Result<()> {
    for version in [None, Some(100), Some(u64::MAX - 1), Some(u64::MAX)] {
        let (_folder, file) = changed(|write| {
            if version == Some(100) {
                // Such a file counted from 1 on.
                number(write, "counter", 99);
                let value: Row<'_> = (98, 0, 0, Some(&[7]));
                write.open_table(DATA).unwrap().insert("b", value).unwrap();
            }
            let counted = write.open_table(META).unwrap().get("counter").unwrap().unwrap().value();
            let version = version.unwrap_or(counted + 1);
            let value: Row<'_> = (version, 0, 0, Some(b"theirs"));
            write.open_table(DATA).unwrap().insert("a", value).unwrap();
        })
        .await?;
        let kv = open(&file).await;
        let seen = kv.get("a").await?.unwrap().version;
        let tried = [
            kv.put("a", "mine").await.map(drop),
            kv.put("a", "mine").if_version(seen).await.map(drop),
            kv.put("a", "mine").if_missing().await.map(drop),
            kv.atomic_delete("a", seen).await.map(drop),
            kv.transact().then(kv.put("b", "new")).then(kv.put("a", "mine")).await.map(drop),
            kv.transact()
                .when(kv_core::Condition::Exists(kv_core::Key::parse("a")?))
                .then(kv.put("b", "new"))
                .await
                .map(drop),
        ];
        for answer in tried {
            let error = answer.expect_err("it is damaged");
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(error.to_string().contains("deleting the key"), "{error}");
        }
        assert_eq!(kv.get("b").await?.unwrap().value, vec![7; 1], "all or nothing");
        // Other keys are served, and the way out works.
        kv.put("b", "other").await?;
        assert!(kv.delete("a").await?);
        kv.put("a", "anew").if_missing().await?;
        kv.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn ends_of_keys_that_are_not_there_are_cleared_away_once() -> Result<()> {
    let (_folder, file) = changed(|write| {
        write.open_table(EXPIRY).unwrap().insert((1, "nobody"), ()).unwrap();
    })
    .await?;
    let store = Arc::new(Config::new(&file).build().await?);
    let cleared = async {
        while store.stats()?.commits == 0 {
            tokio::task::yield_now().await;
        }
        Ok::<_, kv_core::Error>(())
    };
    tokio::time::timeout(Duration::from_secs(20), cleared).await.expect("it is cleared away")?;
    Kv::new(store).close().await?;
    let read = Database::open(&file).unwrap().begin_read().unwrap();
    assert!(read.open_table(EXPIRY).unwrap().is_empty().unwrap());
    Ok(())
}

#[tokio::test]
async fn indexes_and_values_that_do_not_fit_are_survived() -> Result<()> {
    let (_folder, file) = changed(|write| {
        // There are ends of keys that are not there, or are permanent; a lease's key that is not
        // there; a large value that is gone.
        let mut expiry = write.open_table(EXPIRY).unwrap();
        for name in ["nobody", "a/b"] {
            expiry.insert((1, name), ()).unwrap();
        }
        write.open_table(LEASED).unwrap().insert((u64::MAX, "nobody"), ()).unwrap();
        write.open_table(LEASES).unwrap().insert(3, u64::MAX).unwrap();
        write
            .open_table(TableDefinition::<u64, &[u8]>::new("kv.large"))
            .unwrap()
            .retain(|_, _| false)
            .unwrap();
        let (version, ..) = write.open_table(DATA).unwrap().get("b").unwrap().unwrap().value();
        let leased: Row<'_> = (version, u64::MAX, u64::MAX, Some(b"of a lease that is not there"));
        write.open_table(DATA).unwrap().insert("leased", leased).unwrap();
        write.open_table(DATA).unwrap().insert("\u{7} no key", leased).unwrap();
    })
    .await?;
    let kv = open(&file).await;
    assert_eq!(kv.get("a").await?.unwrap().value, vec![7; 1]);
    let lost = kv.get("large").await.expect_err("its value is gone");
    assert_eq!(lost.kind(), ErrorKind::Corrupt, "{lost}");
    let mut watch = kv.watch("large").await?;
    assert_eq!(watch.event().await.expect_err("nobody can read it").kind(), ErrorKind::Corrupt);
    assert!(kv.exists("large").await? && !kv.exists("leased").await?);
    kv.put("large", vec![8; 5_000]).await?;
    assert_eq!(kv.list("").await?.len(), 3);
    kv.put("leased", "mine").if_missing().await?;
    let mut watch = kv.watch("short").await?;
    while watch.event().await? != kv_core::WatchEvent::Synced {}
    kv.put("short", "").ttl(Duration::from_millis(20)).await?;
    let ended = async {
        while !matches!(watch.event().await?, kv_core::WatchEvent::Delete { .. }) {}
        Ok::<_, kv_core::Error>(())
    };
    tokio::time::timeout(Duration::from_secs(20), ended).await.expect("its end is told")?;
    kv.close().await
}
