//! The engine of watches, by histories at random over a server in memory.

#[path = "watch/hub.rs"]
mod hub;
#[path = "watch/judge.rs"]
mod judge;
#[path = "watch/script.rs"]
mod script;
#[path = "watch/server.rs"]
mod server;
#[path = "watch/source.rs"]
mod source;

use futures::{FutureExt, StreamExt};
use hub::{Answers, hub_watch};
use judge::Judge;
use kv_core::{
    Entry, Error, ErrorKind, Item, Key, Version, WatchEvent,
    backend::{Hub, watch},
    driver::WatchStream,
};
use server::{Server, Style};
use source::{Client, Seen, any_end};
use std::{
    sync::{Arc, Mutex, atomic::Ordering::SeqCst},
    time::Duration,
};
use tokio::time::Instant;

/// The number of histories of each style.
const HISTORIES: u64 = 400;

/// Says which history failed.
struct Which(Style, u64);

impl Drop for Which {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the history of {:?} by seed {} failed", self.0, self.1);
        }
    }
}

/// Fails work that hangs, by the paused clock at once.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(3600), work).await.expect("the watch hangs")
}

/// One history.
struct History {
    server: Arc<Mutex<Server>>,
    seen: Arc<Seen>,
    watch: WatchStream,
    judge: Judge,
}

impl History {
    fn new(server: Server, end: Option<ErrorKind>) -> Self {
        let server = Arc::new(Mutex::new(server));
        let client = Client::new(server.clone(), end);
        let seen = client.seen.clone();
        Self { server, seen, watch: watch::start(client), judge: Judge::default() }
    }

    /// Returns the next event; `None` once nothing happens any more.
    async fn next(&mut self) -> Option<Result<WatchEvent, Error>> {
        tokio::select! {
            biased;
            event = self.watch.next() => Some(event.expect("a watch ends by an error")),
            () = self.seen.quiet.notified() => None,
        }
    }

    /// Judges all events, and returns the error that ended the watch.
    async fn run(&mut self) -> Option<Error> {
        while let Some(event) = soon(self.next()).await {
            match event {
                Ok(event) => {
                    let positioned = self.seen.positioned.load(SeqCst);
                    self.judge.event(event, &self.server.lock().unwrap(), positioned);
                }
                Err(error) => return Some(error),
            }
        }
        None
    }
}

async fn histories(style: Style) {
    let (mut went_back, mut fetched, mut ended, mut synced) = (0, 0, 0, 0);
    for seed in 0..HISTORIES {
        let (_which, end) = (Which(style, seed), any_end(seed));
        let mut history = History::new(Server::new(style, seed), end);
        let error = history.run().await;
        assert_eq!(error.map(|e| e.kind()), end, "only what lasts ends a watch, and all of it");
        if end.is_some() {
            assert!(history.watch.next().await.is_none(), "an error is the last item");
        }
        let server = history.server.lock().unwrap();
        history.judge.end(&server);
        let (lists, reasons) = (history.seen.lists.load(SeqCst), history.seen.reasons.load(SeqCst));
        let most = 1 + reasons + 2 * server.went_back;
        assert!(lists <= most, "{lists} lists for {reasons} reasons");
        assert_eq!(Arc::strong_count(&history.server), if end.is_some() { 1 } else { 2 });
        went_back += server.went_back;
        fetched += history.seen.fetched.load(SeqCst);
        ended += u64::from(end.is_some());
        synced += history.judge.synced;
    }
    assert!(went_back > HISTORIES && ended > HISTORIES / 8 && synced > 3 * HISTORIES);
    assert_eq!(fetched > 5 * HISTORIES, style != Style::Whole, "{fetched} values fetched");
}

#[tokio::test(start_paused = true)]
async fn one_revision_a_list() {
    histories(Style::Revision).await;
}

#[tokio::test(start_paused = true)]
async fn whole_answers() {
    histories(Style::Whole).await;
}

#[tokio::test(start_paused = true)]
async fn names_whose_values_are_fetched() {
    histories(Style::Names).await;
}

