//! A number of permits for each runtime.

use super::{ByRuntime, apart};
use crate::{Error, ErrorKind, Result, driver::Deadline};
use std::{future::Future, sync::Arc};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};

/// Limits how much is under way at once: each runtime that uses a store has so many permits, and so
/// have those who call from outside of any runtime. A runtime that stands still keeps its own, and
/// holds up no other one.
///
/// A free permit is given to whoever waits longest. Whoever waits is a task of its own: a future
/// that was begun, and that nobody polls any more, would be given a permit and keep it. For the
/// same reason a permit that was had at once is for work that does not wait, or is handed on to
/// what goes on by itself; where callers hold it over work that they have to poll, others must be
/// left for those that are tasks.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::{backend::Permits, driver::Deadline};
/// use std::{future::{Future, ready}, pin::pin, task::{Context, Waker}, time::Duration};
///
/// let permits = Permits::new(1);
/// let first = permits.at_once().expect("it is free");
/// assert!(permits.at_once().is_none());
///
/// // Two who wait, and who are polled once.
/// let no_time = Deadline::after(Duration::from_millis(5));
/// let mut late = pin!(permits.apart(no_time, |_permit| ready(Ok(1))));
/// let mut patient = pin!(permits.apart(Deadline::NEVER, |_permit| ready(Ok(2))));
/// let mut context = Context::from_waker(Waker::noop());
/// assert!(late.as_mut().poll(&mut context).is_pending());
/// assert!(patient.as_mut().poll(&mut context).is_pending());
/// assert_eq!(late.await?, None);
///
/// drop(first);
/// // The one that nobody polls has had its turn.
/// assert_eq!(permits.apart(Deadline::NEVER, |_permit| ready(Ok(3))).await?, Some(3));
/// assert_eq!(patient.await?, Some(2));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Permits {
    most: usize,
    by_runtime: ByRuntime<Arc<Semaphore>>,
    /// Those for whoever calls from outside of any runtime.
    outside: Arc<Semaphore>,
}

impl Permits {
    /// Makes so many permits for each runtime; 0 counts as 1.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        Self { most, by_runtime: ByRuntime::new(), outside: Arc::new(Semaphore::new(most)) }
    }

    /// Returns how many permits each runtime has.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Returns a permit, which is given back when it is dropped; `None` where none is free, where
    /// others wait for one, and once the permits are closed.
    pub fn at_once(&self) -> Option<OwnedSemaphorePermit> {
        self.here().ok()?.try_acquire_owned().ok()
    }

    /// Waits for a permit and does the work with it; both are a task of their own from the first
    /// moment on in which they have to wait, as with [`apart`](apart()). Outside of a runtime there
    /// are no tasks, and its caller has to poll it.
    ///
    /// Returns `None` when the deadline came before the permit, and the work was not begun. The
    /// deadline does not end the work.
    ///
    /// # Errors
    /// Those of the work; [`Closed`](ErrorKind::Closed) once the permits are closed, and when the
    /// runtime ends meanwhile.
    ///
    /// # Cancel safety
    /// A future that is dropped drops the work, and gives the permit back, a moment later.
    pub async fn apart<T, F>(
        &self,
        deadline: Deadline,
        work: impl FnOnce(OwnedSemaphorePermit) -> F + Send + 'static,
    ) -> Result<Option<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let permits = self.here()?;
        let work = Box::pin(async move {
            let Some(permit) = deadline.limit(permits.acquire_owned()).await else { return Ok(None) };
            let permit = permit.map_err(|e| closed().with_cause(e))?;
            work(permit).await.map(Some)
        });
        if Handle::try_current().is_ok() { apart(work).await } else { work.await }
    }

    /// Closes the permits of all runtimes: whoever waits for one hears so, and nobody gets one any
    /// more. Those that are held stay so.
    pub fn close(&self) {
        self.by_runtime.close().iter().chain([&self.outside]).for_each(|permits| permits.close());
    }

    fn here(&self) -> Result<Arc<Semaphore>> {
        match Handle::try_current() {
            Ok(_) => self.by_runtime.here(|| Arc::new(Semaphore::new(self.most))),
            Err(_) => Ok(self.outside.clone()),
        }
    }
}

#[cold]
fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store was closed")
}
