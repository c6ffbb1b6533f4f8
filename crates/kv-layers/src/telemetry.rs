//! `Metrics`: what a handle does, told to the `metrics` crate.

use kv_core::{
    ErrorKind,
    observe::{Attempt, Call, End, Holding, Lag, Loss, Observer, Renewal, system_name},
};
use metrics::{Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use std::time::Duration;

const DURATION: &str = "db.client.operation.duration";
const LOCK_WAIT: &str = "kv.lock.wait.duration";
const ATTEMPTS: &str = "kv.request.attempts";
const UNKNOWN: &str = "kv.outcome_unknown";
const SLACK: &str = "kv.lease.slack";
const LOCK_LOST: &str = "kv.lock.lost";
const LEASE_LOST: &str = "kv.lease.lost";
const LOCK_HELD: &str = "kv.lock.held";
const LEASE_HELD: &str = "kv.lease.held";
const WATCHES: &str = "kv.watch.open";
const RESYNC: &str = "kv.watch.resync";
const LAG: &str = "kv.watch.lag";

/// The observer that tells what a handle does to the [`metrics`] crate, for
/// [`Kv::with_observer`](kv_core::Kv::with_observer): whatever exporter the program has installed
/// there gets it. It is no layer, because a layer would not see renewals, attempts and losses.
///
/// The names are those of OpenTelemetry's conventions for databases, as far as they have one. No
/// key, value or text of an error is in any of them.
///
/// | metric | is | labels beside `db.system.name` |
/// |---|---|---|
/// | `db.client.operation.duration` | histogram, s: each call to the store | `db.operation.name`; `error.type` |
/// | `kv.lock.wait.duration` | histogram, s: each acquisition of a lock, the wait in line included | `error.type` |
/// | `kv.request.attempts` | counter: attempts at requests to a server, of which a call can make several | `db.operation.name`; `error.type` |
/// | `kv.outcome_unknown` | counter: writes that may or may not have happened | `db.operation.name` |
/// | `kv.lease.slack` | histogram, s: at each renewal of a lock or lease, what was left of it before; close to 0 it is about to be lost | `db.operation.name`, which began it; `error.type` |
/// | `kv.lock.lost`, `kv.lease.lost` | counters: what was lost, and neither given back nor closed | `error.type` |
/// | `kv.lock.held`, `kv.lease.held` | gauges: what is held by this handle | |
/// | `kv.watch.open` | gauge: watches that are open | `db.operation.name` |
/// | `kv.watch.resync` | counter: watches that had to read everything again | `db.operation.name` |
/// | `kv.watch.lag` | histogram, s: how long each change has waited for the reader of its watch | `db.operation.name` |
///
/// `db.system.name` is the name of the backend, but for DynamoDB, which the conventions call
/// `aws.dynamodb`. `error.type` is there only where something failed: the name of the
/// [`ErrorKind`], or `dropped` for a call that nobody waited for any more.
///
/// # Cost
/// A list of labels for each metric, and what the exporter does; without an exporter, the list.
///
/// # Example
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_layers::Metrics;
///
/// // Here the program installs its exporter, with `Metrics::BUCKETS` for the histograms.
/// let kv = kv_memory::open("memory://").await?.with_observer(Metrics::new());
/// kv.put("a", "1").await?; // db.client.operation.duration{db.operation.name="put", …}
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Metrics;

impl Metrics {
    /// The bounds, in seconds, that OpenTelemetry's conventions advise for the buckets of
    /// durations.
    pub const BUCKETS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

    /// Makes the observer, and describes the metrics to the exporter that is installed by then.
    #[must_use]
    pub fn new() -> Self {
        describe_histogram!(DURATION, Unit::Seconds, "Duration of calls to the store");
        describe_histogram!(LOCK_WAIT, Unit::Seconds, "Duration of acquisitions of locks");
        describe_counter!(ATTEMPTS, Unit::Count, "Attempts at requests to a server");
        describe_counter!(UNKNOWN, Unit::Count, "Writes that may or may not have happened");
        describe_histogram!(SLACK, Unit::Seconds, "Time that was left of a lock or lease at its renewal");
        describe_counter!(LOCK_LOST, Unit::Count, "Locks that were lost");
        describe_counter!(LEASE_LOST, Unit::Count, "Leases that were lost");
        describe_gauge!(LOCK_HELD, Unit::Count, "Locks that are held");
        describe_gauge!(LEASE_HELD, Unit::Count, "Leases that are held");
        describe_gauge!(WATCHES, Unit::Count, "Watches that are open");
        describe_histogram!(
            LAG,
            Unit::Seconds,
            "Time that changes have waited for the reader of their watch"
        );
        describe_counter!(RESYNC, Unit::Count, "Watches that had to read everything again");
        Self
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the labels of a metric.
fn labels(backend: &'static str, operation: Option<&'static str>, error: Option<&'static str>) -> Vec<Label> {
    let system = Label::from_static_parts("db.system.name", system_name(backend));
    let operation = operation.map(|name| Label::from_static_parts("db.operation.name", name));
    let error = error.map(|name| Label::from_static_parts("error.type", name));
    [Some(system), operation, error].into_iter().flatten().collect()
}

/// Returns the name of the gauge of what is held.
fn held(holding: &Holding<'_>) -> &'static str {
    if holding.operation == "lock" { LOCK_HELD } else { LEASE_HELD }
}

impl Observer for Metrics {
    fn call_ended(&self, call: &Call<'_>, end: End<'_>, took: Duration) {
        let error = match end {
            End::Answered => None,
            End::Failed(error) => Some(error.kind().as_str()),
            End::Dropped => Some("dropped"),
        };
        let (backend, operation) = (call.backend, call.operation);
        // A wait in line would hide how long calls take.
        if operation == "lock" {
            histogram!(LOCK_WAIT, labels(backend, None, error)).record(took.as_secs_f64());
        } else {
            histogram!(DURATION, labels(backend, Some(operation), error)).record(took.as_secs_f64());
        }
        if let End::Failed(error) = end
            && error.kind() == ErrorKind::OutcomeUnknown
        {
            counter!(UNKNOWN, labels(backend, Some(operation), None)).increment(1);
        }
    }

    fn attempted(&self, attempt: &Attempt<'_>) {
        let error = attempt.error.map(|error| error.kind().as_str());
        counter!(ATTEMPTS, labels(attempt.backend, Some(attempt.operation), error)).increment(1);
    }

    fn renewed(&self, renewal: &Renewal<'_>) {
        let error = renewal.error.map(|error| error.kind().as_str());
        let labels = labels(renewal.backend, Some(renewal.operation), error);
        histogram!(SLACK, labels).record(renewal.slack.as_secs_f64());
    }

    fn watch_began(&self, watch: &Call<'_>) {
        gauge!(WATCHES, labels(watch.backend, Some(watch.operation), None)).increment(1);
    }

    fn watch_ended(&self, watch: &Call<'_>) {
        gauge!(WATCHES, labels(watch.backend, Some(watch.operation), None)).decrement(1);
    }

    fn lagged(&self, lag: &Lag) {
        let labels = labels(lag.backend, Some(lag.operation), None);
        histogram!(LAG, labels).record(lag.waited.as_secs_f64());
    }

    fn took(&self, holding: &Holding<'_>) {
        gauge!(held(holding), labels(holding.backend, None, None)).increment(1);
    }

    fn let_go(&self, holding: &Holding<'_>) {
        gauge!(held(holding), labels(holding.backend, None, None)).decrement(1);
    }

    fn resynced(&self, watch: &Call<'_>) {
        counter!(RESYNC, labels(watch.backend, Some(watch.operation), None)).increment(1);
    }

    fn lost(&self, loss: &Loss<'_>) {
        let labels = labels(loss.backend, None, Some(loss.error.kind().as_str()));
        if loss.operation == "lock" {
            counter!(LOCK_LOST, labels).increment(1);
        } else {
            counter!(LEASE_LOST, labels).increment(1);
        }
    }
}
