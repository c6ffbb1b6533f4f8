//! Reads on their callers' threads: they see the last commit, and nothing else, and never wait for
//! the disk.

use super::{LONG, Opened, TEN, opened};
use crate::{
    config::Config,
    engine::{Engine, Lives},
};
use kv_core::{
    Bytes, ErrorKind, Kv, Result,
    backend::Clock,
    driver::{Deadline, Expect},
};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

impl Engine {
    /// Reads all pages, as the first read of a small file has it done in the background.
    fn warmed(&self) {
        let fixed = self.fixed().expect("the file serves");
        while !fixed.residence.is_warm() {
            match fixed.residence.warming() {
                Some(warming) => {
                    fixed.touch().expect("all pages can be read");
                    warming.end(true);
                }
                // A thread of the pool is about it.
                None => thread::yield_now(),
            }
        }
    }

    fn missed(&self) -> u64 {
        self.fixed().expect("the file serves").residence.missed()
    }
}

impl Opened {
    fn engine(&self) -> Result<Arc<Engine>> {
        self.client.engine().cloned()
    }

    /// Checks that all reads were done here since there were so many aside.
    fn none_aside(&self, before: u64) -> Result<()> {
        let engine = self.engine()?;
        assert_eq!((engine.stats().aside, engine.missed()), (before, 0), "reads aside, reads from the disk");
        Ok(())
    }

    /// Opens a store whose reads are done here.
    async fn warm() -> Result<(Self, u64)> {
        let store = opened().await?;
        let engine = store.engine()?;
        engine.warmed();
        Ok((store, engine.stats().aside))
    }
}

async fn text(kv: &Kv, key: &str) -> Result<Option<String>> {
    Ok(kv.get(key).await?.map(|entry| entry.text().expect("it is text").to_owned()))
}

