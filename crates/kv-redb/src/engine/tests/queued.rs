//! Calls that are queued behind others: until when a write can be taken back, and reads of locks.

use super::{LONG, Opened, TTL, opened, put};
use crate::engine::{Batch, Engine};
use kv_core::{ErrorKind, Result, driver::Deadline};
use std::{
    io,
    sync::{Arc, mpsc},
    time::Duration,
};
use tokio::sync::oneshot;

/// The size of a job that leaves no room for another one in its batch.
const WHOLE: usize = 16 << 20;

/// A job that stands still when it is run, until it is let go.
pub(super) struct Standing {
    begun: oneshot::Receiver<()>,
    go_on: mpsc::Sender<()>,
    job: tokio::task::JoinHandle<Result<()>>,
}

impl Standing {
    pub(super) fn new(engine: &Arc<Engine>, size: usize) -> Self {
        let (begins, begun) = oneshot::channel();
        let (go_on, wait) = mpsc::channel();
        let engine = engine.clone();
        let stands = move |_: &mut Batch<'_>| {
            let _ = begins.send(());
            let _ = wait.recv();
            Ok(Ok(()))
        };
        let job = tokio::spawn(async move { engine.write(Deadline::after(LONG), size, stands).await });
        Self { begun, go_on, job }
    }

    /// Waits until the writer is in it.
    pub(super) async fn begun(&mut self) {
        (&mut self.begun).await.expect("it begins");
    }

    pub(super) async fn end(self) -> Result<()> {
        drop(self.go_on);
        self.job.await.expect("no panic")
    }
}

impl Opened {
    pub(super) async fn stand(&self, size: usize) -> Result<Standing> {
        let mut standing = Standing::new(self.client.engine()?, size);
        standing.begun().await;
        Ok(standing)
    }
}

#[tokio::test]
async fn a_write_that_waits_for_a_later_batch_is_taken_back_too() -> Result<()> {
    let store = opened().await?;
    let engine = store.client.engine()?.clone();
    let first = store.stand(0).await?;
    // The writer gets both at once, and does them in two batches.
    let mut slow = Standing::new(&engine, WHOLE);
    tokio::task::yield_now().await;
    let late = tokio::spawn(put(engine.clone(), "late", Duration::from_secs(2)));
    tokio::task::yield_now().await;
    first.end().await?;
    slow.begun().await;
    let late = late.await.expect("no panic").expect_err("the writer is in another batch");
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
    slow.end().await?;
    store.kv.put("behind", "v").await?;
    assert!(!store.kv.exists("late").await?, "it was taken back");
    store.kv.close().await
}

#[tokio::test]
async fn a_listing_of_locks_waits_for_no_writer() -> Result<()> {
    let store = opened().await?;
    let guard = store.kv.new_lock("l").acquire().await?;
    let standing = store.stand(0).await?;
    let held = store.kv.locks("").deadline(TTL).await?;
    assert_eq!((held.len(), held[0].holder.token), (1, guard.token()));
    standing.end().await?;
    store.kv.close().await
}

#[tokio::test]
async fn a_listing_of_locks_does_not_fail_with_a_write() -> Result<()> {
    let store = opened().await?;
    let guard = store.kv.new_lock("l").acquire().await?;
    let standing = store.stand(0).await?;
    let (held, failed, ended) = tokio::join!(
        async { store.kv.locks("").await },
        store.job(|_| Err::<Result<()>, _>(redb::Error::Io(io::ErrorKind::StorageFull.into()))),
        standing.end(),
    );
    ended?;
    assert_eq!(failed.expect_err("the disk is full").kind(), ErrorKind::NoSpace);
    let held = held?;
    assert_eq!((held.len(), held[0].holder.token), (1, guard.token()));
    store.kv.close().await
}
