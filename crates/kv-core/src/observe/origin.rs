//! The operation in whose name something is done, and its observer, told from wherever it happens.

use super::{Attempt, Call, Cause, End, Holding, Lag, Loss, Observer, Renewal};
use crate::Error;
use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;

/// An observer, with the name of the backend that it observes.
pub(crate) struct Observing {
    pub(crate) observer: Box<dyn Observer>,
    pub(crate) backend: &'static str,
}

impl Observing {
    pub(crate) fn took(&self, operation: &'static str, lock: Option<&str>) {
        self.observer.took(&Holding { operation, backend: self.backend, lock });
    }

    pub(crate) fn let_go(&self, operation: &'static str, lock: Option<&str>) {
        self.observer.let_go(&Holding { operation, backend: self.backend, lock });
    }

    pub(crate) fn lost(&self, operation: &'static str, lock: Option<&str>, cause: Cause, error: &Error) {
        self.observer.lost(&Loss { operation, backend: self.backend, lock, cause, error });
    }
}

/// A call that is observed, or not.
pub(crate) struct Observed<'a>(Option<(Origin, Call<'a>, Instant)>);

impl<'a> Observed<'a> {
    /// Tells that a call begins, if somebody observes it.
    pub(crate) fn begin(
        observing: Option<&Arc<Observing>>,
        operation: &'static str,
        key: Option<&'a str>,
    ) -> Self {
        Self(observing.map(|observing| {
            let call = Call { operation, backend: observing.backend, key };
            observing.observer.call_began(&call);
            (Origin { observing: observing.clone(), operation }, call, Instant::now())
        }))
    }

    /// Returns the origin of what is done for the call.
    pub(crate) fn origin(&self) -> Option<&Origin> {
        self.0.as_ref().map(|(origin, ..)| origin)
    }

    /// Tells that the call has ended with this error, or with an answer.
    pub(crate) fn end(mut self, error: Option<&Error>) {
        self.tell(error.map_or(End::Answered, End::Failed));
    }

    fn tell(&mut self, end: End<'_>) {
        if let Some((origin, call, began)) = self.0.take() {
            origin.observing.observer.call_ended(&call, end, began.elapsed());
        }
    }
}

impl Drop for Observed<'_> {
    fn drop(&mut self) {
        self.tell(End::Dropped);
    }
}

/// The operation in whose name something is done, and who observes it. The engines find it where
/// they run, so that no backend has to hand it on.
#[derive(Clone)]
pub(crate) struct Origin {
    observing: Arc<Observing>,
    operation: &'static str,
}

thread_local! {
    static CURRENT: RefCell<Option<Origin>> = const { RefCell::new(None) };
}

/// Sets back, when it is dropped, what was current before.
pub(crate) struct Entered(Option<Origin>);

impl Drop for Entered {
    fn drop(&mut self) {
        let before = self.0.take();
        // A thread that ends may have dropped it already.
        let _ = CURRENT.try_with(|current| current.replace(before));
    }
}

impl Origin {
    pub(crate) fn new(observing: &Arc<Observing>, operation: &'static str) -> Self {
        Self { observing: observing.clone(), operation }
    }

    /// Returns the origin in which this is polled; `None` where nobody observes.
    pub(crate) fn current() -> Option<Self> {
        CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
    }

    pub(crate) fn enter(&self) -> Entered {
        let entered = CURRENT.try_with(|current| current.replace(Some(self.clone())));
        Entered(entered.ok().flatten())
    }

    /// Returns the origin of another operation, with the same observer.
    pub(crate) fn renamed(&self, operation: &'static str) -> Self {
        Self::new(&self.observing, operation)
    }

    fn watch<'a>(&self, name: &'a str) -> Call<'a> {
        Call { operation: self.operation, backend: self.observing.backend, key: Some(name) }
    }

    /// Tells that the watch in whose name this is is open.
    pub(crate) fn watch_began(&self, name: &str) {
        self.observing.observer.watch_began(&self.watch(name));
    }

    /// Tells that the watch in whose name this is has ended.
    pub(crate) fn watch_ended(&self, name: &str) {
        self.observing.observer.watch_ended(&self.watch(name));
    }

    /// Tells that the watch in whose name this is had to read everything again.
    pub(crate) fn resynced(&self, name: &str) {
        self.observing.observer.resynced(&self.watch(name));
    }

    /// Tells how long a change has waited.
    pub(crate) fn lagged(&self, waited: Duration) {
        let (operation, backend) = (self.operation, self.observing.backend);
        self.observing.observer.lagged(&Lag { operation, backend, waited });
    }

    pub(crate) fn attempted(&self, number: u32, error: Option<&Error>, took: Duration) {
        let (operation, backend) = (self.operation, self.observing.backend);
        self.observing.observer.attempted(&Attempt { operation, backend, number, error, took });
    }

    pub(crate) fn renewed(&self, ttl: Duration, slack: Duration, error: Option<&Error>) {
        let (operation, backend) = (self.operation, self.observing.backend);
        self.observing.observer.renewed(&Renewal { operation, backend, ttl, slack, error });
    }
}

/// Polls the work in this origin.
pub(crate) fn poll<F: Future + ?Sized>(
    origin: Option<&Origin>,
    work: Pin<&mut F>,
    cx: &mut Context<'_>,
) -> Poll<F::Output> {
    let _entered = origin.map(Origin::enter);
    work.poll(cx)
}
