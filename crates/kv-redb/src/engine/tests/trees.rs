//! Trees that are deleted without an event for each key, since nobody watches.

use super::{LONG, Opened, TEN, opened};
use crate::engine::{
    Batch, Lives,
    format::{EXPIRY, LEASED},
};
use kv_core::{
    Result, WatchEvent,
    driver::{Deadline, Expect},
};
use redb::ReadableTableMetadata;
use std::{collections::BTreeSet, sync::mpsc};
use tokio::sync::oneshot;

#[tokio::test]
async fn a_watch_that_begins_while_a_tree_goes_hears_of_it() -> Result<()> {
    let store = opened().await?;
    for key in ["t/1", "t/2", "t/3", "u"] {
        store.kv.put(key, "v").await?;
    }
    let engine = store.client.engine()?.clone();
    let ((at, reached), (go, wait)) = (oneshot::channel(), mpsc::channel::<()>());
    let deletes = tokio::spawn(async move {
        let delete = move |batch: &mut Batch<'_>| {
            let gone = batch.delete_below("t/", |_| true)?;
            let _ = at.send(());
            let _ = wait.recv();
            Ok(Ok(gone))
        };
        engine.write(Deadline::after(LONG), 0, delete).await
    });
    reached.await.expect("the keys are deleted");
    // The commit is still to come, so the watch finds them.
    let mut watch = store.kv.watch_tree("").await?;
    let mut there = BTreeSet::new();
    loop {
        match watch.event().await? {
            WatchEvent::Put(entry) => there.insert(entry.key.to_string()),
            WatchEvent::Synced => break,
            gone @ WatchEvent::Delete { .. } => panic!("{gone:?}"),
        };
    }
    assert_eq!(there.len(), 4);
    drop(go);
    assert_eq!(deletes.await.expect("no panic")?, 3);
    while there.len() > 1 {
        if let WatchEvent::Delete { key, .. } = watch.event().await? {
            assert!(there.remove(key.as_str()), "{key} was not there");
        }
    }
    assert!(there.contains("u"));
    store.kv.close().await
}

impl Opened {
    /// Puts keys of all kinds below `t/`, and deletes that tree.
    async fn deletes_all_kinds(&self) -> Result<Option<u64>> {
        let engine = self.client.engine()?;
        let lease = engine.next_id();
        self.job(move |batch| batch.grant_lease(lease, TEN).map(Ok)).await?;
        let put = |name: &'static str, lives| {
            self.job(move |batch| batch.put(name, "v".into(), Expect::Anything, lives))
        };
        put("t/leased", Lives::Under(lease)).await?;
        put("t/timed", Lives::For(TEN)).await?;
        self.kv.put("t/large", vec![0; 5_000]).await?;
        self.kv.put("t", "stays").await?;
        self.kv.put("t0", "stays").await?;
        self.kv.delete_tree("t").await
    }
}

#[tokio::test]
async fn a_tree_goes_with_all_that_its_keys_have_elsewhere() -> Result<()> {
    let store = opened().await?;
    for watched in [false, true] {
        let watch = if watched { Some(store.kv.watch("u").await?) } else { None };
        assert_eq!(store.deletes_all_kinds().await?, Some(3));
        assert_eq!(store.kv.list("").keys().await?.len(), 2);
        let left = store.client.engine()?.fixed().expect("the file serves");
        let expiries = left.read.open_table(EXPIRY).expect("the table").len();
        let leased = left.read.open_table(LEASED).expect("the table").len();
        let rest = [expiries, leased, left.large.len()].map(|rows| rows.expect("a count"));
        assert_eq!(rest, [0, 0, 0], "of expiries, leased names, large values");
        drop(watch);
    }
    store.clock.advance(TEN * 2);
    store.kv.put("t0", "which ends the lease").await?;
    store.kv.close().await
}
