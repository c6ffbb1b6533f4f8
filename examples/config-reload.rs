//! A web service whose settings follow the store while it answers requests:
//!
//! ```text
//! cargo run --example config-reload            # on an embedded store, in the file config-reload.redb
//! cargo run --example config-reload -- URL     # on the store of this URL
//! ```
//!
//! An operator, here a task, changes the settings under load, and makes a mistake. The program
//! fails if one of its claims is false: no request sees half a change, nobody sees the mistake, and
//! the status tells who runs what.

use axum::{Router, extract::State, routing::get};
use kv_config::{Live, Source, Values, live, status};
use kv_core::{Error, ErrorKind, Kv, Result};
use serde::{Deserialize, Serialize};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

const CLIENTS: usize = 4;
const CHANGES: u32 = 10;

#[derive(Deserialize, Serialize)]
struct Settings {
    greeting: String,
    limits: Limits,
}

/// Two values that belong together: a burst is ten times the requests.
#[derive(Clone, Copy, Deserialize, Serialize)]
struct Limits {
    requests: u32,
    burst: u32,
}

impl Settings {
    fn check(&self) -> Result<(), &'static str> {
        let Limits { requests, burst } = self.limits;
        if burst == 10 * requests { Ok(()) } else { Err("`burst` is not ten times `requests`") }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redb://config-reload.redb".into());
    let kv = kv_examples::open(&url).await?;
    kv.delete_tree("config-reload").await?; // removes what an earlier run left
    set_limits(&kv, 1).await?;

    let defaults = Settings { greeting: "Hello".into(), limits: Limits { requests: 1, burst: 10 } };
    let settings = live::<Settings>(&kv, "config-reload/config")
        .defaults(Values::of(&defaults))
        .validate(Settings::check)
        .report("config-reload/status/this")
        .await?;
    println!("the service begins with {} requests", settings.get().limits.requests);

    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let service = Router::new().route("/", get(answer)).with_state(settings.clone());
    let serving = tokio::spawn(async move { axum::serve(listener, service).await });

    let is_over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(ask_again_and_again(address, is_over.clone()));
    }
    operate(&kv, settings.clone()).await?;
    is_over.store(true, Ordering::Relaxed);
    let mut answers = 0;
    while let Some(client) = clients.join_next().await {
        answers += client.map_err(|e| Error::new(ErrorKind::Other, "a client failed").with_cause(e))??;
    }
    serving.abort();
    claim(answers > 0, "the service answers")?;
    println!("no request saw half a change, nor the mistake");

    // The report follows in the background.
    let stored = Source::tree(&kv, "config-reload/config").snapshot().await?.generation();
    let mut reports = kv.watch_tree("config-reload/status").await?;
    while status(&kv, "config-reload/status").await?.running(&stored) != 1 {
        reports.event().await?;
    }
    println!("the status tells that one process runs what is stored");
    kv.close().await
}

/// Answers a request. It asks for the settings once, so that all of its answer is of one moment.
async fn answer(State(settings): State<Live<Settings>>) -> String {
    let now = settings.get();
    let Limits { requests, burst } = now.limits;
    format!("{}: {requests} requests, {burst} at once", now.greeting)
}

/// Changes the settings as somebody else would.
async fn operate(kv: &Kv, mut settings: Live<Settings>) -> Result<()> {
    for requests in 2..2 + CHANGES {
        set_limits(kv, requests).await?;
        while settings.changed().await?.limits.requests != requests {}
    }
    println!("the settings have changed {CHANGES} times");

    kv.put("config-reload/config/limits/requests", "many").await?;
    let rejected = settings.next_rejected().await?;
    println!("rejected: {}", rejected.error.message());
    let requests = 2 + CHANGES;
    claim(settings.get().limits.requests == requests - 1, "what was valid stays")?;
    set_limits(kv, requests).await?;
    while settings.changed().await?.limits.requests != requests {}
    println!("the mistake is corrected: {requests} requests");
    Ok(())
}

/// Sets both limits, at once.
async fn set_limits(kv: &Kv, requests: u32) -> Result<()> {
    let burst = kv.put("config-reload/config/limits/burst", (10 * requests).to_string());
    let requests = kv.put("config-reload/config/limits/requests", requests.to_string());
    claim(kv.transact().then(requests).then(burst).await?.is_committed(), "nothing is in the way")
}

/// Asks the service until it is over, and looks at each answer; returns how many there were.
async fn ask_again_and_again(address: SocketAddr, is_over: Arc<AtomicBool>) -> Result<u64> {
    let mut answers = 0;
    while !is_over.load(Ordering::Relaxed) {
        let answer = ask(address).await.map_err(failed)?;
        let numbers: Vec<u64> =
            answer.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
        let [.., requests, burst] = numbers[..] else {
            return Err(Error::new(ErrorKind::Other, format!("no answer: {answer:?}")));
        };
        claim(answer.contains("Hello: ") && burst == 10 * requests, "a request sees whole settings")?;
        answers += 1;
    }
    Ok(answers)
}

/// Sends one request, and returns the answer with its head.
async fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn failed(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Other, "the service cannot be reached").with_cause(error)
}

fn claim(holds: bool, what: &'static str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::new(ErrorKind::Other, format!("not true: {what}"))) }
}
