//! The user's side: the handle and its calls.

mod calls;
mod lease;
mod list;
mod lock;
mod read;
mod transact;
mod watch;
mod write;

pub use lease::{Lease, LeaseCall};
pub use list::{List, Listing};
pub use lock::{Guard, Lock, LockHolder};
pub use read::{Exists, Get, GetMany, HealthCall};
pub use transact::{Step, Txn};
pub use watch::{Watch, WatchCall};
pub use write::{Adopt, Delete, DeleteTree, Put};

use crate::backend::{Tasks, Undo, Undoing, lock as guarded};
use crate::*;
use futures_core::future::BoxFuture;
use std::{
    fmt,
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{runtime::Handle, sync::watch as flag};
use tracing::Instrument;

/// A handle on an open store, cheap to clone; all clones are one.
///
/// Every call is a builder that does nothing until it is awaited, takes its options chained, and ends within its
/// deadline (five seconds unless told otherwise): a read that is cut off gives [`Timeout`](ErrorKind::Timeout), a write
/// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown), up to 50 ms later, in which the store may still say that nothing was sent.
/// A call that the store's [`Capabilities`] rule out, and every bad name and option, is refused before any I/O. The builders
/// borrow nothing: their futures are `'static` and `Send`. What takes a future and no more (`tokio::spawn`, `join_all`, `JoinSet`) takes `kv.get("a").into_future()`.
///
/// Dropping the future of a call is safe at any point. A write that is dropped may or may not happen.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use std::time::Duration;
///
/// let kv = kv_memory::open("memory://").await?;
/// let seen = kv.put("app/color", "red").await?.version;
/// kv.put("app/color", "blue").if_version(seen).ttl(Duration::from_secs(60)).await?;
/// assert!(kv.put("app/color", "green").if_version(seen).await.is_err());
/// assert_eq!(kv.get("app/color").await?.unwrap().text(), Some("blue"));
/// kv.close().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Kv {
    shared: Arc<Shared>,
    deadline: Duration,
}

struct Shared {
    store: Arc<dyn Store>,
    shut: AtomicBool,
    /// Wakes what waits when the handle is closed.
    closed: flag::Sender<bool>,
    /// The result of closing, once it is there.
    done: flag::Sender<Option<Result<()>>>,
    /// Guards and leases to give back when the handle is closed.
    held: Mutex<Vec<Undoing>>,
    /// What gives them back in the background.
    tasks: Tasks,
}

/// Tells the result of closing, also when the runtime ends meanwhile.
struct Closing(Arc<Shared>);

impl Closing {
    fn done(self, result: Result<()>) {
        self.0.done.send_replace(Some(result));
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        let ended = || Error::new(ErrorKind::Closed, "the runtime ended while the store was closed");
        self.0.done.send_if_modified(|done| done.is_none().then(|| *done = Some(Err(ended()))).is_some());
    }
}

/// What a call that is cut off may have done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    Read,
    Write,
}

impl Kv {
    /// Returns a handle on this store. Whoever opens a backend has one already: its `open`, or
    /// `Config::open`, makes it.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let store = kv_memory::Config::new().build().await?;
    /// let kv = kv_core::Kv::new(store);
    /// assert_eq!(kv.capabilities().backend, "memory");
    /// # Ok(()) }
    /// ```
    pub fn new(store: impl Store) -> Self {
        Self::from(Arc::new(store) as Arc<dyn Store>)
    }

    /// Returns the same handle with this deadline for each call that is not given one of its own: five
    /// seconds unless it is set. Clones that exist keep theirs.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// use std::time::Duration;
    ///
    /// let kv = kv_memory::open("memory://").await?;
    /// let hasty = kv.clone().with_deadline(Duration::from_millis(300));
    /// hasty.put("a", "1").await?;
    /// hasty.put("b", "2").deadline(Duration::from_secs(9)).await?; // this call alone
    /// # Ok(()) }
    /// ```
    #[doc(alias = "timeout")]
    #[doc(alias = "with_timeout")]
    #[must_use]
    pub fn with_deadline(mut self, each_call: Duration) -> Self {
        self.deadline = each_call;
        self
    }

    /// Returns the store, for layers and tests. What is called on it directly is not checked.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// Returns what the store can do: limits, what it survives, and which promises its server rules out.
    /// No I/O: it is known since the store was opened.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// let capabilities = kv.capabilities();
    /// assert!(capabilities.max_value >= 64 << 10);
    /// assert!(capabilities.lock.as_ref().is_some_and(|lock| lock.fair));
    /// # Ok(()) }
    /// ```
    pub fn capabilities(&self) -> &Capabilities {
        self.shared.store.as_ref().capabilities()
    }

