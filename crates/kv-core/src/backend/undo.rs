//! Work that undoes something, and is done once.

use super::{Tasks, lock};
use crate::{Error, ErrorKind, Result};
use futures_core::future::BoxFuture;
use std::{
    fmt,
    sync::{Arc, Mutex, Weak},
};
use tokio::{runtime::Handle, task::JoinHandle};

/// Work that must happen once: by [`run`](Self::run), in the background when this is dropped, or
/// when the handle is closed. The answer tells whether there still was something to undo.
///
/// Make it *before* the request whose effect it undoes is sent: then there is no point at which a
/// dropped future leaves something behind. If [`Tasks::undo`] made it, `close` can wait for what a
/// drop began.
///
/// It runs on the runtime in which it was made, or, where that has ended, on the one in which it
/// is run or dropped. With neither (a program that leaves `main`) nothing is undone, and what was
/// to be undone ends by its TTL.
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
    tasks: Tasks,
}

#[derive(Default)]
struct Todo(Mutex<Work>);

#[derive(Default)]
struct Work {
    /// Somebody has begun it.
    begun: bool,
    /// The work, until a task has taken it up.
    work: Option<BoxFuture<'static, Result<bool>>>,
}

/// The result of beginning it.
enum Begun {
    /// It runs.
    Now(JoinHandle<Result<bool>>),
    /// Somebody had begun it, or there was nothing to do.
    Before,
    /// No runtime runs any more; the work is still there.
    Nowhere,
}

/// The weak reference to an [`Undo`] that the handle keeps for `close`.
pub(crate) struct Undoing(Weak<Todo>);

impl Todo {
    fn is_over(&self) -> bool {
        let todo = lock(&self.0);
        todo.begun || todo.work.is_none()
    }

    /// Has the work done on the first of these runtimes that still runs.
    fn begin(self: &Arc<Self>, runtimes: impl IntoIterator<Item = Handle>, tasks: &Tasks) -> Begun {
        // It is counted before anybody can see that it has begun: whoever waits for all work
        // misses none.
        let _counted = {
            let mut todo = lock(&self.0);
            if todo.begun || todo.work.is_none() {
                return Begun::Before;
            }
            todo.begun = true;
            tasks.count()
        };
        for runtime in runtimes {
            let (todo, counted) = (self.clone(), tasks.count());
            let task = runtime.spawn(async move {
                let Some(work) = lock(&todo.0).work.take() else { return Ok(false) };
                let answer = work.await;
                counted.note(&answer);
                answer
            });
            // A runtime that has ended drops a task at once, and the work is still here.
            if !task.is_finished() || lock(&self.0).work.is_none() {
                return Begun::Now(task);
            }
        }
        Begun::Nowhere
    }
}

impl Undo {
    /// Makes an undo by this future.
    pub fn new(work: impl Future<Output = Result<bool>> + Send + 'static) -> Self {
        let work = Work { begun: false, work: Some(Box::pin(work)) };
        let (todo, runtime) = (Todo(Mutex::new(work)), Handle::try_current().ok());
        Self { todo: Arc::new(todo), runtime, tasks: Tasks::default() }
    }

    /// Makes an undo that has nothing to do.
    pub fn nothing() -> Self {
        Self { todo: Arc::default(), runtime: None, tasks: Tasks::default() }
    }

    /// Undoes, and goes on in the background when the caller stops waiting; `false` when it was
    /// done before.
    ///
    /// # Errors
    /// Those of the future; [`Closed`](ErrorKind::Closed) when the runtime ended meanwhile.
    pub async fn run(self) -> Result<bool> {
        let ended = || Error::new(ErrorKind::Closed, "the runtime has ended");
        match self.todo.begin(self.runtimes(), &self.tasks) {
            Begun::Now(task) => task.await.unwrap_or_else(|e| Err(ended().with_cause(e))),
            // Work that another has begun is the other's to do, also while no task has taken it up
            // yet.
            Begun::Before => Ok(false),
            Begun::Nowhere => {
                let work = lock(&self.todo.0).work.take();
                match work {
                    Some(work) if self.runtimes().next().is_none() => work.await,
                    Some(_) => Err(ended()),
                    None => Ok(false),
                }
            }
        }
    }

    /// Drops the work: nothing will be undone.
    pub fn forget(self) {
        lock(&self.todo.0).work.take();
    }

    /// Has the work counted by these tasks once it runs, in place of the tasks that counted it
    /// before.
    pub(crate) fn count_in(&mut self, tasks: &Tasks) {
        self.tasks = tasks.clone();
    }

    pub(crate) fn weak(&self) -> Undoing {
        Undoing(Arc::downgrade(&self.todo))
    }

    fn runtimes(&self) -> impl Iterator<Item = Handle> + use<> {
        self.runtime.clone().into_iter().chain(Handle::try_current())
    }
}

impl Undoing {
    pub(crate) fn is_over(&self) -> bool {
        self.0.upgrade().is_none_or(|todo| todo.is_over())
    }

    /// Has the work done on the current runtime, counted by these tasks.
    pub(crate) fn begin(&self, tasks: &Tasks) {
        if let Some(todo) = self.0.upgrade() {
            todo.begin(Handle::try_current(), tasks);
        }
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        self.todo.begin(self.runtimes(), &self.tasks);
    }
}

impl fmt::Debug for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Undo({})", if self.todo.is_over() { "done" } else { "to do" })
    }
}

impl fmt::Debug for Undoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Undoing({})", if self.is_over() { "done" } else { "to do" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Barrier,
        atomic::{AtomicU32, Ordering},
    };

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_is_done_once_whoever_begins_it_and_whoever_closes_waits_for_it() {
        for round in 0..20_000 {
            let (done, tasks, both) =
                (Arc::new(AtomicU32::new(0)), Tasks::default(), Arc::new(Barrier::new(2)));
            let doing = done.clone();
            let undo = tasks.undo(async move {
                doing.fetch_add(1, Ordering::SeqCst);
                Ok(true)
            });
            let (weak, closing, there) = (undo.weak(), tasks.clone(), both.clone());
            let closes = tokio::task::spawn_blocking(move || {
                there.wait();
                weak.begin(&closing);
            });
            let runs = tokio::spawn(async move {
                both.wait();
                undo.run().await
            });
            closes.await.unwrap();
            tasks.finish().await.unwrap();
            assert_eq!(done.load(Ordering::SeqCst), 1, "round {round}: it was begun, and is not done");
            assert!(runs.await.unwrap().is_ok());
        }
    }
}
