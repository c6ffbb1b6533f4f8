//! Work that undoes something, and is done once.

use super::{Tasks, lock, tasks::Counted};
use crate::{
    Error, ErrorKind, Result,
    observe::{self, Origin},
};
use futures_core::future::BoxFuture;
use std::{
    fmt,
    future::poll_fn,
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
/// It is [run](Self::run) on the current runtime, since the one in which it was made may stand
/// still. Dropped, it is done on the runtime in which it was made, or, where that has ended, on the
/// current one. With neither (a program that leaves `main`) nothing is undone, and what was to be
/// undone ends by its TTL. A runtime that ends can also cut the work off, before it is begun or in
/// the middle. If the work [can be begun anew](Self::repeatable), and undoes what a handle holds (a
/// guard, a lease), the handle begins it anew with the next lock or lease that it asks for, or when
/// it is closed.
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
    /// A handle holds what this undoes, and remembers it when it is cut off. What a store has begun
    /// and not given out yet hangs on a session or a TTL, which ends without its runtime.
    is_held: bool,
}

/// The work of an [`Undo`], which is done in one go at a time.
#[derive(Default)]
pub(super) struct Todo(Mutex<Work>);

#[derive(Default)]
struct Work {
    /// Somebody has begun it.
    is_begun: bool,
    /// It may be done in part, or as a whole.
    is_taken_up: bool,
    /// `None` when nothing is left to do.
    job: Option<Job>,
}

type Doing = BoxFuture<'static, Result<bool>>;

enum Job {
    Once(Doing),
    Again(Box<dyn Fn() -> Doing + Send>),
}

/// One go at the work. Dropped before its end, as by the end of its runtime, it leaves the work to
/// another one.
struct Go {
    todo: Arc<Todo>,
    counted: Counted,
    /// The operation in whose name the work is done, and its observer; `None` without one.
    origin: Option<Origin>,
    is_held: bool,
    is_polled: bool,
    is_over: bool,
}

/// The result of beginning it.
enum Begun {
    /// It runs.
    Now(JoinHandle<Result<bool>>),
    /// Somebody had begun it, or there was nothing to do.
    Before,
    /// No runtime runs any more.
    Nowhere(Go),
}

/// The weak reference to an [`Undo`] that the handle keeps for `close`.
pub(crate) struct Undoing(Weak<Todo>);

impl Go {
    async fn run(mut self) -> Result<bool> {
        let Some(mut work) = self.todo.take_up() else {
            self.is_over = true;
            return Ok(false);
        };
        let is_polled = &mut self.is_polled;
        let answer = poll_fn(|cx| {
            *is_polled = true;
            let answer = observe::poll(self.origin.as_ref(), work.as_mut(), cx);
            *is_polled = false;
            answer
        })
        .await;
        self.counted.note(&answer);
        self.is_over = true;
        answer
    }
}

impl Drop for Go {
    fn drop(&mut self) {
        // What panicked would do so again.
        let (is_over, mut is_cut, mut job) = (self.is_over || self.is_polled, false, None);
        {
            let mut work = lock(&self.todo.0);
            match is_over {
                true => job = work.job.take(),
                false => {
                    work.is_begun = false;
                    is_cut = matches!(work.job, Some(Job::Again(_)));
                }
            }
        }
        // Both outside of the lock: a job holds what it undoes. This happens before it is counted
        // down, so that whoever waits for all work finds it.
        drop(job);
        if is_cut && self.is_held {
            self.counted.tasks().keep_cut(self.todo.clone());
        }
    }
}

impl Todo {
    fn new(job: Job) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Work { job: Some(job), ..Work::default() })))
    }

    fn is_over(&self) -> bool {
        let work = lock(&self.0);
        work.is_begun || work.job.is_none()
    }

    /// Returns a go at the work, unless somebody has begun it or there is nothing to do; with
    /// `untouched` only at work that was not taken up yet.
    fn go(self: &Arc<Self>, tasks: &Tasks, is_held: bool, untouched: bool) -> Option<Go> {
        let mut work = lock(&self.0);
        if work.is_begun || work.job.is_none() || untouched && work.is_taken_up {
            return None;
        }
        work.is_begun = true;
        // It is counted before anybody can see that it has begun: whoever waits for all work
        // misses none.
        let counted = tasks.count();
        let origin = Origin::current();
        Some(Go { todo: self.clone(), counted, origin, is_held, is_polled: false, is_over: false })
    }

    fn take_up(&self) -> Option<Doing> {
        let mut work = lock(&self.0);
        work.is_taken_up = true;
        match work.job.take()? {
            Job::Once(doing) => Some(doing),
            Job::Again(make) => {
                let doing = make();
                work.job = Some(Job::Again(make));
                Some(doing)
            }
        }
    }

    /// Has the work done on the first of these runtimes that still runs.
    fn begin(
        self: &Arc<Self>,
        runtimes: impl IntoIterator<Item = Handle>,
        tasks: &Tasks,
        is_held: bool,
    ) -> Begun {
        let Some(mut go) = self.go(tasks, is_held, false) else { return Begun::Before };
        // Whoever waits for all work waits for what is between two runtimes as well.
        let _counted = tasks.count();
        for runtime in runtimes {
            let task = runtime.spawn(go.run());
            // A runtime that has ended drops a task at once, and the work is as it was.
            match self.go(tasks, is_held, true) {
                Some(again) => go = again,
                None => return Begun::Now(task),
            }
        }
        Begun::Nowhere(go)
    }

    /// Begins the work anew on the current runtime, after its own has ended.
    pub(super) fn resume(self: &Arc<Self>, tasks: &Tasks) {
        drop(self.begin(Handle::try_current(), tasks, true));
    }
}

