//! A runtime that stands still holds up no other one.

use super::{LONG, held, put};
use crate::config::Config;
use kv_core::Result;
use std::{
    future::{Future, IntoFuture},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::runtime::{Builder, Runtime};

const SOON: Duration = Duration::from_secs(10);

/// A runtime that stands still, until it is dropped.
struct Still(Option<Runtime>);

impl Drop for Still {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

/// Begins these calls on a runtime of their own, which stands still from then on.
fn still<F>(many: usize, call: impl Fn() -> F + Send + 'static) -> Still
where
    F: Future<Output: Send> + Send + 'static,
{
    let begin = move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let begun = Arc::new(AtomicUsize::new(0));
        runtime.block_on(async {
            for _ in 0..many {
                let (begun, call) = (begun.clone(), call());
                tokio::spawn(async move {
                    begun.fetch_add(1, Ordering::Relaxed);
                    call.await
                });
            }
            while begun.load(Ordering::Relaxed) < many {
                tokio::task::yield_now().await;
            }
        });
        runtime
    };
    // A runtime cannot be entered from within another one.
    Still(Some(thread::spawn(begin).join().expect("no panic")))
}

#[tokio::test]
async fn reads_of_a_runtime_that_stands_still_hold_up_no_other_one() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let kv = Config::new(folder.path().join("a.redb")).open().await?;
    kv.put("large", vec![1; 100_000]).await?;
    let theirs = kv.clone();
    let stands = still(500, move || theirs.get("large").into_future());
    for _ in 0..4 {
        assert!(kv.get("large").deadline(SOON).await?.is_some());
    }
    drop(stands);
    kv.close().await
}

#[tokio::test]
async fn writes_of_a_runtime_that_stands_still_hold_up_no_other_one() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let client = super::super::open(Config::new(folder.path().join("a.redb")).options()).await?;
    let engine = client.engine()?.clone();
    put(engine.clone(), "first", LONG).await?;
    let go_on = held(&engine, ()).await;
    // They fill the queue, and as many again wait for a place in it.
    let theirs = engine.clone();
    let stands = still(4_000, move || put(theirs.clone(), "theirs", LONG));
    drop(go_on);
    for _ in 0..4 {
        put(engine.clone(), "mine", SOON).await?;
    }
    drop(stands);
    Ok(())
}
