//! Tells an [`Observer`] what a handle does: for metrics, and for tests.
//!
//! A layer sees the calls that go through it. An observer sees what only the inside knows as well:
//! how many attempts a call took, how close a lock came to its end before it was renewed, when a
//! watch had to read everything again, which lock was lost. A handle without an observer spends a
//! comparison on all of that, and allocates nothing for it.
//!
//! | told | when |
//! |---|---|
//! | [`call_began`](Observer::call_began), [`call_ended`](Observer::call_ended) | around each call to the store: a listing makes one for each page, `delete_tree` one for each batch, an update one for each read and write; also `release`, `revoke` and `close` |
//! | [`attempted`](Observer::attempted) | for each attempt at a request to a server, on backends with a network |
//! | [`renewed`](Observer::renewed) | for each attempt to renew the life of a lock or lease; locks that share a session are renewed together |
//! | [`watch_began`](Observer::watch_began), [`watch_ended`](Observer::watch_ended) | when a watch is open, and when it has ended or is dropped |
//! | [`resynced`](Observer::resynced) | when the reader of a watch comes to a `Synced` behind the first |
//! | [`lagged`](Observer::lagged) | for each change that a watch gives from its queue: how long it has waited there for the reader |
//! | [`took`](Observer::took), [`let_go`](Observer::let_go) | when a lock or a lease is there, and when it is given back, or lost |
//! | [`lost`](Observer::lost) | when a lock or a lease is lost that was neither given back nor closed |
//!
//! A call that is refused for its name or its options never begins. What goes on in the background
//! after a guard or a future was dropped is not told.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
//! use kv_core::observe::{Call, End, Observer};
//! use std::{sync::{Arc, atomic::{AtomicU64, Ordering}}, time::Duration};
//!
//! #[derive(Default)]
//! struct Conflicts(AtomicU64);
//!
//! impl Observer for Conflicts {
//!     fn call_ended(&self, call: &Call<'_>, end: End<'_>, _took: Duration) {
//!         if let End::Failed(error) = end && error.is_conflict() {
//!             println!("{} on {}: {}", call.operation, call.backend, error.kind()); // fine as labels
//!             self.0.fetch_add(1, Ordering::Relaxed);
//!         }
//!     }
//! }
//!
//! let conflicts = Arc::new(Conflicts::default());
//! let kv = kv_memory::open("memory://").await?.with_observer(conflicts.clone());
//! kv.put("a", "1").if_missing().await?;
//! kv.put("a", "2").if_missing().await.unwrap_err();
//! assert_eq!(conflicts.0.load(Ordering::Relaxed), 1);
//! # Ok(()) }
//! ```

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

/// Returns the name of a backend's system, as OpenTelemetry's conventions for databases have it in
/// `db.system.name`: that of the backend, but for DynamoDB, which they call `aws.dynamodb`.
///
/// ```
/// assert_eq!(kv_core::observe::system_name("dynamodb"), "aws.dynamodb");
/// assert_eq!(kv_core::observe::system_name("etcd"), "etcd");
/// ```
#[must_use]
pub fn system_name(backend: &'static str) -> &'static str {
    if backend == "dynamodb" { "aws.dynamodb" } else { backend }
}

/// Whoever is told what a handle does, by [`Kv::with_observer`](crate::Kv::with_observer). The
/// [module](self) says what is told when.
///
/// The methods are called in the middle of the work, from any task: they should count and return.
/// Each does nothing unless it is written. Of one call, `began` and `ended` come in pairs.
pub trait Observer: Send + Sync + 'static {
    /// Hears that a call has begun.
    fn call_began(&self, call: &Call<'_>) {
        let _ = call;
    }

    /// Hears how a call has ended, and how long it took.
    fn call_ended(&self, call: &Call<'_>, end: End<'_>, took: Duration) {
        let _ = (call, end, took);
    }

    /// Hears of one attempt at a request to a server.
    fn attempted(&self, attempt: &Attempt<'_>) {
        let _ = attempt;
    }

    /// Hears of an attempt to renew the life of locks or of a lease.
    fn renewed(&self, renewal: &Renewal<'_>) {
        let _ = renewal;
    }

    /// Hears that a watch is open.
    fn watch_began(&self, watch: &Call<'_>) {
        let _ = watch;
    }

    /// Hears that a watch has ended, or is dropped.
    fn watch_ended(&self, watch: &Call<'_>) {
        let _ = watch;
    }

    /// Hears that a watch had to read everything again.
    fn resynced(&self, watch: &Call<'_>) {
        let _ = watch;
    }

    /// Hears how long a change has waited for the reader of its watch.
    fn lagged(&self, lag: &Lag) {
        let _ = lag;
    }

    /// Hears that a lock or a lease is there.
    fn took(&self, holding: &Holding<'_>) {
        let _ = holding;
    }

    /// Hears that a lock or a lease is given back, or lost.
    fn let_go(&self, holding: &Holding<'_>) {
        let _ = holding;
    }

    /// Hears that a lock or a lease was lost.
    fn lost(&self, loss: &Loss<'_>) {
        let _ = loss;
    }
}

