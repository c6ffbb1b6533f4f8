//! Settings that follow the store.

mod common;

use common::{Limits, MS, S, limits, pair, put_limits, until};
use kv_config::{Origin, Source, live};
use kv_core::ErrorKind;
use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::Poll,
    time::Duration,
};
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn they_follow_the_store() {
    let p = pair().await;
    put_limits(&p.other, limits(1)).await;
    let mut settings = live::<Limits>(&p.kv, "app/limits").validate(Limits::check).await.unwrap();
    assert_eq!(*settings.get(), limits(1));
    assert_eq!(settings.origin(), Origin::Store);
    let mut clone = settings.clone();
    for n in 2..5 {
        put_limits(&p.other, limits(n)).await;
        assert_eq!(*settings.changed().await.unwrap(), limits(n));
        assert_eq!(*settings.get(), limits(n));
    }
    assert_eq!(*clone.changed().await.unwrap(), limits(4), "each clone has its own changes");
    let stored = Source::tree(&p.other, "app/limits").snapshot().await.unwrap();
    let running = settings.running();
    assert_eq!((running.generation, *running.settings), (stored.generation(), limits(4)));
    assert!(settings.rejected().is_none() && settings.troubles().is_empty());
    assert!(settings.kv().is_some());
}

#[tokio::test(start_paused = true)]
async fn bad_settings_are_never_seen() {
    let p = pair().await;
    put_limits(&p.other, limits(1)).await;
    let mut settings = live::<Limits>(&p.kv, "app/limits").validate(Limits::check).await.unwrap();
    let good = settings.generation();
    for (key, value, says) in [
        ("app/limits/burst", "lots", "burst: expected u32, found other text"),
        ("app/limits/burst", "3", "refused by the validation: 3 is not twice 1"),
        ("app/limits/more", "1", "more: there is no such setting; there are: requests, burst"),
    ] {
        p.other.put(key, value).await.unwrap();
        let rejected = settings.next_rejected().await.unwrap();
        assert_eq!((rejected.error.kind(), rejected.error.message()), (ErrorKind::Corrupt, says));
        let stored = Source::tree(&p.other, "app/limits").snapshot().await.unwrap();
        assert_eq!(rejected.generation, stored.generation());
        assert_eq!(settings.rejected().unwrap().generation, rejected.generation);
        assert_eq!((*settings.get(), settings.generation()), (limits(1), good.clone()));
    }
    p.other.delete_tree("app/limits").await.unwrap();
    let rejected = settings.next_rejected().await.unwrap();
    assert_eq!(rejected.generation.as_str(), "none");
    assert_eq!(*settings.get(), limits(1));
    put_limits(&p.other, limits(7)).await;
    assert_eq!(*settings.changed().await.unwrap(), limits(7));
    assert!(settings.rejected().is_none());
}

