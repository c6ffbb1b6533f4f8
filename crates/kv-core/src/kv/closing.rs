//! The end of a handle: what it gives back, and what it refuses from then on.

use super::{Kv, Shared};
use crate::{
    Error, ErrorKind, Result,
    backend::{Undo, lock as guarded},
    driver::Deadline,
    observe::Origin,
};
use futures_core::future::BoxFuture;
use std::{
    future::Future,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};
use tokio::runtime::Handle;

/// The time for which `close` waits beyond its deadline for the task that closes, which begins a
/// moment later, and has a little time for the connections in any case.
const BEYOND: Duration = Duration::from_millis(500);

/// Tells the result of closing, also when the runtime ends meanwhile.
struct Closing(Arc<Shared>);

impl Closing {
    fn done(self, result: Result<()>) {
        self.0.done.send_replace(Some(result));
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        let is_new =
            |done: &mut Option<_>| done.is_none().then(|| *done = Some(Err(runtime_ended()))).is_some();
        self.0.done.send_if_modified(is_new);
    }
}

impl Shared {
    /// Waits for what is under way, and for what is given back, and ends the connections, within this
    /// time.
    async fn close(self: Arc<Self>, within: Duration) -> Result<()> {
        let (all, back) = (Deadline::after(within), Deadline::after(within.mul_f64(0.8)));
        // A write that is under way may be acknowledged yet, and leave something to give back. One
        // that nobody polls does not hold it up for long.
        let _ = Deadline::after(within.mul_f64(0.2)).limit(self.writes.none()).await;
        let given_back = back.limit(self.tasks.finish()).await;
        let given_back = given_back.unwrap_or_else(|| Err(not_given_back(all)));
        // It is a task, so that no store stays open because another one takes too long.
        let ending = tokio::spawn(async move { self.end().await });
        let ended = Deadline::after(all.remaining().max(Duration::from_millis(100))).limit(ending).await;
        let ended = ended.map(|ended| ended.unwrap_or_else(|e| Err(runtime_ended().with_cause(e))));
        given_back.and(ended.unwrap_or_else(|| Err(not_given_back(all))))
    }

    /// Ends the connections of every store that a handle is on: those of layers first, the newest
    /// before the others.
    async fn end(&self) -> Result<()> {
        let layers: Vec<_> = guarded(&self.layers).iter().rev().filter_map(Weak::upgrade).collect();
        let mut all = Ok(());
        for store in layers.iter().chain([&self.store]) {
            let ended = store.as_ref().close().await;
            all = all.and(ended);
        }
        all
    }
}

impl Kv {
    /// Closes all clones of this handle: guards become lost and are released, leases are revoked, waits
    /// and watches end with [`Closed`](ErrorKind::Closed), and so does every later call. Writes that
    /// are under way have a fifth of the deadline to end as if nothing was. It returns when all of
    /// that, and what others dropped meanwhile, is gone from the server. It may be called again. It
    /// does not give back what was lost before, while no server could be asked: a server that comes
    /// back may keep that for up to its TTL more.
    ///
    /// A program that ends without it leaves its locks and leases to their TTLs, since what a drop
    /// begins in the background ends with the runtime; called in another runtime, `close` does what
    /// the first one left. [`scope`](Self::scope) closes on success and failure alike.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// let guard = kv.new_lock("leader").acquire().await?;
    /// kv.close().await?; // releases it
    /// assert!(!guard.is_held());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The first failure to give something back within the deadline, which ends by its TTL then;
    /// else the failure of the store to end its connections. The handle is closed all the same.
    /// [`Timeout`](ErrorKind::Timeout) when the deadline has passed before an earlier `close` has
    /// done its part, as where the runtime in which it was called stands still.
    ///
    /// # Cancel safety
    /// It goes on in the background when the caller stops waiting.
    #[doc(alias = "shutdown")]
    #[doc(alias = "disconnect")]
    pub async fn close(&self) -> Result<()> {
        let (shared, observed) = (&self.handle.shared, self.observed("close", None));
        let by = Deadline::after(self.deadline);
        if !shared.shut.swap(true, Ordering::SeqCst) {
            let _entered = observed.origin().map(Origin::enter);
            shared.tasks.note_failures();
            // These begin before anybody hears of the end. A guard that is dropped on that news
            // then finds nothing left to do, which would come too late for the connections.
            for undoing in guarded(&shared.held).drain(..) {
                undoing.begin(&shared.tasks);
            }
            shared.closed.send_replace(true);
            // It is made here, so that the end of a runtime in which the task never began is told
            // too.
            let (closing, within) = (Closing(shared.clone()), self.deadline);
            tokio::spawn(async move {
                let closed = closing.0.clone().close(within).await;
                closing.done(closed);
            });
        }
        let mut done = shared.done.subscribe();
        let ended = async { done.wait_for(Option::is_some).await.ok().and_then(|r| r.clone()) };
        // The task may be one of a runtime that stands still.
        let ended = Deadline::after(by.remaining().saturating_add(BEYOND)).limit(ended).await;
        let ended = ended.unwrap_or_else(|| Some(Err(not_given_back(by)))).unwrap_or(Ok(()));
        let ended = ended.map_err(|e| self.in_call(e, "close", None));
        observed.end(ended.as_ref().err());
        ended
    }

