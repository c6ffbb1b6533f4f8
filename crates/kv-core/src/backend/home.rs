//! A runtime that can be asked whether it still runs.

use std::fmt;
use tokio::{sync::watch, task::AbortHandle};

/// The runtime in which it was made. It tells when that runtime has ended, and with it every task
/// and every connection that lived there. Code that keeps such a thing for others keeps its home
/// beside it, and makes both anew when the home is gone.
///
/// ```
/// use kv_core::backend::Home;
///
/// let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// let home = runtime.block_on(async { Home::here() });
/// assert!(!home.is_gone());
/// drop(runtime);
/// assert!(home.is_gone());
/// ```
pub struct Home {
    lives: watch::Receiver<()>,
    keeper: AbortHandle,
}

impl Home {
    /// Returns the home in the current runtime.
    ///
    /// # Panics
    /// Panics outside of a runtime.
    #[must_use]
    pub fn here() -> Self {
        let (kept, lives) = watch::channel(());
        // The task does nothing: its runtime drops it, and the sender with it.
        let keeper = tokio::spawn(async move {
            let _kept = kept;
            std::future::pending::<()>().await;
        });
        Self { lives, keeper: keeper.abort_handle() }
    }

    /// Tells whether that runtime has ended.
    pub fn is_gone(&self) -> bool {
        self.lives.has_changed().is_err()
    }

    /// Waits until that runtime has ended. The future borrows nothing. Cancel safe.
    pub fn gone(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut lives = self.lives.clone();
        async move { while lives.changed().await.is_ok() {} }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl fmt::Debug for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Home({})", if self.is_gone() { "gone" } else { "runs" })
    }
}
