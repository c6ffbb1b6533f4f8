//! A stream made of an async block.

use super::lock;
use crate::Result;
use futures_core::{Stream, future::BoxFuture, stream::BoxStream};
use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

/// The sender of the async block behind a [`stream`].
pub struct Emit<T>(Arc<Mutex<Option<T>>>);

impl<T> Emit<T> {
    /// Gives one item to the reader, and goes on when the reader asks for the next: nothing is
    /// buffered. It must be awaited within the block that [`stream`] was given, not in a task of
    /// its own.
    pub async fn send(&self, item: T) {
        *lock(&self.0) = Some(item);
        poll_fn(|_| if lock(&self.0).is_some() { Poll::Pending } else { Poll::Ready(()) }).await;
    }
}

impl<T> fmt::Debug for Emit<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Emit")
    }
}

/// Returns a stream of what the async block sends; an `Err` of the block is its last item. There
/// is no task and no channel: the block runs while the stream is polled, and dropping the stream
/// drops it where it stands.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use futures::TryStreamExt;
/// use kv_core::backend::stream;
///
/// let squares = stream(|out| async move {
///     for n in 1..=3 {
///         out.send(n * n).await;
///     }
///     Ok(())
/// });
/// assert_eq!(squares.try_collect::<Vec<_>>().await.unwrap(), [1, 4, 9]);
/// # }
/// ```
pub fn stream<T, F>(body: impl FnOnce(Emit<T>) -> F) -> BoxStream<'static, Result<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<()>> + Send + 'static,
{
    let slot = Arc::new(Mutex::new(None));
    Box::pin(Blocks { body: Some(Box::pin(body(Emit(slot.clone())))), slot })
}

struct Blocks<T> {
    body: Option<BoxFuture<'static, Result<()>>>,
    slot: Arc<Mutex<Option<T>>>,
}

impl<T> Stream for Blocks<T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        let polled = body.as_mut().poll(cx);
        let sent = lock(&self.slot).take();
        match (sent, polled) {
            (Some(item), _) => Poll::Ready(Some(Ok(item))),
            (None, Poll::Pending) => Poll::Pending,
            (None, Poll::Ready(end)) => {
                self.body = None;
                Poll::Ready(end.err().map(Err))
            }
        }
    }
}
