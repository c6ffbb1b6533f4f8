//! The work that runs in the background, counted.

use super::{Undo, apart, lock, undo::Todo};
use crate::{
    Error, ErrorKind, Result,
    observe::{self, Origin},
};
use futures_core::future::BoxFuture;
use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll},
};
use tokio::sync::{oneshot, watch};

/// The work of one store that goes on in the background: what a dropped future, guard or lease has
/// to give back. `close` waits for it by [`finish`](Self::finish), so that nothing is cut off by
/// the end of the connections. Clones count together.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::backend::Tasks;
///
/// let (tasks, (told, mut seen)) = (Tasks::default(), tokio::sync::oneshot::channel());
/// drop(tasks.undo(async move { Ok(told.send("undone").is_ok()) }));
/// tasks.finish().await?;
/// assert_eq!(seen.try_recv(), Ok("undone"));
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct Tasks(Arc<Inner>);

#[derive(Default)]
struct Inner {
    running: watch::Sender<usize>,
    failed: Mutex<Failed>,
    left: Mutex<Vec<Left>>,
    /// The work that was cut off by the end of its runtime, and can be begun anew.
    cut: Mutex<Vec<Arc<Todo>>>,
}

/// Another try at something that could not be given back; `None` when nothing is left of it.
type Left = Box<dyn Fn() -> Option<BoxFuture<'static, Result<()>>> + Send>;

/// The length from which on the list is cleared of tries at things that are done meanwhile.
const MOST_DONE: usize = 64;

/// The failures, which count from the moment on in which somebody waits for the end.
#[derive(Default)]
struct Failed {
    matters: bool,
    first: Option<Error>,
}

/// One piece of work, counted while this lives.
pub(super) struct Counted(Tasks);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.running.send_modify(|n| *n -= 1);
    }
}

impl Counted {
    pub(super) fn note<T>(&self, answer: &Result<T>) {
        if let Err(e) = answer {
            let mut failed = lock(&self.0.0.failed);
            if failed.matters {
                failed.first.get_or_insert_with(|| e.clone());
            }
        }
    }

    pub(super) fn tasks(&self) -> &Tasks {
        &self.0
    }
}

impl Tasks {
    /// Runs the work in the background, on the current runtime.
    ///
    /// # Panics
    /// Panics outside of a runtime.
    pub fn spawn<T>(&self, work: impl Future<Output = Result<T>> + Send + 'static) {
        let (counted, origin) = (self.count(), Origin::current());
        tokio::spawn(async move {
            let mut work = pin!(work);
            counted.note(&poll_fn(|cx| observe::poll(origin.as_ref(), work.as_mut(), cx)).await);
        });
    }

    /// Runs the work in the background to its end, also when its caller stops waiting for it. The
    /// answer is dropped then, and an [`Undo`] in it runs. It is for a request that could
    /// otherwise be overtaken by its own undoing.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) when the runtime ends meanwhile.
    pub async fn to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let (tell, told) = oneshot::channel();
        self.spawn(async move {
            drop(tell.send(work.await));
            Ok(())
        });
        told.await.map_err(|e| Error::new(ErrorKind::Closed, "the runtime has ended").with_cause(e))
    }

    /// Makes an [`Undo`] that is counted once it runs.
    pub fn undo(&self, work: impl Future<Output = Result<bool>> + Send + 'static) -> Undo {
        let mut undo = Undo::new(work);
        undo.count_in(self);
        undo
    }

    /// Makes an [`Undo`] that is counted once it runs, and that [can be begun
    /// anew](Undo::repeatable).
    pub fn undo_repeatable<F>(&self, work: impl Fn() -> F + Send + 'static) -> Undo
    where
        F: Future<Output = Result<bool>> + Send + 'static,
    {
        let mut undo = Undo::repeatable(work);
        undo.count_in(self);
        undo
    }

    /// Notes something that could not be given back, though it is tried again elsewhere:
    /// [`finish`](Self::finish) tries it once more, and tells what fails then. `again` returns
    /// `None` when nothing is left of it, and keeps nothing alive.
    pub fn left<F>(&self, again: impl Fn() -> Option<F> + Send + 'static)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let mut left = lock(&self.0.left);
        if left.len() >= MOST_DONE && left.len().is_power_of_two() {
            left.retain(|again| again().is_some());
        }
        left.push(Box::new(move || again().map(|work| Box::pin(work) as BoxFuture<'static, _>)));
    }

    /// Keeps work that was cut off by the end of its runtime, until somebody
    /// [resumes](Self::resume) it.
    pub(super) fn keep_cut(&self, todo: Arc<Todo>) {
        lock(&self.0.cut).push(todo);
    }

    /// Begins anew what was cut off by the end of its runtime, in this one.
    pub(crate) fn resume(&self) {
        // It is begun outside of the lock: what is cut off at once comes back.
        let cut = std::mem::take(&mut *lock(&self.0.cut));
        cut.iter().for_each(|todo| todo.resume(self));
    }

    /// Has failures count from now on, for a caller that is about to [`finish`](Self::finish).
    pub(crate) fn note_failures(&self) {
        lock(&self.0.failed).matters = true;
    }

    /// Waits until nothing runs, and nothing is left that can be given back, also of what was cut
    /// off by the end of its runtime. Cancel safe: the work that runs goes on.
    ///
    /// # Errors
    /// The first failure of the work that runs now, which tells what could not be given back.
    pub async fn finish(&self) -> Result<()> {
        self.note_failures();
        self.idle().await;
        self.resume();
        let left = std::mem::take(&mut *lock(&self.0.left));
        left.iter().filter_map(|again| again()).for_each(|work| self.spawn(work));
        self.idle().await;
        lock(&self.0.failed).first.take().map_or(Ok(()), Err)
    }

    async fn idle(&self) {
        // The sender is ours, so waiting cannot fail.
        let _ = self.0.running.subscribe().wait_for(|running| *running == 0).await;
    }

    /// Runs the work [apart](apart()). It is counted until it is over, and has begun what it has to
    /// give back.
    pub(crate) async fn apart<T: Send + 'static>(&self, work: BoxFuture<'static, Result<T>>) -> Result<T> {
        apart(Apart { work, _counted: self.count() }).await
    }

    pub(super) fn count(&self) -> Counted {
        self.0.running.send_modify(|n| *n += 1);
        Counted(self.clone())
    }
}

/// Work that is counted until it is dropped: the fields are dropped in this order.
struct Apart<T> {
    work: BoxFuture<'static, Result<T>>,
    _counted: Counted,
}

impl<T> Future for Apart<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        self.work.as_mut().poll(cx)
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tasks({} running)", *self.0.running.borrow())
    }
}
