//! Watches whose events a layer changes.

use kv_core::{Result, WatchEvent, backend::stream, driver::WatchStream};
use std::future::poll_fn;

/// Returns the watch with each event changed by this function. An error of the function is the end
/// of the watch. Nothing is buffered.
pub(crate) fn map(
    mut changes: WatchStream,
    change: impl Fn(WatchEvent) -> Result<WatchEvent> + Send + 'static,
) -> WatchStream {
    stream(|out| async move {
        while let Some(event) = poll_fn(|cx| changes.as_mut().poll_next(cx)).await {
            let event = change(event?)?;
            out.send(event).await;
        }
        Ok(())
    })
}
