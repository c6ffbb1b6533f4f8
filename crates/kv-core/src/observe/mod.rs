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
//! | [`lost`](Observer::lost) | when a lock or a lease is lost that was neither given back nor closed, and by which [cause](Cause) |
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

mod origin;
mod told;

pub(crate) use origin::{Observed, Observing, Origin, poll};
pub use told::{Attempt, Call, Cause, End, Holding, Lag, Loss, Renewal};

use std::{sync::Arc, time::Duration};

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
