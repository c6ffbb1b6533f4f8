//! Counts attempts at one thing, and says how long to pause between them, and how long each may take.

use kv_core::{backend::Backoff, driver::Deadline};
use std::time::Duration;
use zookeeper_client::Error as ClientError;

/// A connection on which nothing is heard for so long is given up. Idle ones are pinged three times within it.
pub(crate) const SILENCE: Duration = Duration::from_secs(2);
/// The time that the first attempt at a connection may take; each later one may take twice as long
/// as the one before, up to [`SILENCE`].
const PATIENCE: Duration = Duration::from_millis(250);

/// Attempts at one thing: how many there were, and the pauses between them.
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
    /// Waits before the next one.
    pub(crate) async fn pause(&mut self, deadline: Deadline) {
        self.made = self.made.saturating_add(1);
        tokio::time::sleep(self.pauses.delay().min(deadline.remaining())).await;
    }

    /// Waits for one host as long as this attempt may take.
    pub(crate) async fn patient<T>(
        &self,
        asked: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let patience = (PATIENCE * (1 << self.made.min(4))).min(SILENCE);
        tokio::time::timeout(patience, asked).await.unwrap_or(Err(ClientError::Timeout))
    }

    /// Returns whether a refusal was not one of a member, or of a moment, alone.
    pub(crate) fn are_many(&self) -> bool {
        self.made >= 2
    }

    /// Begins anew: one succeeded.
    pub(crate) fn reset(&mut self) {
        self.made = 0;
        self.pauses.reset();
    }
}

/// Returns a somewhat earlier deadline, so that what is known by then is told by the deadline itself.
pub(crate) fn early(deadline: Deadline) -> Deadline {
    let left = deadline.remaining();
    Deadline::after(left - left / 50)
}