    /// Runs the work with this handle, and [closes](Self::close) the handle behind it, on success
    /// and on failure alike. It is for `main`, and for tests. The work's error counts before that
    /// of closing.
    ///
    /// ```
    /// # async fn open() -> kv_core::Result<kv_core::Kv> { kv_memory::open("memory://").await }
    /// use kv_core::{Kv, Result};
    ///
    /// async fn run(kv: Kv) -> Result<u64> {
    ///     let guard = kv.new_lock("leader").acquire().await?;
    ///     kv.put("plan", "v2").fenced(&guard).await?;
    ///     Ok(guard.token())
    /// }
    ///
    /// #[tokio::main]
    /// async fn main() -> Result<()> {
    ///     let kv = open().await?;
    ///     kv.scope(run).await?; // the lock is free on the server, whatever `run` gave
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// Those of the work, else those of [`close`](Self::close).
    ///
    /// # Cancel safety
    /// If the future is dropped, or the work panics, the handle is closed in the background, as
    /// far as the runtime goes on.
    #[doc(alias = "close_after")]
    #[doc(alias = "with")]
    #[doc(alias = "defer")]
    pub async fn scope<T, E, F>(self, work: impl FnOnce(Kv) -> F) -> Result<T, E>
    where
        E: From<Error>,
        F: Future<Output = Result<T, E>>,
    {
        struct Scope(Option<Kv>);
        impl Drop for Scope {
            fn drop(&mut self) {
                if let (Some(kv), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
                    runtime.spawn(async move { kv.close().await });
                }
            }
        }
        let mut scope = Scope(Some(self.clone()));
        let answer = work(self.clone()).await;
        let closed = self.close().await;
        scope.0 = None;
        let answer = answer?;
        closed?;
        Ok(answer)
    }

    /// Returns whether the handle was closed, by any of its clones. No I/O.
    pub fn is_closed(&self) -> bool {
        self.handle.shared.shut.load(Ordering::SeqCst)
    }

    /// Has `close` undo this and wait for it; refuses when the handle is closed already.
    pub(super) fn hold(&self, undo: &mut Undo) -> Result<()> {
        let shared = &self.handle.shared;
        undo.hold_in(&shared.tasks);
        let mut held = guarded(&shared.held);
        if self.is_closed() {
            return Err(closed());
        }
        if held.len() == held.capacity() {
            held.retain(|undoing| !undoing.is_over());
        }
        held.push(undo.weak());
        Ok(())
    }

    /// Runs work that brings something to hold. What it brings after the handle was closed is not
    /// given out.
    pub(super) async fn acquiring<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: BoxFuture<'static, Result<T>>,
    ) -> Result<T> {
        // The lock that is asked for may be one that a runtime has left.
        self.handle.shared.tasks.resume();
        let got = self.handle.shared.tasks.apart(work).await?;
        if self.is_closed() { Err(self.in_call(closed(), operation, None)) } else { Ok(got) }
    }

    pub(super) fn until_closed(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut closed = self.handle.shared.closed.subscribe();
        async move {
            // The sender may go first, with the last handle: then nobody can close any more.
            if closed.wait_for(|closed| *closed).await.is_err() {
                std::future::pending().await
            }
        }
    }
}

#[cold]
pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store's handle was closed")
}

#[cold]
fn runtime_ended() -> Error {
    Error::new(ErrorKind::Closed, "the runtime ended while the store was closed")
}

#[cold]
fn not_given_back(by: Deadline) -> Error {
    let why = format!("not all was given back within {by}; locks and leases that are left end by their TTL");
    Error::new(ErrorKind::Timeout, why)
}
