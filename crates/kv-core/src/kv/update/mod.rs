//! `update`.

mod attempt;
mod marker;
mod work;

#[allow(unused_imports, reason = "the documentation speaks of them")]
use super::Put;
use super::{Kv, Lease, awaitable, deadline, lifetime::Lifetime, write::depends_on};
#[allow(unused_imports, reason = "the documentation speaks of it")]
use crate::ErrorKind;
use crate::{
    Bytes, Capabilities, Consistency, Directory, Entry, Fence, IntoKey, IntoValue, Key, Result, Written,
    driver::Deadline,
};
use marker::Marker;
use std::{fmt, time::Duration};
use work::Work;

/// The directory of the markers of updates that are made exactly once.
const MARKERS: &str = "kv-updates";
type Change = Box<dyn FnMut(Option<&Entry>) -> Result<Next> + Send>;

/// The decision of the function that is given to [`Kv::update`]: what becomes of the key. Every
/// value is one to put, so that the function may return `Ok("text")` as well as `Ok(Next::Delete)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The key is given this value.
    Put(Bytes),
    /// The key is deleted, if it is there.
    Delete,
    /// The key stays as it is, and nothing is written.
    Keep,
}

impl Next {
    /// Makes a put of this value, for functions that also answer one of the others.
    pub fn put(value: impl IntoValue) -> Self {
        Self::Put(value.into_value())
    }
}

impl<V: IntoValue> From<V> for Next {
    fn from(value: V) -> Self {
        Self::put(value)
    }
}

/// The answer of [`Kv::update`]: what was there, and what is there now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Updated {
    /// The entry that the function was given; `None` where the key was missing.
    pub before: Option<Entry>,
    /// The value that the update left; `None` where it left no key.
    pub value: Option<Bytes>,
    /// The version and the granted TTL of the put. `None` where nothing was put, and where the
    /// answer was lost and the marker of [`exactly_once`](Update::exactly_once) told that it was
    /// put.
    pub written: Option<Written>,
}

impl Updated {
    /// Returns the value as text; `None` where there is none, or it is not UTF-8.
    pub fn text(&self) -> Option<&str> {
        self.value.as_ref().and_then(|value| std::str::from_utf8(value).ok())
    }
}

/// [`Kv::update`], to be awaited.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::{Entry, Next};
///
/// let kv = kv_memory::open("memory://").await?;
/// let join = |name: &'static str| {
///     move |found: Option<&Entry>| match found.and_then(Entry::text) {
///         None => Ok(Next::put(name)),
///         Some(names) if names.split(' ').any(|there| there == name) => Ok(Next::Keep),
///         Some(names) => Ok(Next::put(format!("{names} {name}"))),
///     }
/// };
/// for name in ["ann", "bob", "ann"] {
///     kv.update("members", join(name)).await?;
/// }
/// assert_eq!(kv.get("members").await?.unwrap().text(), Some("ann bob"));
/// # Ok(()) }
/// ```
///
/// # Errors
/// Before any I/O those of a [`Put`], and [`Unsupported`](ErrorKind::Unsupported) for
/// [`exactly_once`](Self::exactly_once) on a store without transactions or TTLs. Then the
/// function's own; [`Timeout`](ErrorKind::Timeout) when others wrote the key again and again until
/// the time was over, with nothing written; [`LockLost`](ErrorKind::LockLost) and
/// [`LeaseLost`](ErrorKind::LeaseLost) as asked for; the server's refusals;
/// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) when the answer to a write was lost.
#[must_use = "a call does nothing until it is awaited"]
pub struct Update {
    kv: Kv,
    /// The key, or what is wrong with the call.
    key: Result<Key>,
    change: Change,
    life: Lifetime,
    fence: Option<Fence>,
    /// The directory of the marker; `None` where a lost answer is passed on.
    markers: Option<Result<Directory>>,
    within: Duration,
}

