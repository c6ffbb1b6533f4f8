//! Tells the page what happens, as it happens: changes, the services and elections that are there,
//! and the time that an answer of the store takes.

use super::{
    Site,
    records::{self, SHORT},
};
use crate::lines::{Content, V};
use axum::response::{
    IntoResponse, Response,
    sse::{Event, Sse},
};
use kv_core::{
    Kv, Watch, WatchEvent,
    backend::{Emit, stream},
};
use serde::Serialize;
use std::{
    future::pending,
    time::{Duration, Instant},
};
use tokio::time::{MissedTickBehavior, interval};

/// The time between two reads by which the latency is measured, while a page is open.
const LOOK: Duration = Duration::from_secs(1);
/// The key that is read to measure that time. Nothing writes it.
const PROBE: &str = "kv-ui/latency";

/// A change, as the page hears it.
#[derive(Serialize)]
struct ChangeLine<'a> {
    v: u8,
    event: &'static str,
    key: &'a str,
    #[serde(flatten)]
    content: Content<'a>,
    version: String,
}

#[derive(Serialize)]
struct LatencyLine<'a> {
    v: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    micros: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// Tells what happens until the reader leaves.
pub(super) fn feed(site: &Site) -> Response {
    let kv = site.kv.clone();
    Sse::new(stream(|out| async move { tell(&kv, &out).await })).into_response()
}

async fn tell(kv: &Kv, out: &Emit<Event>) -> kv_core::Result<()> {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut watch, mut is_synced) = (None, false);
    match kv.watch_tree("").await {
        Ok(new) => watch = Some(new),
        Err(e) => out.send(over(&e)).await,
    }
    loop {
        tokio::select! {
            event = next(watch.as_mut()) => match event {
                Ok(WatchEvent::Synced) => {
                    out.send(Event::default().event("synced").data("{\"v\":1}")).await;
                    is_synced = true;
                }
                Ok(event) => {
                    // What was there before is in the tree. A record may go before all is told.
                    let is_news = is_synced || matches!(event, WatchEvent::Delete { .. });
                    if let Some(change) = change(&event).filter(|_| is_news) {
                        out.send(change).await;
                    }
                    if let WatchEvent::Put(entry) = &event
                        && let Some(record) = records::told(entry)
                    {
                        out.send(record).await;
                    }
                }
                Err(e) => {
                    watch = None;
                    out.send(over(&e)).await;
                }
            },
            _ = look.tick() => out.send(latency(kv).await).await,
        }
    }
}

async fn next(watch: Option<&mut Watch>) -> kv_core::Result<WatchEvent> {
    match watch {
        Some(watch) => watch.event().await,
        None => pending().await,
    }
}

/// Tells that changes are not told any more, and why.
fn over(error: &kv_core::Error) -> Event {
    #[derive(Serialize)]
    struct OverLine {
        v: u8,
        message: String,
    }
    let line = OverLine { v: V, message: error.to_string() };
    Event::default().event("over").data(serde_json::to_string(&line).unwrap_or_default())
}

fn change(event: &WatchEvent) -> Option<Event> {
    let (event, key, value, version) = match event {
        WatchEvent::Put(entry) => ("put", &entry.key, Some(&entry.value), entry.version),
        WatchEvent::Delete { key, version } => ("delete", key, None, *version),
        WatchEvent::Synced => return None,
    };
    let content = value.filter(|value| value.len() <= SHORT).map(|value| Content::of(value));
    let (key, version) = (key.as_str(), version.to_string());
    let line = ChangeLine { v: V, event, key, content: content.unwrap_or_default(), version };
    Some(Event::default().event("change").data(serde_json::to_string(&line).ok()?))
}

/// Measures how long a read takes.
async fn latency(kv: &Kv) -> Event {
    let began = Instant::now();
    let answer = kv.get(PROBE).await;
    let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    let line = match &answer {
        Ok(_) => LatencyLine { v: V, micros: Some(took), error: None },
        Err(e) => LatencyLine { v: V, micros: None, error: Some(e.kind().as_str()) },
    };
    Event::default().event("latency").data(serde_json::to_string(&line).unwrap_or_default())
}
