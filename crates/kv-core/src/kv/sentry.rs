//! Tells an observer that a lock or a lease was lost.

use super::{Kv, Shared};
use crate::{
    Error, ErrorKind, Key,
    backend::{AbortOnDrop, Alive},
    observe::{Cause, Observing},
};
use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

/// Tells the observer, once, that a lock or a lease is lost, as long as this lives. It is dropped
/// before anything is given back.
#[derive(Debug)]
pub(super) struct Sentry {
    alive: Alive,
    kind: ErrorKind,
    teller: Arc<Teller>,
    _task: AbortOnDrop,
}

struct Teller {
    observing: Arc<Observing>,
    shared: Arc<Shared>,
    operation: &'static str,
    lock: Option<Key>,
    /// It was told, or is given back.
    is_over: AtomicBool,
}

impl std::fmt::Debug for Teller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Teller")
    }
}

impl Teller {
    /// Tells that it is given back or lost, once.
    fn let_go(&self) -> bool {
        let is_first = !self.is_over.swap(true, Ordering::AcqRel);
        if is_first {
            self.observing.let_go(self.operation, self.lock.as_ref().map(Key::as_str));
        }
        is_first
    }

    fn tell(&self, error: Error, cause: Cause) {
        let is_closed = self.shared.shut.load(Ordering::Acquire);
        if !self.let_go() || is_closed {
            return;
        }
        let lock = self.lock.as_ref().map(Key::as_str);
        let error = error.in_call(self.operation, self.observing.backend, lock);
        self.observing.lost(self.operation, lock, cause, &error);
    }
}

impl Sentry {
    /// Makes one for a lock of this name, or for a lease; `None` where nobody observes.
    pub(super) fn of(kv: &Kv, alive: &Alive, kind: ErrorKind, lock: Option<&Key>) -> Option<Self> {
        let observing = kv.handle.observing.clone()?;
        let operation = if lock.is_some() { "lock" } else { "lease" };
        let (shared, is_over) = (kv.handle.shared.clone(), AtomicBool::new(false));
        observing.took(operation, lock.map(Key::as_str));
        let teller = Arc::new(Teller { observing, shared, operation, lock: lock.cloned(), is_over });
        let (tells, until_closed, lost) = (teller.clone(), kv.until_closed(), alive.lost_by());
        let task = tokio::spawn(async move {
            tokio::select! {
                biased;
                // What is given back by `close` is not lost.
                () = until_closed => {
                    tells.let_go();
                }
                (error, cause) = lost => tells.tell(error.with_kind(kind), cause),
            }
        });
        let task = AbortOnDrop::new(task.abort_handle());
        Some(Self { alive: alive.clone(), kind, teller, _task: task })
    }
}

impl Drop for Sentry {
    fn drop(&mut self) {
        // Whoever gives a lock up because it is lost may come before the task.
        if !self.alive.is_held() {
            let lost = pin!(self.alive.lost_by());
            let (error, cause) = match lost.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(lost) => lost,
                Poll::Pending => {
                    let error = Error::new(self.kind, "no longer held: its time is over");
                    (error, self.alive.by_time())
                }
            };
            self.teller.tell(error.with_kind(self.kind), cause);
        }
        self.teller.let_go();
    }
}
