//! The metrics: of each its name, its unit, and its kind.

use kv_core::observe::system_name;

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metric {
    Duration,
    LockWait,
    Attempts,
    OutcomeUnknown,
    LeaseSlack,
    LockLost,
    LeaseLost,
    LockHeld,
    LeaseHeld,
    WatchOpen,
    WatchResync,
    WatchLag,
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A histogram of durations, in seconds.
    Seconds,
    /// A count that grows.
    Count,
    /// A count of what there is, which goes up and down.
    Level,
}

/// Holds what exporters show of a metric.
pub(super) struct About {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// The unit as OpenTelemetry writes it: by the Unified Code for Units of Measure, with a word
    /// in braces for what is counted.
    #[cfg_attr(
        not(feature = "opentelemetry"),
        expect(dead_code, reason = "OpenTelemetry alone has units of counts")
    )]
    pub(super) unit: &'static str,
    pub(super) description: &'static str,
}

impl Metric {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Self; 12] = [
        Self::Duration,
        Self::LockWait,
        Self::Attempts,
        Self::OutcomeUnknown,
        Self::LeaseSlack,
        Self::LockLost,
        Self::LeaseLost,
        Self::LockHeld,
        Self::LeaseHeld,
        Self::WatchOpen,
        Self::WatchResync,
        Self::WatchLag,
    ];

    pub(super) fn about(self) -> About {
        use Kind::{Count, Level, Seconds};
        let (name, kind, unit, description) = match self {
            Self::Duration => {
                ("db.client.operation.duration", Seconds, "s", "Duration of calls to the store")
            }
            Self::LockWait => ("kv.lock.wait.duration", Seconds, "s", "Duration of acquisitions of locks"),
            Self::Attempts => ("kv.request.attempts", Count, "{attempt}", "Attempts at requests to a server"),
            Self::OutcomeUnknown => {
                ("kv.outcome_unknown", Count, "{write}", "Writes that may or may not have happened")
            }
            Self::LeaseSlack => {
                ("kv.lease.slack", Seconds, "s", "Time that was left of a lock or lease at its renewal")
            }
            Self::LockLost => ("kv.lock.lost", Count, "{lock}", "Locks that were lost"),
            Self::LeaseLost => ("kv.lease.lost", Count, "{lease}", "Leases that were lost"),
            Self::LockHeld => ("kv.lock.held", Level, "{lock}", "Locks that are held"),
            Self::LeaseHeld => ("kv.lease.held", Level, "{lease}", "Leases that are held"),
            Self::WatchOpen => ("kv.watch.open", Level, "{watch}", "Watches that are open"),
            Self::WatchResync => {
                ("kv.watch.resync", Count, "{resync}", "Watches that had to read everything again")
            }
            Self::WatchLag => {
                ("kv.watch.lag", Seconds, "s", "Time that changes have waited for the reader of their watch")
            }
        };
        About { name, kind, unit, description }
    }
}

/// The labels of a measured value. Each is one of few words: no name or value of a program is in
/// them.
#[derive(Clone, Copy)]
pub(super) struct Labels {
    pub(super) backend: &'static str,
    pub(super) operation: Option<&'static str>,
    pub(super) error: Option<&'static str>,
    pub(super) cause: Option<&'static str>,
}

impl Labels {
    pub(super) fn of(backend: &'static str) -> Self {
        Self { backend, operation: None, error: None, cause: None }
    }

    /// Returns the labels that there are, with their names.
    pub(super) fn pairs(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let system = Some(system_name(self.backend));
        [
            ("db.system.name", system),
            ("db.operation.name", self.operation),
            ("error.type", self.error),
            ("kv.lost.cause", self.cause),
        ]
        .into_iter()
        .filter_map(|(name, label)| Some((name, label?)))
    }
}
