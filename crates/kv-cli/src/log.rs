//! Listens to the log of the library. The outages that a command rides out go to standard error,
//! and warnings of the opening are kept for `doctor`; nothing else is shown.

use crate::{lines::V, out::note};
use serde::Serialize;
use std::{
    fmt::{self, Write as _},
    io::{self, Write as _},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
};

/// The module of the library that logs outages.
const OUTAGES: &str = "kv_core::backend::outage";

static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The part of the log that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Nothing,
    /// The beginnings and the ends of outages, as they come.
    Outages {
        json: bool,
    },
    /// Warnings that are no outages are kept.
    Warnings,
}

/// Begins to listen to the log. It can be called once.
pub(crate) fn listen(shown: Shown) {
    if shown != Shown::Nothing {
        // Nobody else listens in this program.
        let _ = tracing::subscriber::set_global_default(Log { shown });
    }
}

/// Returns the warnings so far, a sentence each.
pub(crate) fn warnings() -> Vec<String> {
    WARNINGS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Tells that the program waits for a store that others have, as for one that is away.
pub(crate) fn waits(why: &kv_core::Error) {
    tracing::warn!(target: OUTAGES, error = %why, "it waits");
}

/// Tells that it waits no longer.
pub(crate) fn waited(lasted: Duration) {
    tracing::info!(target: OUTAGES, ?lasted, "the wait is over");
}

struct Log {
    shown: Shown,
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_outage = metadata.target() == OUTAGES;
        metadata.is_event()
            && match self.shown {
                Shown::Nothing => false,
                Shown::Outages { .. } => is_outage,
                Shown::Warnings => !is_outage && *metadata.level() <= Level::WARN,
            }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }

    fn event(&self, event: &Event<'_>) {
        let mut words = Words::default();
        event.record(&mut words);
        match self.shown {
            Shown::Nothing => {}
            Shown::Warnings => {
                WARNINGS.lock().unwrap_or_else(PoisonError::into_inner).push(words.message);
            }
            Shown::Outages { json } => tell(*event.metadata().level() <= Level::WARN, &words, json),
        }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// The fields of a line of the log that people read.
#[derive(Debug, Default)]
struct Words {
    message: String,
    /// The error with which an outage began, or the time that it lasted.
    rest: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            "error" => write!(self.rest, ": {value:?}"),
            "lasted" => write!(self.rest, ", which lasted {value:.1?}"),
            _ => Ok(()),
        };
    }
}

#[derive(Serialize)]
struct OutageLine<'a> {
    v: u8,
    outage: &'static str,
    message: &'a str,
}

fn tell(begins: bool, words: &Words, json: bool) {
    let message = format!("{}{}", words.message, words.rest);
    if !json {
        return note(&message);
    }
    let line = OutageLine { v: V, outage: if begins { "begun" } else { "over" }, message: &message };
    if let Ok(line) = serde_json::to_string(&line) {
        let _ = writeln!(io::stderr(), "{line}");
    }
}
