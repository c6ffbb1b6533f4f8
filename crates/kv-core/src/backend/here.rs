//! The runtime in which something happens.

use std::{future::poll_fn, task::Poll};
use tokio::runtime::{Handle, Id};

/// The runtime in which it was made; none, outside of any.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Here(Option<Id>);

impl Here {
    pub(crate) fn now() -> Self {
        Self(current())
    }

    /// Waits until it is polled in another runtime. Cancel safe.
    pub(crate) fn left(self) -> impl Future<Output = ()> + Send + 'static {
        // Nobody has to be woken: whoever waits elsewhere from now on polls first.
        poll_fn(move |_| match (self.0, current()) {
            (Some(here), Some(now)) if here != now => Poll::Ready(()),
            _ => Poll::Pending,
        })
    }
}

fn current() -> Option<Id> {
    Handle::try_current().ok().map(|runtime| runtime.id())
}
