//! Work that goes on while its caller polls something else.

use super::AbortOnDrop;
use crate::{
    Error, ErrorKind, Result,
    observe::{self, Origin},
};
use std::{
    future::{Future, poll_fn},
    task::Poll,
};
use tracing::Instrument;

/// Runs the work, which ends when its caller stops waiting. From the first moment on in which it
/// has to wait, it is a task of its own: it goes on while its caller waits for something else and
/// does not poll it. So it is for work that holds what others wait for.
///
/// It is polled once at the place of the call, so that who asks first is first in line. The task
/// is a part of the operation in whose name, and of the span in which, this is called.
///
/// # Errors
/// Those of the work; [`Closed`](ErrorKind::Closed) when the runtime ends meanwhile.
///
/// # Cancel safety
/// A future that is dropped drops the work, a moment later.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::backend::apart;
/// use std::{future::Future, pin::pin, sync::Arc, task::{Context, Waker}};
/// use tokio::sync::Semaphore;
///
/// let turns = Arc::new(Semaphore::new(1));
/// let takes_a_turn = |turns: Arc<Semaphore>| async move {
///     let _turn = turns.acquire_owned().await;
///     tokio::task::yield_now().await;
///     Ok(())
/// };
/// let mut first = pin!(apart(takes_a_turn(turns.clone())));
/// assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
/// apart(takes_a_turn(turns)).await?; // the first one has ended, though nobody has polled it
/// first.await
/// # }
/// ```
pub fn apart<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> impl Future<Output = Result<T>> + Send + 'static {
    // It is boxed at once, so that it is no part of the futures of callers.
    let mut work = Box::pin(work);
    async move {
        if let Poll::Ready(answer) = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
            return answer;
        }
        let origin = Origin::current();
        let work = async move { poll_fn(|cx| observe::poll(origin.as_ref(), work.as_mut(), cx)).await };
        let task = tokio::spawn(work.in_current_span());
        let _ends = AbortOnDrop::new(task.abort_handle());
        match task.await {
            Ok(answer) => answer,
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Error::new(ErrorKind::Closed, "the runtime ended meanwhile")),
            },
        }
    }
}
