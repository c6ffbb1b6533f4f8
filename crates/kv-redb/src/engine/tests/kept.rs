//! A file whose store could not be opened again after an error of its disk.

use super::{Opened, Panics, TEN, TTL, held, opened};
use crate::{
    config::Config,
    engine::format::{COUNTER, DATA, LEASES, LOCKS, META},
};
use kv_core::{Error, ErrorKind, Result};
use redb::{Builder, Database, DatabaseError, StorageBackend, backends::FileBackend};
use std::{
    fs::{self, File},
    io,
    path::PathBuf,
};

impl Opened {
    fn path(&self) -> PathBuf {
        self.folder.path().join("a.redb")
    }

    /// Has a batch fail, and the file not be opened again, since it is away just then.
    async fn broken(&self) -> Result<()> {
        let (path, aside) = (self.path(), self.path().with_extension("aside"));
        let (from, to) = (path.clone(), aside.clone());
        let fails = self.job::<()>(move |_| {
            fs::rename(from, to)?;
            Err(redb::Error::Io(io::ErrorKind::StorageFull.into()))
        });
        let failed: Error = fails.await.expect_err("the disk is full");
        assert_eq!(failed.kind(), ErrorKind::NoSpace);
        fs::rename(aside, path).expect("it is moved back");
        Ok(())
    }
}

/// The file without the locks that keep others out, as on a file system that has none.
#[derive(Debug)]
struct Unlocked(FileBackend);

impl StorageBackend for Unlocked {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

#[tokio::test]
async fn no_other_process_gets_the_file_while_it_is_opened_again() -> Result<()> {
    let store = opened().await?;
    let guard = store.kv.new_lock("l").ttl(TEN).acquire().await?;
    store.broken().await?;
    // Nothing serves; another process that waits for the file does not get it now.
    let other = Database::open(store.path());
    assert!(matches!(other, Err(DatabaseError::DatabaseAlreadyOpen)), "another process has the file");
    store.kv.put("k", "v").fenced(&guard).await?;
    assert!(guard.is_held());
    let path = store.path();
    store.client.close();
    store.kv.close().await?;
    Database::open(path).expect("it is free when close has returned");
    Ok(())
}

#[tokio::test]
async fn what_another_process_has_written_meanwhile_ends_all_lives() -> Result<()> {
    const THEIRS: u64 = 1 << 60;
    let store = opened().await?;
    let kv = &store.kv;
    let guard = kv.new_lock("l").ttl(TEN).acquire().await?;
    let lease = kv.lease(TEN).await?;
    kv.put("leased", "v").lease(&lease).await?;
    let seen = kv.put("k", "v").await?.version;
    let mut watch = kv.watch("k").await?;
    while watch.event().await? != kv_core::WatchEvent::Synced {}
    store.broken().await?;
    let file = File::options().read(true).write(true).open(store.path()).expect("the file");
    let backend = Unlocked(FileBackend::new(file).expect("a backend"));
    let theirs = Builder::new().create_with_backend(backend).expect("no lock keeps them out");
    let write = theirs.begin_write().expect("a transaction");
    {
        let mut meta = write.open_table(META).expect("the table");
        meta.insert(COUNTER, THEIRS).expect("a row");
        let mut data = write.open_table(DATA).expect("the table");
        data.insert("k", (THEIRS - 1, 0, 0, Some(&b"theirs"[..]))).expect("a row");
        let mut locks = write.open_table(LOCKS).expect("the table");
        locks.insert("theirs\0", (THEIRS - 2, 10_000, None)).expect("a row");
        write.open_table(LEASES).expect("the table").insert(THEIRS - 3, 10_000).expect("a row");
    }
    write.commit().expect("a commit");
    drop(theirs);
    // The next write opens the file again.
    assert!(kv.put("other", "v").await?.version > seen);
    let late = kv.put("k", "late").fenced(&guard).await.expect_err("its lock is over");
    assert_eq!(late.kind(), ErrorKind::LockLost);
    assert!(kv.put("k", "late").if_version(seen).await.expect_err("they have written").is_conflict());
    assert!(!kv.exists("leased").await?);
    let late = kv.put("more", "late").lease(&lease).await.expect_err("it is over");
    assert_eq!(late.kind(), ErrorKind::LeaseLost);
    for name in ["l", "theirs"] {
        let held = kv.new_lock(name).ttl(TEN).try_acquire().await?.expect("it is free");
        assert!(held.token() > THEIRS, "{name}");
    }
    let told = watch.event().await?;
    assert!(matches!(&told, kv_core::WatchEvent::Put(entry) if entry.text() == Some("theirs")), "{told:?}");
    kv.put("k", "mine").await?;
    store.kv.close().await
}

#[tokio::test]
async fn guards_and_leases_of_a_writer_that_panicked_are_lost() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config::new(folder.path().join("a.redb"));
    let client = super::super::open(config.options()).await?;
    let kv = config.clone().open().await?;
    let guard = kv.new_lock("l").ttl(TTL).acquire().await?;
    let lease = kv.lease(TTL).await?;
    drop(held(client.engine()?, Panics).await);
    let other = config.open();
    let soon = TTL * 20;
    tokio::time::timeout(soon, guard.lost()).await.expect("another one may hold it");
    tokio::time::timeout(soon, lease.lost()).await.expect("it is over in the file");
    other.await?.close().await
}
