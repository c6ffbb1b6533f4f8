//! Deadlines of writes, with a writer that a test can hold.

use super::{Engine, Lives};
use crate::config::Config;
use kv_core::{Deadline, ErrorKind, Expect, Result, Version};
use std::{sync::Arc, sync::mpsc, time::Duration};

async fn put(engine: Arc<Engine>, name: &'static str, within: Duration) -> Result<Version> {
    let put =
        move |batch: &mut super::Batch<'_>| batch.put(name, "v".into(), Expect::Anything, Lives::Always);
    engine.write(Deadline::after(within), 1, put).await
}

#[tokio::test]
async fn a_write_whose_deadline_passes_in_the_queue_is_never_done() -> Result<()> {
    const SHORT: Duration = Duration::from_millis(20);
    let folder = tempfile::tempdir().expect("a folder");
    let client = super::open(&Config::new(folder.path().join("a.redb"))).await?;
    let engine = client.engine()?.clone();
    // The writer has this job, and stands still in it.
    let (go_on, wait) = mpsc::channel::<()>();
    let held = engine.write(Deadline::after(SHORT), 0, move |_| {
        let _ = wait.recv();
        Ok(Ok(()))
    });
    assert_eq!(held.await.expect_err("it is held").kind(), ErrorKind::OutcomeUnknown);
    // These wait behind it: one until its deadline, one until its caller leaves, one for as long as it takes.
    let late = put(engine.clone(), "late", SHORT).await.expect_err("the writer is held");
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
    let left = tokio::time::timeout(SHORT, put(engine.clone(), "left", Duration::from_secs(60))).await;
    assert!(left.is_err());
    let patient = tokio::spawn(put(engine.clone(), "patient", Duration::from_secs(60)));
    drop(go_on);
    patient.await.expect("no panic")?;
    let there = |name: &'static str| {
        let key = kv_core::Key::parse(name);
        let engine = engine.clone();
        async move {
            let key = key?;
            engine.read(Deadline::after(Duration::from_secs(60)), move |s| s.exists("", &key)).await
        }
    };
    assert!(there("patient").await?);
    assert!(!there("late").await? && !there("left").await?);
    Ok(())
}