impl Update {
    pub(super) fn new<F, N>(kv: &Kv, key: Result<Key>, mut change: F) -> Self
    where
        F: FnMut(Option<&Entry>) -> Result<N> + Send + 'static,
        N: Into<Next>,
    {
        let change = move |found: Option<&Entry>| -> Result<Next> { change(found).map(Into::into) };
        let (change, life, within) = (Box::new(change), Lifetime::default(), kv.deadline);
        Self { kv: kv.clone(), key, change, life, fence: None, markers: None, within }
    }
    /// Sets how long the key lives after the update, as [`Put::ttl`]. Without it, and without a
    /// lease, the key is permanent then, whatever it was before.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.life.ttl = Some(ttl);
        self
    }
    /// Has the key live as long as the lease.
    pub fn lease(mut self, lease: &Lease) -> Self {
        self.life.lease = Some(lease.id().clone());
        self
    }
    /// Makes the update only while the lock is held, which the store decides in the same step;
    /// else it fails with [`LockLost`](ErrorKind::LockLost).
    pub fn fenced(mut self, lock: impl AsRef<Fence>) -> Self {
        depends_on(&mut self.key, &mut self.fence, lock.as_ref());
        self
    }
    /// Has a lost answer be found out: the update is made once, or it fails with an error that says
    /// so. With the value it writes a marker, in one transaction. When the answer is lost, the
    /// marker tells whether the write was done; if it was not, the same write is sent again, of
    /// which the store makes one at most.
    ///
    /// The marker is a key `kv-updates/ID`, which is deleted in the background once the update is
    /// answered. After a lost answer it stays until its TTL, a minute where the server grants as
    /// much, because a late request must find it. If the key has a TTL or a lease, the marker has
    /// the same. If the answer is not found out within the deadline, or within the marker's TTL,
    /// the error is [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) all the same.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// use kv_core::Entry;
    ///
    /// let kv = kv_memory::open("memory://").await?;
    /// kv_memory::Faults::of(&kv).unwrap().lose_answers(1);
    /// let grow = |found: Option<&Entry>| Ok(format!("{}x", found.and_then(Entry::text).unwrap_or("")));
    /// kv.update("a", grow).exactly_once().await?; // it was done, and the answer was lost
    /// assert_eq!(kv.get("a").await?.unwrap().text(), Some("x"));
    /// # Ok(()) }
    /// ```
    #[doc(alias = "idempotent")]
    pub fn exactly_once(mut self) -> Self {
        self.markers.get_or_insert_with(|| Directory::parse(MARKERS));
        self
    }
    /// Does the same as [`exactly_once`](Self::exactly_once), with the marker in this directory,
    /// for programs that may not write `kv-updates`.
    pub fn exactly_once_in(mut self, directory: impl IntoKey) -> Self {
        self.markers = Some(directory.into_directory());
        self
    }
    deadline!();

    async fn run(self) -> Result<Updated> {
        let Self { kv, key, change, life, fence, markers, within } = self;
        let key = key.map_err(|e| kv.in_call(e, "update", None))?;
        let can = kv.capabilities();
        let marker = check(can, &life, fence.as_ref(), markers.is_some())
            .and_then(|()| markers.map(|directory| Marker::new(can, &directory?, &life, within)).transpose());
        let marker = marker.map_err(|e| kv.in_call(e, "update", Some(key.as_str())))?;
        let work = Work::new(kv, key, life, fence, within);
        match marker {
            None => work.plain(change).await,
            Some(marker) => work.exactly_once(change, &marker).await,
        }
    }
}
awaitable!(Update => Updated, Update::run);

impl fmt::Debug for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Update")
            .field("key", &self.key)
            .field("life", &self.life)
            .field("within", &self.within)
            .finish_non_exhaustive()
    }
}

/// Checks what does not depend on the value.
fn check(capabilities: &Capabilities, life: &Lifetime, fence: Option<&Fence>, markers: bool) -> Result<()> {
    capabilities.check_consistency(Consistency::Linearizable)?;
    life.clone().options(capabilities, Deadline::NEVER)?;
    if fence.is_some() {
        capabilities.check_fence()?;
    }
    let operations = 4 + usize::from(fence.is_some());
    match capabilities.max_txn_ops {
        0 if markers => Err(capabilities.unsupported("transactions")),
        most if markers && most < operations => {
            Err(capabilities.unsupported(&format!("transactions of {operations} operations")))
        }
        _ => Ok(()),
    }
}
