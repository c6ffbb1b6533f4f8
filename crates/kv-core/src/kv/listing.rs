//! The stream of what a listing finds.

use crate::{
    LeftOut, Result,
    backend::{Emit, stream},
    driver::NotesLeftOut,
};
use futures_core::{Stream, future::BoxFuture, stream::BoxStream};
use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, ready},
    vec,
};

/// A stream of what a listing finds; also a [`Stream`]. Awaited it is a `Vec` of all.
#[must_use = "a stream does nothing until it is read"]
pub struct Listing<T> {
    /// The rest of the page that was fetched last.
    page: vec::IntoIter<T>,
    // The mutex is never locked: it makes the type `Sync`, so that structs that hold one can be
    // shared.
    pages: Mutex<BoxStream<'static, Result<Vec<T>>>>,
    left_out: NotesLeftOut,
}

// No item is pinned in it.
impl<T> Unpin for Listing<T> {}

impl<T: Send + 'static> Listing<T> {
    /// Makes a listing of the pages that this block sends, of which it notes what it leaves out.
    pub(super) fn of_pages<F>(left_out: NotesLeftOut, body: impl FnOnce(Emit<Vec<T>>) -> F) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        Self { page: Vec::new().into_iter(), pages: Mutex::new(stream(body)), left_out }
    }
}

impl<T> Listing<T> {
    /// Returns what the listing has left out so far, of the pages that were read: all of it at the
    /// end. It is empty unless [`List::tell_left_out`](crate::List::tell_left_out) asked for it.
    pub fn left_out(&self) -> LeftOut {
        self.left_out.noted()
    }

    /// Returns the next item; `None` at the end. Cancel safe: an item that was not given is given
    /// by the next call.
    pub async fn next(&mut self) -> Option<Result<T>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    fn poll_page(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Vec<T>>>> {
        self.pages.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut().poll_next(cx)
    }
}

impl<T: Send + 'static> IntoFuture for Listing<T> {
    type Output = Result<Vec<T>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;
    fn into_future(mut self) -> Self::IntoFuture {
        Box::pin(async move {
            let mut all: Vec<T> = std::mem::take(&mut self.page).collect();
            while let Some(page) = poll_fn(|cx| self.poll_page(cx)).await {
                let page = page?;
                if all.is_empty() {
                    all = page;
                } else {
                    all.extend(page);
                }
            }
            Ok(all)
        })
    }
}

impl<T> Stream for Listing<T> {
    type Item = Result<T>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(item) = self.page.next() {
                return Poll::Ready(Some(Ok(item)));
            }
            match ready!(self.poll_page(cx)) {
                Some(Ok(page)) => self.page = page.into_iter(),
                Some(Err(e)) => return Poll::Ready(Some(Err(e))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl<T> fmt::Debug for Listing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listing")
    }
}