impl Undo {
    /// Makes an undo by this future.
    pub fn new(work: impl Future<Output = Result<bool>> + Send + 'static) -> Self {
        Self::of(Job::Once(Box::pin(work)))
    }

    /// Makes an undo by the futures that `work` makes: one, and another one for each time that the
    /// end of a runtime cuts the work off. So it must do no harm to begin the work anew, whatever
    /// part of it was done.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// use kv_core::backend::Undo;
    /// use std::sync::{Arc, atomic::{AtomicBool, Ordering::SeqCst}};
    ///
    /// let is_there = Arc::new(AtomicBool::new(true));
    /// let there = is_there.clone();
    /// let undo = Undo::repeatable(move || {
    ///     let there = there.clone();
    ///     async move { Ok(there.swap(false, SeqCst)) }
    /// });
    /// assert!(undo.run().await?);
    /// assert!(!is_there.load(SeqCst));
    /// # Ok(()) }
    /// ```
    pub fn repeatable<F>(work: impl Fn() -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<bool>> + Send + 'static,
    {
        Self::of(Job::Again(Box::new(move || Box::pin(work()) as Doing)))
    }

    fn of(job: Job) -> Self {
        let (todo, runtime, tasks) = (Todo::new(job), Handle::try_current().ok(), Tasks::default());
        Self { todo, runtime, tasks, is_held: false }
    }

    /// Makes an undo that has nothing to do.
    pub fn nothing() -> Self {
        Self { todo: Arc::default(), runtime: None, tasks: Tasks::default(), is_held: false }
    }

    /// Undoes, and goes on in the background when the caller stops waiting; `false` when it was
    /// done before.
    ///
    /// # Errors
    /// Those of the future; [`Closed`](ErrorKind::Closed) when the runtime ended meanwhile.
    pub async fn run(self) -> Result<bool> {
        let ended = || Error::new(ErrorKind::Closed, "the runtime has ended");
        let runtimes = Handle::try_current().into_iter().chain(self.runtime.clone());
        match self.todo.begin(runtimes, &self.tasks, self.is_held) {
            Begun::Now(task) => task.await.unwrap_or_else(|e| Err(ended().with_cause(e))),
            // Work that another has begun is the other's to do, also while no task has taken it up
            // yet.
            Begun::Before => Ok(false),
            Begun::Nowhere(go) if self.runtime.is_none() && Handle::try_current().is_err() => go.run().await,
            Begun::Nowhere(_) => Err(ended()),
        }
    }

    /// Undoes within this future, for work that is a part of another [repeatable](Self::repeatable)
    /// one: a layer's, over that of the store below. Dropped half-way, it leaves the work to the
    /// next call, if that can be begun anew; `false` when it was done before, or somebody does it.
    ///
    /// # Errors
    /// Those of the future.
    pub async fn run_within(&self) -> Result<bool> {
        match self.todo.go(&self.tasks, self.is_held, false) {
            Some(go) => go.run().await,
            None => Ok(false),
        }
    }

    /// Drops the work: nothing will be undone.
    pub fn forget(self) {
        let job = lock(&self.todo.0).job.take();
        drop(job);
    }

    /// Has the work counted by these tasks once it runs, in place of the tasks that counted it
    /// before.
    pub(super) fn count_in(&mut self, tasks: &Tasks) {
        self.tasks = tasks.clone();
    }

    /// Does the same for the tasks of a handle that holds what this undoes.
    pub(crate) fn hold_in(&mut self, tasks: &Tasks) {
        self.count_in(tasks);
        self.is_held = true;
    }

    pub(crate) fn weak(&self) -> Undoing {
        Undoing(Arc::downgrade(&self.todo))
    }
}

impl Undoing {
    pub(crate) fn is_over(&self) -> bool {
        self.0.upgrade().is_none_or(|todo| todo.is_over())
    }

    /// Has the work done on the current runtime, counted by these tasks.
    pub(crate) fn begin(&self, tasks: &Tasks) {
        if let Some(todo) = self.0.upgrade() {
            todo.resume(tasks);
        }
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        let runtimes = self.runtime.clone().into_iter().chain(Handle::try_current());
        drop(self.todo.begin(runtimes, &self.tasks, self.is_held));
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
mod tests;