#[tokio::test]
async fn reads_see_every_commit_that_was_answered() -> Result<()> {
    let (store, aside) = Opened::warm().await?;
    let kv = &store.kv;
    for n in 0..200 {
        let (key, value) = (format!("d/{}", n % 7), n.to_string());
        kv.put(&key, value.clone()).await?;
        assert_eq!(text(kv, &key).await?, Some(value));
    }
    assert_eq!(kv.list("d").await?.len(), 7);
    assert!(kv.delete("d/3").await?);
    assert!(!kv.exists("d/3").await? && text(kv, "d/3").await?.is_none());
    assert_eq!(kv.get_many(["d/2", "d/3", "d/4"]).await?.iter().flatten().count(), 2);
    // One whose value is in another table.
    kv.put("large", vec![b'x'; 2_000]).await?;
    assert_eq!(text(kv, "large").await?.map(|text| text.len()), Some(2_000));
    assert_eq!(kv.delete_tree("d").await?, Some(6));
    assert!(kv.list("d").await?.is_empty() && !kv.exists("d/1").await? && kv.exists("large").await?);
    store.none_aside(aside)?;
    store.kv.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_goes_back_behind_one_on_another_thread() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config::new(folder.path().join("a.redb"));
    let client = super::super::open(config.options()).await?;
    let engine = client.engine()?.clone();
    let kv = config.open().await?;
    kv.put("n", "0").await?;
    engine.warmed();
    let (seen, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let read = |is_here: bool| {
        let (engine, seen, over) = (engine.clone(), seen.clone(), over.clone());
        let key = kv_core::Key::parse("n").expect("a key");
        async move {
            let look = move |s: &super::super::Snapshot<'_>| s.get("", &key);
            while !over.load(Ordering::Acquire) {
                let least = seen.load(Ordering::Acquire);
                let found = match is_here {
                    true => engine.read(Deadline::after(LONG), look.clone()).await?,
                    false => engine.read_aside(Deadline::after(LONG), look.clone()).await?,
                };
                let found = found.expect("it is there");
                let n: u64 = found.text().and_then(|text| text.parse().ok()).expect("a number");
                assert!(n >= least, "{n} behind {least}");
                seen.fetch_max(n, Ordering::AcqRel);
                tokio::task::yield_now().await;
            }
            Ok::<_, kv_core::Error>(())
        }
    };
    let readers: Vec<_> = [true, false, true, false].map(|is_here| tokio::spawn(read(is_here))).into();
    for n in 1..=300_u64 {
        kv.put("n", n.to_string()).await?;
        seen.fetch_max(n, Ordering::AcqRel);
    }
    over.store(true, Ordering::Release);
    for reader in readers {
        reader.await.expect("no panic")?;
    }
    assert_eq!(engine.missed(), 0);
    kv.close().await
}

#[tokio::test]
async fn a_commit_that_failed_is_never_seen() -> Result<()> {
    let (store, _) = Opened::warm().await?;
    let kv = &store.kv;
    kv.put("k", "before").await?;
    for round in 0..3 {
        let fails = store.job::<()>(|batch| {
            let put = batch.put("k", "after".into(), Expect::Anything, Lives::Always)?;
            let new = batch.put("new", Bytes::new(), Expect::Anything, Lives::Always)?;
            assert!(put.is_ok() && new.is_ok());
            Err(redb::Error::Io(io::ErrorKind::StorageFull.into()))
        });
        assert_eq!(fails.await.expect_err("the disk is full").kind(), ErrorKind::NoSpace);
        // The file was opened again, so the first read finds its pages on the disk.
        assert_eq!((text(kv, "k").await?.as_deref(), kv.exists("new").await?), (Some("before"), false));
        let engine = store.engine()?;
        engine.warmed();
        let aside = engine.stats().aside;
        assert_eq!((text(kv, "k").await?.as_deref(), kv.list("").await?.len()), (Some("before"), 1));
        assert_eq!((engine.stats().aside, engine.stats().reopened), (aside, round + 1));
    }
    kv.put("k", "later").await?;
    assert_eq!(text(kv, "k").await?.as_deref(), Some("later"));
    store.kv.close().await
}

#[tokio::test]
async fn what_has_ended_is_gone_for_reads_here_too() -> Result<()> {
    let (store, aside) = Opened::warm().await?;
    let (kv, engine) = (&store.kv, store.engine()?);
    kv.put("ttl", "v").ttl(TEN).await?;
    // The lease and the lock are of clients that are gone without a word: nobody renews them.
    let lease = engine.next_id();
    store.job(move |batch| batch.grant_lease(lease, TEN).map(Ok)).await?;
    store.job(move |batch| batch.put("leased", "v".into(), Expect::Anything, Lives::Under(lease))).await?;
    store.acquire("l\0", 1).await?;
    let there = || async {
        let many = kv.get_many(["ttl", "leased"]).await?.iter().flatten().count();
        let each = (kv.exists("ttl").await?, kv.get("leased").await?.is_some());
        Ok::<_, kv_core::Error>((many, each, kv.list("").await?.len(), kv.lock_holder("l").await?.is_some()))
    };
    assert_eq!(there().await?, (2, (true, true), 2, true));
    store.clock.advance(TEN * 2);
    assert_eq!(there().await?, (0, (false, false), 0, false));
    store.none_aside(aside)?;
    store.kv.close().await
}

#[tokio::test]
async fn a_read_here_asks_for_its_moment_before_the_next_commit_or_not_at_all() -> Result<()> {
    let (store, _) = Opened::warm().await?;
    let (kv, engine) = (&store.kv, store.engine()?);
    kv.put("k", "v").ttl(TEN).await?;
    let key = kv_core::Key::parse("k")?;
    let look = |s: &super::super::Snapshot<'_>| s.get("", &key);
    assert!(engine.read_here(&look).is_some_and(|found| found.is_some()));
    let early = engine.snapshot_here().expect("it is warm");
    // The key lives on by this put, so no read may miss it when its first time is over.
    kv.put("k", "v").await?;
    store.clock.advance(TEN * 2);
    assert!(look(&early).is_err());
    drop(early);
    assert!(engine.read_here(&look).is_some_and(|found| found.is_some()));
    store.kv.close().await
}

#[tokio::test]
async fn what_is_long_or_may_touch_the_disk_is_read_aside() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.redb");
    let config = Config::new(&path).cache_size(16 << 20).clock(Clock::manual());
    let client = super::super::open(config.options()).await?;
    let engine = client.engine()?.clone();
    let kv = config.open().await?;
    kv.put("small", vec![1; 60_000]).await?;
    kv.put("big", vec![2; 100_000]).await?;
    engine.warmed();
    let aside = || engine.stats().aside;
    let before = aside();
    assert!(kv.get("small").await?.is_some() && kv.exists("big").await?);
    assert_eq!(aside(), before);
    assert_eq!(kv.get("big").await?.expect("it is there").value.len(), 100_000);
    assert_eq!(aside(), before + 1);
    // The file outgrows half of the cache: from then on reads go aside, however often they are
    // repeated.
    let mut n = 0;
    while std::fs::metadata(&path).expect("the file").len() <= 8 << 20 {
        kv.put(format!("fill/{n}"), vec![3; 60_000]).await?;
        n += 1;
    }
    let before = aside();
    for _ in 0..20 {
        assert!(kv.get("small").await?.is_some());
        thread::yield_now();
    }
    assert_eq!((aside(), engine.missed()), (before + 20, 0));
    kv.close().await
}
