//! Calls that were begun, and that nobody polls, hold up no other one.

use super::{LONG, held, put};
use crate::config::Config;
use futures::poll;
use kv_core::Result;
use std::{future::IntoFuture, time::Duration};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn reads_that_nobody_polls_hold_up_no_other_one() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let kv = Config::new(folder.path().join("a.redb")).open().await?;
    kv.put("large", vec![1; 100_000]).await?;
    let large = || Box::pin(kv.get("large").deadline(LONG).into_future());
    let mut begun = Vec::new();
    for _ in 0..500 {
        let mut get = large();
        // A thread may be that fast.
        if poll!(get.as_mut()).is_pending() {
            begun.push(get);
        }
    }
    for _ in 0..4 {
        assert!(kv.get("large").deadline(SOON).await?.is_some());
    }
    for get in begun {
        assert!(get.await?.is_some());
    }
    kv.close().await
}

#[tokio::test]
async fn writes_that_nobody_polls_hold_up_no_other_one() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let client = super::super::open(Config::new(folder.path().join("a.redb")).options()).await?;
    let engine = client.engine()?.clone();
    put(engine.clone(), "first", LONG).await?;
    let go_on = held(&engine, ()).await;
    // They fill the queue, and as many again and more wait for a place in it.
    let mut begun: Vec<_> = (0..4_000).map(|_| Box::pin(put(engine.clone(), "theirs", LONG))).collect();
    for put in &mut begun {
        assert!(poll!(put.as_mut()).is_pending());
    }
    // Whoever leaves the line is not waited for either.
    let left = begun.split_off(2_000);
    drop(left);
    drop(go_on);
    for _ in 0..4 {
        put(engine.clone(), "mine", SOON).await?;
    }
    for put in begun {
        put.await?;
    }
    Ok(())
}
