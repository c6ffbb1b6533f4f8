//! What runs in the background, counted.

use super::{Undo, lock};
use crate::{Error, Result};
use std::{
    fmt,
    sync::{Arc, Mutex},
};
use tokio::sync::watch;

/// The work of one store that goes on in the background: what a dropped future, guard or lease has to give back. `close`
/// waits for it by [`finish`](Self::finish), so that nothing is cut off by the end of the connections. Clones count
/// together.
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
}

/// Failures count from the moment on in which somebody waits for the end.
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
}

impl Tasks {
    /// Runs the work in the background, on the current runtime.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn spawn<T>(&self, work: impl Future<Output = Result<T>> + Send + 'static) {
        let counted = self.count();
        tokio::spawn(async move { counted.note(&work.await) });
    }

    /// An [`Undo`] that is counted once it runs.
    pub fn undo(&self, work: impl Future<Output = Result<bool>> + Send + 'static) -> Undo {
        let mut undo = Undo::new(work);
        undo.count_in(self);
        undo
    }

    /// Waits until nothing runs. Cancel safe: what runs goes on.
    ///
    /// # Errors
    /// The first failure of what runs now, which tells what could not be given back.
    pub async fn finish(&self) -> Result<()> {
        lock(&self.0.failed).matters = true;
        // The sender is ours, so waiting cannot fail.
        let _ = self.0.running.subscribe().wait_for(|running| *running == 0).await;
        lock(&self.0.failed).first.take().map_or(Ok(()), Err)
    }

    /// Counts each poll of the work, not the time between them: what one poll gets and hands on is not overtaken by
    /// [`finish`](Self::finish), and who no longer polls holds nobody up.
    pub(crate) async fn while_polled<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|cx| {
            let _counted = self.count();
            work.as_mut().poll(cx)
        })
        .await
    }

    pub(super) fn count(&self) -> Counted {
        self.0.running.send_modify(|n| *n += 1);
        Counted(self.clone())
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tasks({} running)", *self.0.running.borrow())
    }
}
