//! The user's side: the handle and its calls.

mod break_lock;
mod call;
mod calls;
mod checks;
mod closing;
mod guard;
mod holder;
mod lease;
mod lifetime;
mod list;
mod listing;
mod lock;
mod locks;
mod part;
mod read;
mod sentry;
mod shown;
mod transact;
mod trees;
mod under_way;
mod update;
mod watch;
mod write;

pub use break_lock::BreakLock;
pub use guard::Guard;
pub use holder::LockHolder;
pub use lease::{Lease, LeaseCall};
pub use list::List;
pub use listing::Listing;
pub use lock::Lock;
pub use locks::Locks;
pub use read::{Exists, Get, GetMany, HealthCall};
pub use transact::{Step, Txn};
pub use trees::{Adopt, DeleteTree};
pub use update::{Next, Update, Updated};
pub use watch::{Watch, WatchCall};
pub use write::{Delete, Put};

#[allow(unused_imports, reason = "the documentation speaks of it")]
use crate::ErrorKind;
use crate::{
    Capabilities, Result,
    backend::{Tasks, Undoing, lock as guarded},
    driver::{Deadline, Layer, Store},
    observe::{Observer, Observing},
};
use call::Does;
use part::Part;
use std::{
    sync::{Arc, Mutex, Weak, atomic::AtomicBool},
    time::Duration,
};
use tokio::sync::watch as flag;
use under_way::Writes;

/// A handle on an open store, cheap to clone; all clones are one.
///
/// Every call is a builder that does nothing until it is awaited, takes its options chained, and
/// ends within its deadline (five seconds unless told otherwise). A read that is cut off gives
/// [`Timeout`](ErrorKind::Timeout). A write that is cut off gives
/// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown), up to 50 ms later: in that time the store may
/// still say that nothing was sent. A call that the store's [`Capabilities`] rule out, and every
/// bad name and option, is refused before any I/O. The builders borrow nothing: their futures are
/// `'static` and `Send`. A function that takes a future and no more (`tokio::spawn`, `join_all`,
/// `JoinSet`) takes `kv.get("a").into_future()`.
///
/// Dropping the future of a call is safe at any point. A write that is dropped may or may not
/// happen.
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
    handle: Arc<Handle>,
    deadline: Duration,
}

/// The state that all clones of a handle share.
#[derive(Clone)]
struct Handle {
    /// The store at the top of its layers.
    store: Arc<dyn Store>,
    part: Part,
    observing: Option<Arc<Observing>>,
    /// Tells whether spans name the key.
    shows_keys: bool,
    shared: Arc<Shared>,
}

/// The state that the handles of one opened store share, whatever part and layers each has.
struct Shared {
    /// The store without layers.
    store: Arc<dyn Store>,
    /// The stores at the top of layers, which end with the handles that are on them.
    layers: Mutex<Vec<Weak<dyn Store>>>,
    shut: AtomicBool,
    /// Wakes what waits when the handle is closed.
    closed: flag::Sender<bool>,
    /// The result of closing; `None` until it is there.
    done: flag::Sender<Option<Result<()>>>,
    /// Guards and leases to give back when the handle is closed.
    held: Mutex<Vec<Undoing>>,
    /// The work that gives them back in the background.
    tasks: Tasks,
    writes: Writes,
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

    /// Returns the same handle with this deadline for each call that is not given one of its own.
    /// Unless set, it is five seconds. Clones that exist keep theirs.
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