    /// Closes all clones of this handle: guards become lost and are released, leases are revoked, waits and watches end
    /// with [`Closed`](ErrorKind::Closed), and so does every later call. It answers when all of that, and what others
    /// dropped meanwhile, is gone from the server. Idempotent. What was lost before, while no server could be asked, is nothing
    /// that it gives back: a server that comes back may keep it for up to its TTL more.
    ///
    /// A program that ends without it leaves its locks and leases to their TTLs, for what a drop begins in the background
    /// ends with the runtime: [`scope`](Self::scope) closes on success and failure alike.
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
    /// The first of what could not be given back within the deadline, which ends by its TTL then; the store's own, of
    /// ending its connections. The handle is closed all the same.
    ///
    /// # Cancel safety
    /// It goes on in the background when the caller stops waiting.
    #[doc(alias = "shutdown")]
    #[doc(alias = "disconnect")]
    pub async fn close(&self) -> Result<()> {
        let shared = &self.shared;
        if !shared.shut.swap(true, Ordering::AcqRel) {
            shared.tasks.note_failures();
            // Begun before anybody hears of the end: who drops a guard then finds nothing left to do that could overtake
            // the end of the connections.
            for undoing in guarded(&shared.held).drain(..) {
                undoing.begin(&shared.tasks);
            }
            shared.closed.send_replace(true);
            // Made here, so that a runtime that ends before the task has begun is heard of too.
            let (closing, within) = (Closing(shared.clone()), self.deadline);
            tokio::spawn(async move {
                let (shared, all) = (&closing.0, Deadline::after(within));
                let given_back = Deadline::after(within.mul_f64(0.8)).limit(shared.tasks.finish()).await;
                let given_back = given_back.unwrap_or_else(|| Err(not_given_back(within)));
                let ended = Deadline::after(all.remaining().max(Duration::from_millis(100)));
                let ended = ended.limit(shared.store.as_ref().close()).await;
                let ended = ended.unwrap_or_else(|| Err(not_given_back(within)));
                closing.done(given_back.and(ended));
            });
        }
        let mut done = shared.done.subscribe();
        let ended = done.wait_for(Option::is_some).await.ok().and_then(|r| r.clone()).unwrap_or(Ok(()));
        ended.map_err(|e| self.in_call(e, "close", None))
    }

    /// Runs the work with this handle, and [closes](Self::close) it behind it, on success and on failure alike: for
    /// `main`, and for tests. The work's error counts before that of closing.
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
    /// The work's own, else those of [`close`](Self::close).
    ///
    /// # Cancel safety
    /// Dropping it, or a panic of the work, closes in the background, as far as the runtime goes on.
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
        self.shared.shut.load(Ordering::Acquire)
    }

    /// Has the handle give it back at `close`, and wait for it; refused when it is closed already.
    fn hold(&self, undo: &mut Undo) -> Result<()> {
        undo.count_in(&self.shared.tasks);
        let mut held = guarded(&self.shared.held);
        if self.is_closed() {
            return Err(closed());
        }
        if held.len() == held.capacity() {
            held.retain(|undoing| !undoing.is_over());
        }
        held.push(undo.weak());
        Ok(())
    }

    /// Runs what gets something to hold; what comes too late for an end of the handle is not given out.
    async fn acquiring<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: BoxFuture<'static, Result<T>>,
    ) -> Result<T> {
        let got = self.shared.tasks.apart(work).await?;
        if self.is_closed() { Err(self.in_call(closed(), operation, None)) } else { Ok(got) }
    }

    fn until_closed(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut closed = self.shared.closed.subscribe();
        async move {
            // The sender may go first, with the last handle: then nobody can close any more.
            if closed.wait_for(|closed| *closed).await.is_err() {
                std::future::pending().await
            }
        }
    }

    #[cold]
    fn in_call(&self, error: Error, operation: &'static str, key: Option<&str>) -> Error {
        error.in_call(operation, self.capabilities().backend, key)
    }

    /// The one way of every call to the store: closed or not, span, deadline, context of the error.
    async fn call<T>(
        &self,
        operation: &'static str,
        key: Option<&str>,
        does: Does,
        deadline: Deadline,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if self.is_closed() {
            return Err(self.in_call(closed(), operation, key));
        }
        // A store that answers at once (memory, a cache) would never let other tasks run.
        tokio::task::coop::consume_budget().await;
        let span = tracing::debug_span!("kv", operation, key, backend = self.capabilities().backend);
        let answer = async {
            let mut work = pin!(work);
            match deadline.limit(work.as_mut()).await {
                // The store keeps the deadline itself, and it alone knows whether a write was sent.
                None if does == Does::Write => Deadline::after(LAST_WORD).limit(work).await,
                answer => answer,
            }
        };
        let answer = answer.instrument(span).await;
        answer.unwrap_or_else(|| Err(cut_off(does, deadline))).map_err(|e| self.in_call(e, operation, key))
    }

    /// The store and the deadline of a call that begins now.
    fn begin(&self, within: Duration) -> (&dyn Store, Deadline) {
        (self.shared.store.as_ref(), Deadline::after(within))
    }
}

