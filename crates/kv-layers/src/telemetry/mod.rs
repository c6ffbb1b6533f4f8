//! `Metrics`: what a handle does, told to the `metrics` crate; and `OpenTelemetry`, which tells the
//! same to a meter.

mod metric;
#[cfg(feature = "opentelemetry")]
mod otel;
mod tell;

#[cfg(feature = "opentelemetry")]
pub use otel::OpenTelemetry;

use kv_core::observe::{Attempt, Call, End, Holding, Lag, Loss, Renewal};
use metric::{Kind, Labels, Metric};
use metrics::{Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use std::time::Duration;
use tell::{Sink, observes};

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
/// | `kv.lock.wait.duration` | histogram, s: each acquisition of a lock by `acquire` or `acquire_within`, the wait in line included | `error.type` |
/// | `kv.request.attempts` | counter: attempts at requests to a server, of which a call can make several | `db.operation.name`; `error.type` |
/// | `kv.outcome_unknown` | counter: writes that may or may not have happened | `db.operation.name` |
/// | `kv.lease.slack` | histogram, s: at each renewal of a lock or lease, what was left of it before; close to 0 it is about to be lost | `db.operation.name`, which began it; `error.type` |
/// | `kv.lock.lost`, `kv.lease.lost` | counters: what was lost, and neither given back nor closed | `error.type`; `kv.lost.cause` |
/// | `kv.lock.held`, `kv.lease.held` | gauges: what is held by this handle | |
/// | `kv.watch.open` | gauge: watches that are open | `db.operation.name` |
/// | `kv.watch.resync` | counter: watches that had to read everything again | `db.operation.name` |
/// | `kv.watch.lag` | histogram, s: how long each change has waited for the reader of its watch | `db.operation.name` |
///
/// `db.system.name` is the name of the backend, but for DynamoDB, which the conventions call
/// `aws.dynamodb`. `error.type` is there only where something failed: the name of the
/// [`ErrorKind`](kv_core::ErrorKind), or `dropped` for a call that nobody waited for any more.
/// `kv.lost.cause` is the name of the [`Cause`](kv_core::observe::Cause).
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
        for metric in Metric::ALL {
            let about = metric.about();
            match about.kind {
                Kind::Seconds => describe_histogram!(about.name, Unit::Seconds, about.description),
                Kind::Count => describe_counter!(about.name, Unit::Count, about.description),
                Kind::Level => describe_gauge!(about.name, Unit::Count, about.description),
            }
        }
        Self
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn listed(labels: Labels) -> Vec<Label> {
    labels.pairs().map(|(name, label)| Label::from_static_parts(name, label)).collect()
}

impl Sink for Metrics {
    fn record(&self, metric: Metric, labels: Labels, value: Duration) {
        histogram!(metric.about().name, listed(labels)).record(value.as_secs_f64());
    }

    fn add(&self, metric: Metric, labels: Labels, by: i8) {
        let about = metric.about();
        if about.kind == Kind::Level {
            gauge!(about.name, listed(labels)).increment(f64::from(by));
        } else {
            counter!(about.name, listed(labels)).increment(u64::from(by.unsigned_abs()));
        }
    }
}

observes!(Metrics);
