//! Turns of callers, a number of them for each runtime.

use kv_core::backend::ByRuntime;
use std::sync::Arc;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// The turns that each runtime has for itself: a free one is given to whoever waits longest, and so
/// all of them may be with a runtime that stands still.
#[derive(Debug)]
pub(super) struct Turns {
    most: usize,
    turns: ByRuntime<Arc<Semaphore>>,
    /// Those for whoever calls from outside of any runtime.
    outside: Arc<Semaphore>,
}

impl Turns {
    /// Makes so many turns for each runtime.
    pub(super) fn new(most: usize) -> Self {
        Self { most, turns: ByRuntime::new(), outside: Arc::new(Semaphore::new(most)) }
    }

    /// Waits for a turn of this runtime, which lasts until the permit is dropped.
    pub(super) async fn take(&self) -> Result<OwnedSemaphorePermit, AcquireError> {
        let turns = self.turns.here(|| Arc::new(Semaphore::new(self.most)));
        turns.unwrap_or_else(|_| self.outside.clone()).acquire_owned().await
    }
}
