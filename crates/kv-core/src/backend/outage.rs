//! The log lines of an outage.

use crate::Error;
use std::time::Instant;

/// Logs an outage that is ridden out: one line at `WARN` when it begins, with what failed, and one
/// at `INFO` when it is over, with how long it lasted. It logs nothing in between, however many
/// tries there are.
///
/// ```
/// use kv_core::{backend::Outage, Error, ErrorKind};
///
/// let mut outage = Outage::new("watch", "etcd");
/// outage.failed(&Error::new(ErrorKind::Unavailable, "127.0.0.1:2379: Connection refused"));
/// outage.over(); // reconnected
/// ```
#[derive(Debug)]
pub struct Outage {
    what: &'static str,
    backend: &'static str,
    since: Option<(Instant, u32)>,
}

impl Outage {
    /// Makes one that has not begun, for this piece of work (`watch`, `wait for a lock`,
    /// `renewal`) on this backend.
    #[must_use]
    pub fn new(what: &'static str, backend: &'static str) -> Self {
        Self { what, backend, since: None }
    }

    /// Notes a failed try.
    pub fn failed(&mut self, error: &Error) {
        match &mut self.since {
            Some((_, tries)) => *tries = tries.saturating_add(1),
            None => {
                self.since = Some((Instant::now(), 1));
                let (what, backend, kind) = (self.what, self.backend, error.kind().as_str());
                tracing::warn!(backend, kind, %error, "{what}: an outage, which is ridden out");
            }
        }
    }

    /// Tells whether it has begun, and is not over.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.since.is_some()
    }

    /// Notes a success.
    pub fn over(&mut self) {
        if let Some((since, tries)) = self.since.take() {
            let (what, backend, lasted) = (self.what, self.backend, since.elapsed());
            tracing::info!(backend, tries, ?lasted, "{what}: the outage is over");
        }
    }
}