#[tokio::test(start_paused = true)]
async fn settings_of_before_that_come_back_are_no_change() {
    let p = pair().await;
    put_limits(&p.other, limits(1)).await;
    let mut settings = live::<Limits>(&p.kv, "app/limits").await.unwrap();
    let (first, before) = (settings.get(), settings.generation());
    p.other.put("app/limits/burst", "lots").await.unwrap();
    settings.next_rejected().await.unwrap();
    put_limits(&p.other, limits(1)).await;
    until("another generation", async || settings.generation() != before).await;
    assert!(settings.rejected().is_none());
    assert!(Arc::ptr_eq(&first, &settings.get()));
    let change = tokio::time::timeout(60 * S, settings.changed()).await;
    assert!(change.is_err(), "the values are the same");
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_written_one_by_one_are_one_change() {
    let p = pair().await;
    put_limits(&p.other, limits(1)).await;
    let mut settings = live::<Limits>(&p.kv, "app/limits").validate(Limits::check).await.unwrap();
    for n in 2..6_u32 {
        p.other.put("app/limits/requests", n.to_string()).await.unwrap();
        tokio::time::sleep(200 * MS).await;
        p.other.put("app/limits/burst", (2 * n).to_string()).await.unwrap();
        assert_eq!(*settings.changed().await.unwrap(), limits(n));
        assert!(settings.rejected().is_none());
    }
    // Also at the beginning.
    p.other.put("app/limits/requests", "9").await.unwrap();
    let kv = p.kv.clone();
    let begins = tokio::spawn(async move { live::<Limits>(&kv, "app/limits").validate(Limits::check).await });
    tokio::time::sleep(200 * MS).await;
    p.other.put("app/limits/burst", "18").await.unwrap();
    assert_eq!(*begins.await.unwrap().unwrap().get(), limits(9));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_never_quiet_is_read_all_the_same() {
    let p = pair().await;
    put_limits(&p.other, limits(1)).await;
    let open = live::<Limits>(&p.kv, "app/limits").quiet(250 * MS..S);
    let mut settings = open.validate(Limits::check).await.unwrap();
    let other = p.other.clone();
    let writer = tokio::spawn(async move {
        for n in 2.. {
            put_limits(&other, limits(n)).await;
            tokio::time::sleep(100 * MS).await;
        }
    });
    let began = Instant::now();
    settings.changed().await.unwrap();
    let took = began.elapsed();
    assert!((900 * MS..1300 * MS).contains(&took), "{took:?}");
    settings.changed().await.unwrap();
    writer.abort();
}

#[tokio::test(start_paused = true)]
async fn a_transaction_is_seen_whole() {
    let p = pair().await;
    put_limits(&p.other, limits(1)).await;
    let open = live::<Limits>(&p.kv, "app/limits").quiet(Duration::ZERO..Duration::ZERO);
    let settings = open.validate(Limits::check).await.unwrap();
    let mut seen = 0;
    for n in 2..300 {
        put_limits(&p.other, limits(n)).await;
        tokio::task::yield_now().await;
        settings.get().check().unwrap();
        seen += u32::from(settings.get().requests == n);
        assert!(settings.rejected().is_none(), "half a change was read");
    }
    until("the last", async || *settings.get() == limits(299)).await;
    assert!(settings.clone().next_rejected().await_now().is_none(), "half a change was read");
    println!("{seen} of 298 were seen at once");
}

/// Polls a future once: its output if it is ready, `None` if it is not.
trait AwaitNow: Future + Sized {
    fn await_now(self) -> Option<Self::Output> {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(self).poll(&mut cx) {
            std::task::Poll::Ready(done) => Some(done),
            std::task::Poll::Pending => None,
        }
    }
}
impl<F: Future> AwaitNow for F {}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_rejection() {
    let p = pair().await;
    put_limits(&p.other, limits(1)).await;
    let is_armed = Arc::new(AtomicBool::new(false));
    let armed = is_armed.clone();
    let check = move |_: &Limits| -> Result<(), String> {
        assert!(!armed.load(SeqCst), "as the test asked for");
        Ok(())
    };
    let mut settings = live::<Limits>(&p.kv, "app/limits").validate(check).await.unwrap();
    is_armed.store(true, SeqCst);
    put_limits(&p.other, limits(2)).await;
    let rejected = settings.next_rejected().await.unwrap();
    assert_eq!(rejected.error.message(), "the program panicked while it read them");
    is_armed.store(false, SeqCst);
    put_limits(&p.other, limits(3)).await;
    assert_eq!(*settings.changed().await.unwrap(), limits(3));
}

#[tokio::test(start_paused = true)]
async fn a_document_is_read_at_once() {
    let p = pair().await;
    let put = async |n| {
        let document = serde_json::to_string(&limits(n)).unwrap();
        p.other.put("app/limits", document).await.unwrap().version
    };
    put(1).await;
    p.other.put("app/limits/requests", "5").await.unwrap(); // lies below, and is another key
    let mut settings = live::<Limits>(&p.kv, "app/limits").json().await.unwrap();
    let version = put(2).await;
    assert_eq!(*settings.changed().await.unwrap(), limits(2));
    assert_eq!(settings.generation().as_str(), version.to_string());
    p.other.delete("app/limits").await.unwrap();
    assert_eq!(settings.next_rejected().await.unwrap().error.message(), "requests: is missing");
    assert_eq!(*settings.get(), limits(2));
}

#[tokio::test(start_paused = true)]
async fn parts_of_the_tree_and_the_root_have_settings_too() {
    let p = pair().await;
    put_limits(&p.other, limits(1)).await;
    let part = p.kv.within("app/limits").unwrap();
    let mut settings = live::<Limits>(&part, "").await.unwrap();
    put_limits(&p.other, limits(2)).await;
    assert_eq!(*settings.changed().await.unwrap(), limits(2));
    let whole = Source::tree(&p.other, "app/limits").snapshot().await.unwrap();
    assert_eq!(settings.generation(), whole.generation(), "whatever the directory is called");
}

#[tokio::test(start_paused = true)]
async fn closing_leaves_them_as_they_are() {
    let p = pair().await;
    put_limits(&p.other, limits(1)).await;
    let mut settings = live::<Limits>(&p.kv, "app/limits").report("app/status/a").await.unwrap();
    until("the report", async || p.other.exists("app/status/a").await.unwrap()).await;
    p.kv.close().await.unwrap();
    assert!(!p.other.exists("app/status/a").await.unwrap(), "closing has waited for that");
    assert_eq!(settings.changed().await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(settings.next_rejected().await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(*settings.get(), limits(1));
}

#[tokio::test(start_paused = true)]
async fn the_last_clone_ends_all_work() {
    let p = pair().await;
    put_limits(&p.other, limits(1)).await;
    let settings = live::<Limits>(&p.kv, "app/limits").report("app/status/a").await.unwrap();
    until("the report", async || p.other.exists("app/status/a").await.unwrap()).await;
    let clone = settings.clone();
    drop(settings);
    put_limits(&p.other, limits(2)).await;
    until("a change for the clone", async || *clone.get() == limits(2)).await;
    drop(clone);
    until("nothing is left", async || {
        p.memory.leftovers().is_empty() && !p.other.exists("app/status/a").await.unwrap()
    })
    .await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_any_io() {
    let kv = kv_memory::open("memory://").await.unwrap();
    kv_memory::Faults::of(&kv).unwrap().pause();
    let live = || live::<Limits>(&kv, "app/limits");
    for (open, kind, says) in [
        (live().quiet(2 * S..S), ErrorKind::InvalidArgument, "the quiet time is at least 2s and at most 1s"),
        (live().report("app/limits/status"), ErrorKind::InvalidArgument, "lies among the settings"),
        (live().json().report("app/limits"), ErrorKind::InvalidArgument, "lies among the settings"),
        (live().report("a/../b"), ErrorKind::InvalidKey, "a/../b"),
        (live().report("s/a").report_ttl(Duration::MAX), ErrorKind::InvalidArgument, "a TTL of"),
        (kv_config::live(&kv, "a/./b"), ErrorKind::InvalidKey, "a/./b"),
        (kv_config::live(&kv, "").json(), ErrorKind::InvalidKey, "is empty"),
    ] {
        let e = open.await.unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().starts_with("config on memory: ") && e.to_string().contains(says), "{e}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_opening_that_is_dropped_at_any_await_leaves_nothing() {
    for polls in 1..60 {
        let p = pair().await;
        put_limits(&p.other, limits(1)).await;
        let (mut open, mut left) =
            (live::<Limits>(&p.kv, "app/limits").report("app/status/a").into_future(), polls);
        let polled = poll_fn(|cx| {
            left -= 1;
            match open.as_mut().poll(cx) {
                Poll::Pending if left > 0 => Poll::Pending,
                opened => Poll::Ready(opened),
            }
        });
        drop(tokio::time::timeout(5 * S, polled).await);
        drop(open);
        until("nothing is left", async || {
            p.memory.leftovers().is_empty() && !p.other.exists("app/status/a").await.unwrap()
        })
        .await;
    }
}
