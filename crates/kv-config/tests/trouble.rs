//! Outages, lost watches and withdrawn rights.

mod common;

use common::{Limits, S, limits, pair, put_limits, until};
use kv_config::live;
use kv_core::ErrorKind;
use kv_memory::Calls;

#[tokio::test(start_paused = true)]
async fn an_outage_is_ridden_out() {
    let p = pair().await;
    put_limits(&p.other, limits(1)).await;
    let mut settings = live::<Limits>(&p.kv, "app/limits").validate(Limits::check).await.unwrap();
    p.faults.pause();
    for n in 2..5 {
        put_limits(&p.other, limits(n)).await;
        tokio::time::sleep(20 * S).await;
        assert_eq!(*settings.get(), limits(1));
    }
    p.faults.resume();
    assert_eq!(*settings.changed().await.unwrap(), limits(4));
    assert!(settings.rejected().is_none() && settings.troubles().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_cut_goes_on() {
    let p = pair().await;
    put_limits(&p.other, limits(1)).await;
    let mut settings = live::<Limits>(&p.kv, "app/limits").validate(Limits::check).await.unwrap();
    for n in 2..10 {
        p.faults.cut_watches();
        put_limits(&p.other, limits(n)).await;
        p.faults.cut_watches();
        assert_eq!(*settings.changed().await.unwrap(), limits(n));
    }
    // What is deleted while nobody watches is seen too.
    p.faults.pause();
    p.faults.cut_watches();
    p.other.delete_tree("app/limits").await.unwrap();
    p.faults.resume();
    assert_eq!(settings.next_rejected().await.unwrap().generation.as_str(), "none");
}

#[tokio::test(start_paused = true)]
async fn a_reading_that_fails_is_made_again() {
    let p = pair().await;
    put_limits(&p.other, limits(1)).await;
    let mut settings = live::<Limits>(&p.kv, "app/limits").validate(Limits::check).await.unwrap();
    for kind in [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::PermissionDenied, ErrorKind::Other] {
        p.faults.fail(Calls::Reads, kind, 5);
        put_limits(&p.other, limits(settings.get().requests + 1)).await;
        until("the trouble", async || settings.troubles().store.is_some()).await;
        assert_eq!(settings.troubles().store.unwrap().kind(), kind);
        settings.changed().await.unwrap();
        until("no trouble", async || settings.troubles().is_empty()).await;
        assert_eq!(p.faults.planned(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_refused_is_begun_again() {
    let p = pair().await;
    put_limits(&p.other, limits(1)).await;
    let mut settings = live::<Limits>(&p.kv, "app/limits").validate(Limits::check).await.unwrap();
    p.faults.fail(Calls::Reads, ErrorKind::PermissionDenied, 6);
    p.faults.cut_watches();
    until("the trouble", async || settings.troubles().store.is_some()).await;
    put_limits(&p.other, limits(2)).await;
    assert_eq!(*settings.changed().await.unwrap(), limits(2));
    until("no trouble", async || settings.troubles().is_empty()).await;
}
