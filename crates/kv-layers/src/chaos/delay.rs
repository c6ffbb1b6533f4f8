//! Holds calls and events back.

use super::Chaos;
use kv_core::{
    backend::stream,
    driver::{Deadline, WatchStream},
};
use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};
use tokio::{runtime::Handle, time::sleep};

/// Waits for this time, or until it is polled in another runtime: the one that it began in may
/// stand still, or have ended, and its timers with it.
pub(super) async fn wait(time: Duration) {
    let here = || Handle::try_current().ok().map(|runtime| runtime.id());
    let (began, mut slept) = (here(), pin!(sleep(time)));
    poll_fn(|cx| if here() == began { slept.as_mut().poll(cx) } else { Poll::Ready(()) }).await;
}

/// Returns the watch, some of whose events are held back, and with them all that come behind.
pub(super) fn held_back(mut changes: WatchStream, chaos: Chaos) -> WatchStream {
    stream(|out| async move {
        while let Some(event) = poll_fn(|cx| changes.as_mut().poll_next(cx)).await {
            // Without a deadline nothing can fail.
            let _ = chaos.may_wait(Deadline::NEVER).await;
            out.send(event?).await;
        }
        Ok(())
    })
}
