//! Makes measured values of what an observer is told.

use super::metric::{Labels, Metric};
use kv_core::{
    ErrorKind,
    observe::{Attempt, Call, End, Holding, Lag, Loss, Renewal},
};
use std::time::Duration;

/// Whoever keeps the measured values.
pub(super) trait Sink {
    /// Keeps a duration.
    fn record(&self, metric: Metric, labels: Labels, value: Duration);
    /// Adds to a count.
    fn add(&self, metric: Metric, labels: Labels, by: i8);
}

/// Makes an observer of a [`Sink`].
macro_rules! observes {
    ($sink:ty) => {
        impl kv_core::observe::Observer for $sink {
            fn call_ended(&self, call: &Call<'_>, end: End<'_>, took: Duration) {
                tell::call_ended(self, call, end, took);
            }
            fn attempted(&self, attempt: &Attempt<'_>) {
                tell::attempted(self, attempt);
            }
            fn renewed(&self, renewal: &Renewal<'_>) {
                tell::renewed(self, renewal);
            }
            fn watch_began(&self, watch: &Call<'_>) {
                self.add(Metric::WatchOpen, tell::of_watch(watch), 1);
            }
            fn watch_ended(&self, watch: &Call<'_>) {
                self.add(Metric::WatchOpen, tell::of_watch(watch), -1);
            }
            fn resynced(&self, watch: &Call<'_>) {
                self.add(Metric::WatchResync, tell::of_watch(watch), 1);
            }
            fn lagged(&self, lag: &Lag) {
                tell::lagged(self, lag);
            }
            fn took(&self, holding: &Holding<'_>) {
                tell::held(self, holding, 1);
            }
            fn let_go(&self, holding: &Holding<'_>) {
                tell::held(self, holding, -1);
            }
            fn lost(&self, loss: &Loss<'_>) {
                tell::lost(self, loss);
            }
        }
    };
}
pub(super) use observes;

pub(super) fn call_ended(sink: &impl Sink, call: &Call<'_>, end: End<'_>, took: Duration) {
    let error = match end {
        End::Answered => None,
        End::Failed(error) => Some(error.kind().as_str()),
        End::Dropped => Some("dropped"),
    };
    let of_system = Labels::of(call.backend);
    let of_call = Labels { operation: Some(call.operation), ..of_system };
    // A wait in line would hide how long calls take.
    if matches!(call.operation, "acquire" | "acquire_within") {
        sink.record(Metric::LockWait, Labels { error, ..of_system }, took);
    } else {
        sink.record(Metric::Duration, Labels { error, ..of_call }, took);
    }
    if let End::Failed(error) = end
        && error.kind() == ErrorKind::OutcomeUnknown
    {
        sink.add(Metric::OutcomeUnknown, of_call, 1);
    }
}

pub(super) fn attempted(sink: &impl Sink, attempt: &Attempt<'_>) {
    let error = attempt.error.map(|error| error.kind().as_str());
    let labels = Labels { operation: Some(attempt.operation), error, ..Labels::of(attempt.backend) };
    sink.add(Metric::Attempts, labels, 1);
}

pub(super) fn renewed(sink: &impl Sink, renewal: &Renewal<'_>) {
    let error = renewal.error.map(|error| error.kind().as_str());
    let labels = Labels { operation: Some(renewal.operation), error, ..Labels::of(renewal.backend) };
    sink.record(Metric::LeaseSlack, labels, renewal.slack);
}

pub(super) fn of_watch(watch: &Call<'_>) -> Labels {
    Labels { operation: Some(watch.operation), ..Labels::of(watch.backend) }
}

pub(super) fn lagged(sink: &impl Sink, lag: &Lag) {
    let labels = Labels { operation: Some(lag.operation), ..Labels::of(lag.backend) };
    sink.record(Metric::WatchLag, labels, lag.waited);
}

pub(super) fn held(sink: &impl Sink, holding: &Holding<'_>, by: i8) {
    let metric = if holding.operation == "lock" { Metric::LockHeld } else { Metric::LeaseHeld };
    sink.add(metric, Labels::of(holding.backend), by);
}

pub(super) fn lost(sink: &impl Sink, loss: &Loss<'_>) {
    let (error, cause) = (Some(loss.error.kind().as_str()), Some(loss.cause.as_str()));
    let metric = if loss.operation == "lock" { Metric::LockLost } else { Metric::LeaseLost };
    sink.add(metric, Labels { error, cause, ..Labels::of(loss.backend) }, 1);
}