impl From<Arc<dyn Store>> for Kv {
    fn from(store: Arc<dyn Store>) -> Self {
        let shared = Shared {
            store,
            shut: AtomicBool::new(false),
            closed: flag::Sender::new(false),
            done: flag::Sender::new(None),
            held: Mutex::default(),
            tasks: Tasks::default(),
        };
        Self { shared: Arc::new(shared), deadline: Deadline::DEFAULT }
    }
}

impl fmt::Debug for Kv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { store, .. } = &*self.shared;
        f.debug_struct("Kv").field("store", store).field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

#[cold]
fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store's handle was closed")
}

#[cold]
fn not_given_back(within: Duration) -> Error {
    let why =
        format!("not all was given back within {within:?}; locks and leases that are left end by their TTL");
    Error::new(ErrorKind::Timeout, why)
}

/// How long beyond a write's deadline the store's own word on it is waited for: on a machine that stood still both fall due
/// at once.
const LAST_WORD: Duration = Duration::from_millis(50);

#[cold]
fn cut_off(does: Does, deadline: Deadline) -> Error {
    let within = deadline.within();
    match does {
        Does::Read => Error::new(ErrorKind::Timeout, format!("no answer within {within:?}")),
        Does::Write => Error::new(
            ErrorKind::OutcomeUnknown,
            format!(
                "no answer within {within:?}; the write may or may not have happened, so read before writing again"
            ),
        ),
    }
}

impl Capabilities {
    fn check_consistency(&self, consistency: Consistency) -> Result<()> {
        match (self.linearizable, consistency) {
            (Linearizable::Never, Consistency::Linearizable) => {
                Err(self.unsupported("linearizable reads (ask for stale ones)"))
            }
            _ => Ok(()),
        }
    }

    fn check_value(&self, value: &Bytes) -> Result<()> {
        if value.len() <= self.max_value {
            return Ok(());
        }
        let (long, most) = (value.len(), self.max_value);
        Err(Error::new(
            ErrorKind::TooLarge,
            format!("a value of {long} bytes; this store takes at most {most}"),
        ))
    }

    fn check_put(&self, value: &Bytes, options: &PutOptions) -> Result<()> {
        self.check_value(value)?;
        match (options.ttl, &options.lease) {
            (Some(_), Some(_)) => Err(Error::new(
                ErrorKind::InvalidArgument,
                "a TTL together with a lease; a key lives by one of them, so give only that one",
            )),
            (Some(ttl), None) => {
                self.ttl.as_ref().ok_or_else(|| self.unsupported("TTLs"))?.grant(ttl).map(drop)
            }
            (None, Some(_)) if self.lease.is_none() => Err(self.unsupported("leases")),
            _ => Ok(()),
        }
    }

    fn check_fence(&self) -> Result<()> {
        match &self.lock {
            Some(locking) if locking.fenced_writes && self.max_txn_ops > 1 => Ok(()),
            _ => Err(self.unsupported("writes that depend on a lock")),
        }
    }
}

/// Makes a builder awaitable, as a `'static` future.
macro_rules! awaitable {
    ($call:ty => $answer:ty, $run:expr) => {
        impl IntoFuture for $call {
            type Output = Result<$answer>;
            type IntoFuture = BoxFuture<'static, Self::Output>;
            fn into_future(self) -> Self::IntoFuture {
                Box::pin($run(self))
            }
        }
    };
}
use awaitable;

/// The setter that every builder has.
macro_rules! deadline {
    () => {
        /// The time that this call has, in place of the handle's.
        #[doc(alias = "timeout")]
        pub fn deadline(mut self, within: Duration) -> Self {
            self.within = within;
            self
        }
    };
}
use deadline;
