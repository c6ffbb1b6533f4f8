//! What must be undone, once.

use super::lock;
use crate::{Error, ErrorKind, Result};
use futures_core::future::BoxFuture;
use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, Weak},
};
use tokio::runtime::Handle;

type Todo = Mutex<Option<BoxFuture<'static, Result<bool>>>>;

/// Something that must happen once: by [`run`](Self::run), in the background when this is dropped, or when the handle
/// is closed. The answer is whether there still was something to undo.
///
/// Make it *before* the request whose effect it undoes is sent: then there is no point at which a dropped future
/// leaves something behind.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::backend::Undo;
///
/// let (told, seen) = tokio::sync::oneshot::channel();
/// let undo = Undo::new(async move { Ok(told.send("undone").is_ok()) });
/// drop(undo); // goes on in the background
/// assert_eq!(seen.await, Ok("undone"));
/// # Ok(()) }
/// ```
pub struct Undo {
    todo: Arc<Todo>,
    runtime: Option<Handle>,
}

/// The handle's end of an [`Undo`], for `close`.
pub(crate) struct Undoing(Weak<Todo>);

impl Undo {
    /// Undoes by this future, on the runtime in which this is called.
    pub fn new(work: impl Future<Output = Result<bool>> + Send + 'static) -> Self {
        Self { todo: Arc::new(Mutex::new(Some(Box::pin(work)))), runtime: Handle::try_current().ok() }
    }

    /// Nothing to undo.
    pub fn nothing() -> Self {
        Self { todo: Arc::default(), runtime: None }
    }

    /// Undoes, and goes on in the background when the caller stops waiting; `false` when it was done before.
    ///
    /// # Errors
    /// What the future gives; [`Closed`](ErrorKind::Closed) when its runtime has ended.
    pub async fn run(self) -> Result<bool> {
        let Some(work) = lock(&self.todo).take() else { return Ok(false) };
        let ended = |e| Error::new(ErrorKind::Closed, "the runtime has ended").with_cause(e);
        match &self.runtime {
            Some(runtime) => runtime.spawn(work).await.unwrap_or_else(|e| Err(ended(e))),
            None => work.await,
        }
    }

    /// Leaves it as it is: nothing will be undone.
    pub fn forget(self) {
        lock(&self.todo).take();
    }

    pub(crate) fn weak(&self) -> Undoing {
        Undoing(Arc::downgrade(&self.todo))
    }
}

impl Undoing {
    pub(crate) fn is_over(&self) -> bool {
        self.0.upgrade().is_none_or(|todo| lock(&todo).is_none())
    }

    pub(crate) fn take(&self) -> Option<BoxFuture<'static, Result<bool>>> {
        lock(&*self.0.upgrade()?).take()
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let (Some(work), Some(runtime)) = (lock(&self.todo).take(), &self.runtime) {
            runtime.spawn(work);
        }
    }
}

impl fmt::Debug for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Undo({})", if lock(&self.todo).is_some() { "to do" } else { "done" })
    }
}

impl fmt::Debug for Undoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Undoing({})", if self.is_over() { "done" } else { "to do" })
    }
}
