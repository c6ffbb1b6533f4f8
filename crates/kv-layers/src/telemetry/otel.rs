//! `OpenTelemetry`: what a handle does, told to a meter.

use super::{
    Metrics,
    metric::{Kind, Labels, Metric},
    tell::{self, Sink, observes},
};
use kv_core::observe::{Attempt, Call, End, Holding, Lag, Loss, Renewal};
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram, Meter, UpDownCounter},
};
use std::{fmt, time::Duration};

/// The observer that tells what a handle does to a meter of OpenTelemetry: the same metrics as
/// [`Metrics`], by the same names, with OpenTelemetry's units and the buckets that its conventions
/// advise. It needs the feature `opentelemetry`.
///
/// The gauges of [`Metrics`] are up-down counters here.
///
/// # Cost
/// A list of labels for each metric, and what the meter does.
///
/// # Example
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_layers::OpenTelemetry;
///
/// // The meter of the program's own provider; without one, that of the API does nothing.
/// let meter = opentelemetry::global::meter("my-program");
/// let kv = kv_memory::open("memory://").await?.with_observer(OpenTelemetry::new(&meter));
/// kv.put("a", "1").await?; // db.client.operation.duration{db.operation.name="put", …}
/// # Ok(()) }
/// ```
pub struct OpenTelemetry {
    /// By the number of the metric.
    instruments: Vec<Instrument>,
}

enum Instrument {
    Seconds(Histogram<f64>),
    Count(Counter<u64>),
    Level(UpDownCounter<i64>),
}

impl OpenTelemetry {
    /// Makes the observer, with instruments of this meter.
    #[must_use]
    pub fn new(meter: &Meter) -> Self {
        let instruments = Metric::ALL.into_iter().map(|metric| Instrument::of(metric, meter)).collect();
        Self { instruments }
    }
}

impl Instrument {
    fn of(metric: Metric, meter: &Meter) -> Self {
        let about = metric.about();
        match about.kind {
            Kind::Seconds => Self::Seconds(
                meter
                    .f64_histogram(about.name)
                    .with_unit(about.unit)
                    .with_description(about.description)
                    .with_boundaries(Metrics::BUCKETS.to_vec())
                    .build(),
            ),
            Kind::Count => Self::Count(
                meter
                    .u64_counter(about.name)
                    .with_unit(about.unit)
                    .with_description(about.description)
                    .build(),
            ),
            Kind::Level => Self::Level(
                meter
                    .i64_up_down_counter(about.name)
                    .with_unit(about.unit)
                    .with_description(about.description)
                    .build(),
            ),
        }
    }
}

impl fmt::Debug for OpenTelemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenTelemetry").finish_non_exhaustive()
    }
}

fn listed(labels: Labels) -> Vec<KeyValue> {
    labels.pairs().map(|(name, label)| KeyValue::new(name, label)).collect()
}

impl Sink for OpenTelemetry {
    fn record(&self, metric: Metric, labels: Labels, value: Duration) {
        if let Instrument::Seconds(histogram) = &self.instruments[metric as usize] {
            histogram.record(value.as_secs_f64(), &listed(labels));
        }
    }

    fn add(&self, metric: Metric, labels: Labels, by: i8) {
        match &self.instruments[metric as usize] {
            Instrument::Count(counter) => counter.add(u64::from(by.unsigned_abs()), &listed(labels)),
            Instrument::Level(level) => level.add(i64::from(by), &listed(labels)),
            Instrument::Seconds(_) => {}
        }
    }
}

observes!(OpenTelemetry);
