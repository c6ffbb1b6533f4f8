//! `watch`, `watch_tree`.

use super::{Does, Kv, awaitable, closing::closed, part::Part};
use crate::{
    Error, ErrorKind, Result, WatchEvent, Watching,
    driver::{Target, WatchOptions, WatchStream},
    observe::Origin,
};
use futures_core::{Stream, future::BoxFuture};
use std::{
    fmt,
    future::poll_fn,
    mem,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

/// [`Kv::watch`], [`Kv::watch_tree`] and [`LockHolder::watch`](crate::LockHolder::watch), to be
/// awaited.
///
/// # Errors
/// Before any I/O [`InvalidKey`](ErrorKind::InvalidKey), and
/// [`Unsupported`](ErrorKind::Unsupported) where the store has no watches. A server that is away
/// is waited for inside the stream.
#[derive(Debug)]
#[must_use = "a call does nothing until it is awaited"]
pub struct WatchCall {
    kv: Kv,
    /// The call that the program makes.
    operation: &'static str,
    target: Result<Target>,
    within: Duration,
}

impl WatchCall {
    pub(super) fn new(kv: &Kv, operation: &'static str, target: Result<Target>) -> Self {
        Self { kv: kv.clone(), operation, target, within: kv.deadline }
    }
    /// Sets the time that the beginning of the watch and each single request of it have, in place
    /// of the handle's. The watch itself has no end.
    #[doc(alias = "timeout")]
    pub fn deadline(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    async fn run(self) -> Result<Watch> {
        let operation = self.operation;
        let target = self.target.map_err(|e| self.kv.in_call(e, operation, None))?;
        let closed = Box::pin(self.kv.until_closed());
        let (store, deadline) = self.kv.begin(self.within);
        let watch = async {
            let capabilities = store.capabilities();
            if capabilities.watch == Watching::Unsupported {
                return Err(capabilities.unsupported("watches"));
            }
            if matches!(target, Target::Holder(_)) && capabilities.lock.is_none() {
                return Err(capabilities.unsupported("locks"));
            }
            let options = WatchOptions { each_request: self.within };
            let whole = self.kv.part().whole_target(&target)?;
            store.watch(&whole, &options).await
        };
        let stream = self.kv.call(operation, Some(target.name()), Does::Read, deadline, watch).await?;
        let (backend, part) = (self.kv.capabilities().backend, self.kv.part().clone());
        let origin = self.kv.handle.observing.as_ref().map(|observing| Origin::new(observing, operation));
        let observed = origin.map(|origin| Observed::begin(origin, &target));
        let inner = Mutex::new(Some(Inner { stream, closed, part, observed, is_synced: false }));
        Ok(Watch { inner, operation, backend, target })
    }
}
awaitable!(WatchCall => Watch, WatchCall::run);

/// The events of a key, of the keys below a directory, or of the holder of a lock: what is there
/// as `Put`s, then `Synced`, then every change, without end. Outages are ridden out inside.
/// Folding the events over an empty map always arrives at what a listing shows. It is also a
/// [`Stream`], which ends behind its first error.
///
/// A reader that is slow holds back this watch alone. Dropping the watch stops all its work, on
/// the server too.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::WatchEvent;
/// use std::collections::BTreeMap;
///
/// let kv = kv_memory::open("memory://").await?;
/// kv.put("config/a", "1").await?;
/// let mut changes = kv.watch_tree("config").await?;
/// kv.put("config/b", "2").await?;
/// kv.delete("config/a").await?;
///
/// let mut mirror = BTreeMap::new();
/// while mirror.len() != 1 || !mirror.contains_key("config/b") {
///     match changes.event().await? {
///         WatchEvent::Put(entry) => drop(mirror.insert(entry.key, entry.value)),
///         WatchEvent::Delete { key, .. } => drop(mirror.remove(&key)),
///         WatchEvent::Synced => {}
///     }
/// }
/// # Ok(()) }
/// ```
#[must_use = "a watch does nothing until it is read"]
pub struct Watch {
    /// `None` once it has ended. The mutex is never locked: it makes the watch `Sync`, so that
    /// structs that hold one can be shared.
    inner: Mutex<Option<Inner>>,
    operation: &'static str,
    backend: &'static str,
    target: Target,
}

struct Inner {
    stream: WatchStream,
    closed: BoxFuture<'static, ()>,
    part: Part,
    /// `None` where nobody observes.
    observed: Option<Observed>,
    /// A `Synced` was given.
    is_synced: bool,
}

/// An open watch, as an observer knows it.
struct Observed {
    origin: Origin,
    name: Box<str>,
}

impl Observed {
    fn begin(origin: Origin, target: &Target) -> Self {
        origin.watch_began(target.name());
        Self { origin, name: target.name().into() }
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.origin.watch_ended(&self.name);
    }
}

impl Inner {
    /// Asks the store for the next event.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<WatchEvent>> {
        let polled = {
            let _entered = self.observed.as_ref().map(|observed| observed.origin.enter());
            self.stream.as_mut().poll_next(cx)
        };
        let event = match ready!(polled) {
            Some(event) => event.and_then(|event| self.part.own_event(event))?,
            None => {
                let why = "the store ended the watch without a reason";
                return Poll::Ready(Err(Error::new(ErrorKind::Other, why)));
            }
        };
        if event == WatchEvent::Synced
            && mem::replace(&mut self.is_synced, true)
            && let Some(observed) = &self.observed
        {
            observed.origin.resynced(&observed.name);
        }
        Poll::Ready(Ok(event))
    }
}

impl Watch {
    /// Returns the next event. Cancel safe: an event that was not given is given by the next call.
    ///
    /// # Errors
    /// The error that ended the watch for good: [`Closed`](ErrorKind::Closed) by [`Kv::close`] and
    /// after any other error, or the server's refusal, such as
    /// [`PermissionDenied`](ErrorKind::PermissionDenied).
    #[doc(alias = "next")]
    pub async fn event(&mut self) -> Result<WatchEvent> {
        let next = poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await;
        next.unwrap_or_else(|| Err(self.context(Error::new(ErrorKind::Closed, "the watch has ended"))))
    }

    fn context(&self, error: Error) -> Error {
        error.in_call(self.operation, self.backend, Some(self.target.name()))
    }
}

impl Stream for Watch {
    type Item = Result<WatchEvent>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let inner = this.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(watch) = inner else { return Poll::Ready(None) };
        let error = if watch.closed.as_mut().poll(cx).is_ready() {
            closed()
        } else {
            match ready!(watch.poll_event(cx)) {
                Ok(event) => return Poll::Ready(Some(Ok(event))),
                Err(e) => e,
            }
        };
        *inner = None;
        Poll::Ready(Some(Err(this.context(error))))
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("target", &self.target).finish_non_exhaustive()
    }
}
