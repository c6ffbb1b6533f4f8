//! Counts the lines that are logged of an outage. Another test of the same process, which listens
//! to no log, would take part in whether a place logs anything.

#[path = "watch/hub.rs"]
mod hub;

use futures::StreamExt;
use hub::{Answers, hub_watch};
use kv_core::{
    ErrorKind, WatchEvent,
    backend::{Clock, Hub},
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// Counts what is logged, by level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<tracing::Level>>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        self.0.lock().unwrap().push(*event.metadata().level());
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_logged_once_when_it_begins_and_once_when_it_is_over() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let hub = Hub::new();
    let answers = Answers::default();
    let outage = || std::iter::repeat_n(Err(ErrorKind::Unavailable), 20).chain([Ok(Vec::new())]);
    answers.lock().unwrap().extend(outage().chain(outage()));
    let mut watch = hub_watch(&hub, &answers);
    for outages in 1..=2 {
        assert_eq!(watch.next().await.unwrap().unwrap(), WatchEvent::Synced);
        let logged = [tracing::Level::WARN, tracing::Level::INFO].repeat(outages);
        assert_eq!(*log.0.lock().unwrap(), logged);
        hub.missed();
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_lock_logs_that_the_server_answers_again_and_not_when_it_has_the_lock() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let open = || kv_memory::Config::new().name("in-line").clock(Clock::tokio()).open();
    let (kv, other) = (open().await.unwrap(), open().await.unwrap());
    let held = other.new_lock("l").acquire().await.unwrap();
    kv_memory::Faults::of(&kv).unwrap().fail(kv_memory::Calls::Any, ErrorKind::Unavailable, 3);
    let waits = tokio::spawn(kv.new_lock("l").acquire().into_future());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(*log.0.lock().unwrap(), [tracing::Level::WARN, tracing::Level::INFO]);
    assert!(!waits.is_finished() && held.release().await.unwrap());
    drop(waits.await.unwrap().unwrap());
    assert_eq!(log.0.lock().unwrap().len(), 2);
}