    /// Returns the store, for layers and tests. Calls made on it directly are not checked, and
    /// their names are those in the whole tree, also where the handle is on a
    /// [part](Self::within) of it.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.handle.store
    }

    /// Puts a layer over the store of this handle, and returns the handle. The layer that is added
    /// last is the outermost: a call goes through it first. Clones that exist stay without it; all
    /// share the connections, and their end: [`close`](Self::close) of any closes all. No I/O.
    ///
    /// `Debug` of the handle shows the layers, the outermost first, and
    /// [`capabilities`](Self::capabilities) tell what is left of the store's.
    ///
    /// # Example
    /// ```
    /// # use kv_core::driver::{Layer, Store};
    /// # struct Nothing;
    /// # impl Layer for Nothing {
    /// #     fn layer(&self, inner: std::sync::Arc<dyn Store>) -> std::sync::Arc<dyn Store> {
    /// #         inner
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// # let limits = Nothing;
    /// # let metrics = Nothing;
    /// let kv = kv_memory::open("memory://").await?.layer(limits).layer(metrics);
    /// println!("{kv:?}"); // metrics over limits over the store
    /// # Ok(()) }
    /// ```
    #[doc(alias = "middleware")]
    #[doc(alias = "wrap")]
    #[doc(alias = "intercept")]
    #[must_use]
    pub fn layer(self, layer: impl Layer) -> Self {
        let mut handle = Handle::clone(&self.handle);
        handle.store = layer.layer(handle.store);
        {
            let mut layers = guarded(&handle.shared.layers);
            layers.retain(|store| store.strong_count() > 0);
            layers.push(Arc::downgrade(&handle.store));
        }
        Self { handle: Arc::new(handle), deadline: self.deadline }
    }

    /// Has this observer told what the handle does, for metrics, and returns the handle. An
    /// observer that it had is replaced; clones that exist keep theirs. What is told when stands at
    /// [`observe`](crate::observe). Without an observer nothing is spent on it.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// use kv_core::observe::{Call, End, Observer};
    /// use std::time::Duration;
    ///
    /// struct Slow(Duration);
    ///
    /// impl Observer for Slow {
    ///     fn call_ended(&self, call: &Call<'_>, _end: End<'_>, took: Duration) {
    ///         if took > self.0 {
    ///             eprintln!("{} of {:?} took {took:?}", call.operation, call.key);
    ///         }
    ///     }
    /// }
    ///
    /// let kv = kv_memory::open("memory://").await?.with_observer(Slow(Duration::from_millis(100)));
    /// kv.put("a", "1").await?;
    /// # Ok(()) }
    /// ```
    #[doc(alias = "metrics")]
    #[doc(alias = "instrument")]
    #[doc(alias = "hook")]
    #[must_use]
    pub fn with_observer(self, observer: impl Observer) -> Self {
        let observing = Observing { observer: Box::new(observer), backend: self.capabilities().backend };
        let handle = Handle { observing: Some(Arc::new(observing)), ..Handle::clone(&self.handle) };
        Self { handle: Arc::new(handle), deadline: self.deadline }
    }

    /// Has the spans of calls name their key, directory or lock, as `kv.key`, and returns the handle;
    /// clones that exist keep theirs. Otherwise no key is in any span: there are many of them, and
    /// they may tell of persons.
    ///
    /// Each call opens a span of `tracing` at the level `DEBUG`, with the fields of OpenTelemetry's
    /// conventions for databases: `otel.name` and `db.operation.name` have the operation,
    /// `db.system.name` the [system](crate::observe::system_name), `otel.kind` is `client`, or
    /// `internal` without a server. Of a call that failed `error.type` is the kind of the error, and
    /// `otel.status_code` is `ERROR`.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?.with_keys_in_spans();
    /// kv.put("app/color", "red").await?; // the span has kv.key="app/color"
    /// # Ok(()) }
    /// ```
    #[doc(alias = "tracing")]
    #[doc(alias = "opentelemetry")]
    #[must_use]
    pub fn with_keys_in_spans(self) -> Self {
        let handle = Handle { shows_keys: true, ..Handle::clone(&self.handle) };
        Self { handle: Arc::new(handle), deadline: self.deadline }
    }

    fn part(&self) -> &Part {
        &self.handle.part
    }

    /// Returns what the store can do: its limits, what an acknowledged write survives, and which
    /// promises its server rules out. No I/O: all of it is known since the store was opened.
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
    #[doc(alias = "features")]
    #[doc(alias = "limits")]
    pub fn capabilities(&self) -> &Capabilities {
        self.handle.store.as_ref().capabilities()
    }
}

impl From<Arc<dyn Store>> for Kv {
    fn from(store: Arc<dyn Store>) -> Self {
        let shared = Shared {
            store: store.clone(),
            layers: Mutex::default(),
            shut: AtomicBool::new(false),
            closed: flag::Sender::new(false),
            done: flag::Sender::new(None),
            held: Mutex::default(),
            tasks: Tasks::default(),
            writes: Writes::default(),
        };
        let (part, observing, shows_keys) = (Part::default(), None, false);
        let handle = Handle { store, part, observing, shows_keys, shared: Arc::new(shared) };
        Self { handle: Arc::new(handle), deadline: Deadline::DEFAULT }
    }
}

/// Makes a builder awaitable, as a `'static` future.
macro_rules! awaitable {
    ($call:ty => $answer:ty, $run:expr) => {
        impl IntoFuture for $call {
            type Output = Result<$answer>;
            type IntoFuture = futures_core::future::BoxFuture<'static, Self::Output>;
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
        /// Sets the time that this call has, in place of the handle's.
        #[doc(alias = "timeout")]
        pub fn deadline(mut self, within: std::time::Duration) -> Self {
            self.within = within;
            self
        }
    };
}
use deadline;
