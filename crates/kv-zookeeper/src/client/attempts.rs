//! Counts attempts, and decides how long to pause between them and how long each may take.

use kv_core::{backend::Backoff, driver::Deadline};
use std::time::Duration;
use zookeeper_client::Error as ClientError;

/// A connection is given up after this time without any answer. Idle ones are pinged three times
/// within it.
pub(crate) const SILENCE: Duration = Duration::from_secs(2);
/// The time that the first attempt at a connection may take; each later one may take twice as long
/// as the one before, up to [`SILENCE`].
const PATIENCE: Duration = Duration::from_millis(250);

/// The number of attempts so far, and the pauses between them.
pub(crate) struct Attempts {
    made: u32,
    pauses: Backoff,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { made: 0, pauses: Backoff::new(Duration::from_millis(20), Duration::from_millis(500)) }
    }
}

impl Attempts {
    /// Pauses before the next attempt.
    pub(crate) async fn pause(&mut self, deadline: Deadline) {
        self.made = self.made.saturating_add(1);
        tokio::time::sleep(self.pauses.delay().min(deadline.remaining())).await;
    }

    /// Waits for the answer of one host as long as this attempt may take.
    pub(crate) async fn patient<T>(
        &self,
        asked: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let patience = (PATIENCE * (1 << self.made.min(4))).min(SILENCE);
        tokio::time::timeout(patience, asked).await.unwrap_or(Err(ClientError::Timeout))
    }

    /// Returns whether there were so many attempts that a refusal is not that of one member, or of
    /// one moment, alone.
    pub(crate) fn are_many(&self) -> bool {
        self.made >= 2
    }

    /// Begins counting anew, after an attempt that succeeded.
    pub(crate) fn reset(&mut self) {
        self.made = 0;
        self.pauses.reset();
    }
}

/// Returns a slightly earlier deadline, so that there is time to report, by the deadline itself,
/// what is known by then.
pub(crate) fn early(deadline: Deadline) -> Deadline {
    let left = deadline.remaining();
    Deadline::after(left - left / 50)
}
