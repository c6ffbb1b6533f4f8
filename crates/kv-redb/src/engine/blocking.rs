//! Runs blocking work on a thread of the runtime's pool.

use kv_core::{Error, ErrorKind, Result};

/// Runs the work on a thread of the pool. The work runs to its end, also when the caller is gone.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| {
        Err(if e.is_panic() {
            Error::new(ErrorKind::Corrupt, "redb panicked on what it read; restore the file from a copy")
                .with_cause(e)
        } else {
            Error::new(ErrorKind::Closed, "the runtime has ended").with_cause(e)
        })
    })
}
