//! A sign to all who wait under a session that they are to leave it.

use std::sync::Arc;
use tokio::sync::watch;

/// Has all who wait under a session take another one. Something hangs on the session that only its
/// end takes away, such as a lock whose release was refused, and those who wait would keep it
/// alive.
///
/// It does not keep the session alive itself. Clones are one.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use kv_core::backend::LetGo;
///
/// let let_go = LetGo::default();
/// let waits = let_go.clone();
/// let_go.begin();
/// assert!(waits.is_on());
/// waits.begun().await;
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct LetGo(Arc<watch::Sender<bool>>);

impl LetGo {
    /// Begins it, for good.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Returns whether it has begun.
    pub fn is_on(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it has begun. Cancel safe.
    pub async fn begun(&self) {
        // The sender is ours, so waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|is_on| *is_on).await;
    }
}
