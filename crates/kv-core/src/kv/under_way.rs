//! The writes that are under way, for which `close` waits.

use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// Counts the writes of a handle that are under way.
#[derive(Default)]
pub(super) struct Writes {
    count: AtomicUsize,
    none: Notify,
}

/// One write, which is under way while this lives.
pub(super) struct UnderWay<'a>(&'a Writes);

impl Writes {
    /// Counts a write. Whoever looks behind this whether the handle is closed, and finds it open, is
    /// waited for: both this and the look are in one order with those of `close`.
    pub(super) fn begin(&self) -> UnderWay<'_> {
        self.count.fetch_add(1, Ordering::SeqCst);
        UnderWay(self)
    }

    /// Waits until no write is under way. Cancel safe.
    pub(super) async fn none(&self) {
        loop {
            let mut none = std::pin::pin!(self.none.notified());
            none.as_mut().enable();
            if self.count.load(Ordering::SeqCst) == 0 {
                return;
            }
            none.await;
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.none.notify_waiters();
        }
    }
}