impl<O: Observer + ?Sized> Observer for Arc<O> {
    fn call_began(&self, call: &Call<'_>) {
        (**self).call_began(call);
    }
    fn call_ended(&self, call: &Call<'_>, end: End<'_>, took: Duration) {
        (**self).call_ended(call, end, took);
    }
    fn attempted(&self, attempt: &Attempt<'_>) {
        (**self).attempted(attempt);
    }
    fn renewed(&self, renewal: &Renewal<'_>) {
        (**self).renewed(renewal);
    }
    fn watch_began(&self, watch: &Call<'_>) {
        (**self).watch_began(watch);
    }
    fn watch_ended(&self, watch: &Call<'_>) {
        (**self).watch_ended(watch);
    }
    fn resynced(&self, watch: &Call<'_>) {
        (**self).resynced(watch);
    }
    fn lagged(&self, lag: &Lag) {
        (**self).lagged(lag);
    }
    fn took(&self, holding: &Holding<'_>) {
        (**self).took(holding);
    }
    fn let_go(&self, holding: &Holding<'_>) {
        (**self).let_go(holding);
    }
    fn lost(&self, loss: &Loss<'_>) {
        (**self).lost(loss);
    }
}

/// A call, or a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call<'a> {
    /// The operation, as in an error: `put`, `list`, …
    pub operation: &'static str,
    /// The name of the backend.
    pub backend: &'static str,
    /// The key, directory or lock that the call is about. There are too many of them for the label
    /// of a metric.
    pub key: Option<&'a str>,
}

/// The end of a call.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// It was answered.
    Answered,
    /// It failed. [`Error::kind`] is fit for a label.
    Failed(&'a Error),
    /// Its future was dropped.
    Dropped,
}

/// One attempt at a request.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Attempt<'a> {
    /// The operation that the request is a part of; `renew` for renewals.
    pub operation: &'static str,
    /// The name of the backend.
    pub backend: &'static str,
    /// The number of the attempt at this request, from 1 on.
    pub number: u32,
    /// The failure; `None` where the server answered.
    pub error: Option<&'a Error>,
    /// The time that it took.
    pub took: Duration,
}

/// One attempt to renew the life of locks or of a lease.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Renewal<'a> {
    /// The operation that began the life: `lock`, `lease`, or a put with a TTL.
    pub operation: &'static str,
    /// The name of the backend.
    pub backend: &'static str,
    /// The TTL as granted.
    pub ttl: Duration,
    /// The time that was left of the life when the attempt ended, had it failed: by the owner's
    /// clock, to the moment from which on the lock counts as lost. A metric of its least tells how
    /// close it came.
    pub slack: Duration,
    /// The failure; `None` where the life was renewed.
    pub error: Option<&'a Error>,
}

/// The wait of one change for the reader of its watch.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Lag {
    /// The operation that began the watch: `watch`, `watch_tree` or `lock_holder`.
    pub operation: &'static str,
    /// The name of the backend.
    pub backend: &'static str,
    /// The time from the arrival of the change to its reading. Of what was there when the watch
    /// began nothing is told.
    pub waited: Duration,
}

/// A lock or a lease that this handle has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holding<'a> {
    /// The kind of what is held: `lock` or `lease`.
    pub operation: &'static str,
    /// The name of the backend.
    pub backend: &'static str,
    /// The name of the lock.
    pub lock: Option<&'a str>,
}

/// A lock or a lease that was lost.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Loss<'a> {
    /// The kind of what was lost: `lock` or `lease`.
    pub operation: &'static str,
    /// The name of the backend.
    pub backend: &'static str,
    /// The name of the lock.
    pub lock: Option<&'a str>,
    /// The reason, as `lost` of the guard or the lease gives it.
    pub error: &'a Error,
}

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

    pub(crate) fn lost(&self, operation: &'static str, lock: Option<&str>, error: &Error) {
        self.observer.lost(&Loss { operation, backend: self.backend, lock, error });
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
