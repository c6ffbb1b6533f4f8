//! The way of every call to the store, and of all that is given back to it.

use super::{Kv, closing::closed};
use crate::{
    Error, ErrorKind, Result,
    backend::{Alive, Owner, Undo},
    driver::{Deadline, Store},
    observe::{self, Observed, system_name},
};
use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tracing::{Instrument, Span, field::Empty};

/// The kind of a call, which says what the call may have done when it is cut off.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    Read,
    Write,
}

impl Kv {
    /// Opens the span of a call.
    fn span(&self, operation: &'static str, key: Option<&str>) -> Span {
        let backend = self.capabilities().backend;
        let kind = if matches!(backend, "memory" | "redb") { "internal" } else { "client" };
        let span = tracing::debug_span!(
            "kv",
            otel.name = operation,
            otel.kind = kind,
            db.system.name = system_name(backend),
            db.operation.name = operation,
            error.type = Empty,
            otel.status_code = Empty,
            kv.key = Empty,
        );
        if self.handle.shows_keys {
            span.record("kv.key", key);
        }
        span
    }

    pub(super) fn observed<'a>(&self, operation: &'static str, key: Option<&'a str>) -> Observed<'a> {
        Observed::begin(self.handle.observing.as_ref(), operation, key)
    }

    #[cold]
    pub(super) fn in_call(&self, error: Error, operation: &'static str, key: Option<&str>) -> Error {
        error.in_call(operation, self.capabilities().backend, key)
    }

    /// Makes a call to the store. Every call goes this way: it looks whether the handle is closed,
    /// opens the span, keeps the deadline, adds the context to the error, and tells the observer.
    pub(super) async fn call<T>(
        &self,
        operation: &'static str,
        key: Option<&str>,
        does: Does,
        deadline: Deadline,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let observed = self.observed(operation, key);
        // It is counted before the look: `close` waits for each write that found the handle open.
        let _under_way = (does == Does::Write).then(|| self.handle.shared.writes.begin());
        if self.is_closed() {
            let error = self.in_call(closed(), operation, key);
            observed.end(Some(&error));
            return Err(error);
        }
        // A store that answers at once (memory, a cache) would never let other tasks run.
        tokio::task::coop::consume_budget().await;
        let span = self.span(operation, key);
        let answer = async {
            let mut work = pin!(work);
            match deadline.limit(work.as_mut()).await {
                // The store keeps the deadline itself, and it alone knows whether a write was
                // sent.
                None if does == Does::Write => Deadline::after(LAST_WORD).limit(work).await,
                answer => answer,
            }
        };
        let mut answer = pin!(answer.instrument(span.clone()));
        let answer = poll_fn(|cx| observe::poll(observed.origin(), answer.as_mut(), cx)).await;
        let answer = answer.unwrap_or_else(|| Err(cut_off(does, deadline)));
        let answer = answer.map_err(|e| self.in_call(e, operation, key));
        if let Err(e) = &answer {
            span.record("error.type", e.kind().as_str());
            span.record("otel.status_code", "ERROR");
        }
        observed.end(answer.as_ref().err());
        answer
    }

    /// Gives something back within this time, and returns whether there was something to give back.
    /// It goes on in the background when the time is over.
    pub(super) async fn give_back(
        &self,
        operation: &'static str,
        key: Option<&str>,
        undo: Undo,
        within: Duration,
    ) -> Result<bool> {
        let (deadline, observed) = (Deadline::after(within), self.observed(operation, key));
        let mut undoing = pin!(undo.run());
        let undoing = poll_fn(|cx| observe::poll(observed.origin(), undoing.as_mut(), cx));
        let answer = deadline.limit(undoing).await;
        let answer = answer.unwrap_or_else(|| Err(cut_off(Does::Write, deadline)));
        let answer = answer.map_err(|e| self.in_call(e, operation, key));
        observed.end(answer.as_ref().err());
        answer
    }

    /// Returns the owner of a lock or lease that was granted, in whose name it is logged.
    pub(super) fn owner_of(&self, alive: &Alive, what: &'static str) -> Owner {
        let shared = Arc::downgrade(&self.handle.shared);
        let is_shut = move || shared.upgrade().is_none_or(|shared| shared.shut.load(Ordering::Acquire));
        alive.owned(what, self.capabilities().backend, is_shut)
    }

    /// Returns the store and the deadline of a call that begins now.
    pub(super) fn begin(&self, within: Duration) -> (&dyn Store, Deadline) {
        (self.handle.store.as_ref(), Deadline::after(within))
    }
}

/// The time beyond a write's deadline in which the store may still say what became of the write:
/// on a machine that stood still, the deadline of the handle and that of the store fall due at
/// once.
const LAST_WORD: Duration = Duration::from_millis(50);

#[cold]
fn cut_off(does: Does, deadline: Deadline) -> Error {
    match does {
        Does::Read => Error::new(ErrorKind::Timeout, format!("no answer within {deadline}")),
        Does::Write => Error::new(
            ErrorKind::OutcomeUnknown,
            format!(
                "no answer within {deadline}; the write may or may not have happened, so read before writing again"
            ),
        ),
    }
}
