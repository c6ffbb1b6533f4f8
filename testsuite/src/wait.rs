//! Waits for what must come.

use crate::Failure;
use kv_core::{ErrorKind, Kv};
use std::time::Duration;
use tokio::time::timeout;

/// The longest wait for something that must come.
const SOON: Duration = Duration::from_secs(30);

/// Waits for what must come soon.
///
/// # Errors
/// It did not come within half a minute.
pub async fn soon<T>(what: &str, coming: impl Future<Output = T>) -> Result<T, Failure> {
    timeout(SOON, coming).await.map_err(|_| format!("waited {SOON:?} in vain for {what}").into())
}

/// Writes the key again and again until a write is done.
///
/// # Errors
/// None was done within half a minute.
///
/// # Panics
/// A write was refused.
pub async fn written(kv: &Kv, key: &str) -> Result<(), Failure> {
    soon("a write", async {
        while let Err(e) = kv.put(key, "").await {
            assert!(e.is_transient() || e.kind() == ErrorKind::OutcomeUnknown, "{e:?}");
        }
    })
    .await
}