#[tokio::test(start_paused = true)]
async fn records_and_foreign_writes() {
    histories(Style::Records).await;
}

fn entry(version: u64) -> Entry {
    Entry::new(Key::parse("a").unwrap(), "v", Version::new(version, 0))
}

#[tokio::test(start_paused = true)]
async fn a_hub_rides_out_what_passes_and_ends_by_what_lasts() {
    let hub = Hub::new();
    let answers = Answers::default();
    answers.lock().unwrap().extend([
        Err(ErrorKind::Unavailable),
        Err(ErrorKind::Other),
        Err(ErrorKind::InvalidArgument),
        Ok(vec![Item::Entry(entry(1))]),
        Err(ErrorKind::PermissionDenied),
    ]);
    let mut watch = hub_watch(&hub, &answers);
    assert_eq!(hub.subscribers(), 1, "it listens before it is polled");
    assert_eq!(soon(watch.next()).await.unwrap().unwrap(), WatchEvent::Put(entry(1)));
    assert_eq!(soon(watch.next()).await.unwrap().unwrap(), WatchEvent::Synced);
    hub.publish(&WatchEvent::Put(entry(1)));
    hub.publish(&WatchEvent::Put(entry(2)));
    assert_eq!(
        soon(watch.next()).await.unwrap().unwrap(),
        WatchEvent::Put(entry(2)),
        "and not the first again"
    );
    hub.missed();
    assert_eq!(soon(watch.next()).await.unwrap().unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert!(soon(watch.next()).await.is_none());
    assert_eq!(hub.subscribers(), 0, "nothing listens any more");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_watch_stops_all_its_work() {
    let hub = Hub::new();
    let answers = Answers::default();
    answers.lock().unwrap().push_back(Ok(vec![Item::Entry(entry(1))]));
    let mut watch = hub_watch(&hub, &answers);
    assert_eq!(soon(watch.next()).await.unwrap().unwrap(), WatchEvent::Put(entry(1)));
    drop(watch);
    assert_eq!((hub.subscribers(), Arc::strong_count(&answers)), (0, 1));
}

#[test]
fn without_a_runtime_a_slow_reader_lists_again_too() {
    let hub = Hub::new();
    let answers = Answers::default();
    let pages = [1, 9000].map(|version| Ok(vec![Item::Entry(entry(version))]));
    answers.lock().unwrap().extend(pages);
    let mut watch = hub_watch(&hub, &answers);
    let mut next = || watch.next().now_or_never().expect("there is one").unwrap().unwrap();
    assert_eq!((next(), next()), (WatchEvent::Put(entry(1)), WatchEvent::Synced));
    (2..9000).for_each(|version| hub.publish(&WatchEvent::Put(entry(version))));
    assert_eq!((next(), next()), (WatchEvent::Put(entry(9000)), WatchEvent::Synced));
    assert!(watch.next().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn lists_again_are_spread_at_random() {
    let hub = Hub::new();
    let began = Instant::now();
    let crowd = (0..200).map(|_| {
        let answers = Answers::default();
        answers.lock().unwrap().extend([Ok(Vec::new()), Ok(Vec::new())]);
        (hub_watch(&hub, &answers), hub.clone())
    });
    let listed_again = crowd.map(|(mut watch, hub)| async move {
        assert_eq!(soon(watch.next()).await.unwrap().unwrap(), WatchEvent::Synced);
        assert_eq!(began.elapsed(), Duration::ZERO, "the first list waits for nothing");
        hub.missed();
        assert_eq!(soon(watch.next()).await.unwrap().unwrap(), WatchEvent::Synced);
        began.elapsed().as_millis() / 10
    });
    let tenths = futures::future::join_all(listed_again).await;
    for tenth in 0..5 {
        let among = tenths.iter().filter(|at| **at == tenth).count();
        assert!(among >= 10, "{among} of 200 in {tenth}0 ms: {tenths:?}");
    }
}
