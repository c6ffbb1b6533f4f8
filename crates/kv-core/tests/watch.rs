//! The engine of watches, by histories at random over a server in memory.

#[path = "watch/judge.rs"]
mod judge;
#[path = "watch/server.rs"]
mod server;
#[path = "watch/source.rs"]
mod source;

use futures::StreamExt;
use judge::Judge;
use kv_core::{Error, ErrorKind, WatchEvent, WatchStream, backend::watch};
use server::{Server, Style};
use source::{Client, Seen, any_end};
use std::sync::{Arc, Mutex, atomic::Ordering::SeqCst};

/// How many histories there are of each style.
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

    /// The next event; `None` once nothing happens any more.
    async fn next(&mut self) -> Option<Result<WatchEvent, Error>> {
        tokio::select! {
            biased;
            event = self.watch.next() => Some(event.expect("a watch ends by an error")),
            () = self.seen.quiet.notified() => None,
        }
    }

    /// Judges all events; what ended the watch.
    async fn run(&mut self) -> Option<Error> {
        while let Some(event) = self.next().await {
            match event {
                Ok(event) => self.judge.event(event, &self.server.lock().unwrap()),
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
