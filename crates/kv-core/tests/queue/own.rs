//! The wait for the end of a holder's contender, and what its drop shows.

use futures::future::BoxFuture;
use std::{
    borrow::Cow,
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll},
};

/// Runs when the next wait is dropped.
pub(crate) type OnDrop = Mutex<Option<Box<dyn FnOnce() + Send>>>;

/// A wait that holds something until it is dropped, also behind its answer.
pub(crate) struct OwnGone<'a> {
    pub(crate) gone: BoxFuture<'a, Cow<'static, str>>,
    pub(crate) on_drop: &'a OnDrop,
}

impl Future for OwnGone<'_> {
    type Output = Cow<'static, str>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.gone.as_mut().poll(cx)
    }
}

impl Drop for OwnGone<'_> {
    fn drop(&mut self) {
        let on_drop = self.on_drop.lock().unwrap().take();
        if let Some(shows) = on_drop {
            shows();
        }
    }
}
