//! Tasks that end with the value that owns them.

use tokio::task::AbortHandle;

/// Ends a task when it is dropped, or earlier.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use kv_core::backend::AbortOnDrop;
///
/// let task = tokio::spawn(std::future::pending::<()>());
/// drop(AbortOnDrop::new(task.abort_handle()));
/// assert!(task.await.unwrap_err().is_cancelled());
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping it ends the task"]
pub struct AbortOnDrop(AbortHandle);

impl AbortOnDrop {
    /// Makes the owner of this task.
    pub fn new(task: AbortHandle) -> Self {
        Self(task)
    }

    /// Ends the task now.
    pub fn abort(&self) {
        self.0.abort();
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.abort();
    }
}
