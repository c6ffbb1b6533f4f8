//! Settings on the embedded store, over its end and a new beginning.

mod common;

use common::{Limits, limits, put_limits, until};
use kv_config::{Origin, Source, live, status};
use kv_core::{Kv, Result};
use std::path::Path;

async fn open(file: &Path) -> Result<Kv> {
    kv_redb::Config::new(file).open().await
}

#[tokio::test]
async fn settings_outlive_the_store_and_reports_do_not() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (file, last_good) = (folder.path().join("a.redb"), folder.path().join("limits.json"));
    let mut before = None;
    for n in 1..4 {
        let kv = open(&file).await?;
        assert!(status(&kv, "app/status").await?.reports.is_empty(), "closing has taken it away");
        if n == 1 {
            put_limits(&kv, limits(n)).await;
        }
        let stored = Source::tree(&kv, "app/limits").snapshot().await?;
        assert!(before.is_none_or(|before| before == stored.generation()), "it is the same over restarts");
        let open = live::<Limits>(&kv, "app/limits").validate(Limits::check);
        let mut settings = open.report("app/status/a").last_good(&last_good).await?;
        assert_eq!((*settings.get(), settings.origin()), (limits(n), Origin::Store));

        put_limits(&kv, limits(n + 1)).await;
        assert_eq!(*settings.changed().await?, limits(n + 1));
        let now = settings.generation();
        until("the report", async || status(&kv, "app/status").await.unwrap().running(&now) == 1).await;
        before = Some(now);
        kv.close().await?;
        assert_eq!(*settings.get(), limits(n + 1));
    }
    Ok(())
}

#[tokio::test]
async fn half_a_change_is_never_seen() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let kv = open(&folder.path().join("a.redb")).await?;
    put_limits(&kv, limits(1)).await;
    let open = live::<Limits>(&kv, "app/limits").quiet(std::time::Duration::ZERO..std::time::Duration::ZERO);
    let mut settings = open.validate(Limits::check).await?;
    let writer = {
        let kv = kv.clone();
        tokio::spawn(async move {
            for n in 2..100 {
                put_limits(&kv, limits(n)).await;
            }
        })
    };
    while settings.get().requests < 99 {
        settings.changed().await?.check().unwrap();
        assert!(settings.rejected().is_none(), "half a change was read");
    }
    writer.await.unwrap();
    kv.close().await
}
