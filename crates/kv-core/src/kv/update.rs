//! `update`.

use super::{
    Delete, Get, Kv, Lease, Put, Txn, awaitable, deadline,
    write::{depends_on, lock_lost},
};
use crate::{
    Bytes, Capabilities, Condition, Consistency, Directory, Entry, Error, ErrorKind, Fence, IntoKey,
    IntoValue, Key, Outcome, Refusal, Result, Written,
    backend::{Backoff, Clock, Instant, retry::outcome_unknown, unique},
    driver::{Deadline, Expect, PutOptions, WriteOptions},
};
use std::{fmt, time::Duration};
use tokio::runtime::Handle;

/// The directory of the markers of updates that are made exactly once.
const MARKERS: &str = "kv-updates";
/// The times that a marker stays at least, where the server grants as much, and at most.
const MARKER_TTL: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(86_400));
/// The first and the greatest ceiling of the pauses after writes of others.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(320));

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
    options: PutOptions,
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
        // The deadline is set for each request.
        let options = PutOptions { deadline: Deadline::NEVER, ttl: None, lease: None };
        let (change, within) = (Box::new(change), kv.deadline);
        Self { kv: kv.clone(), key, change, options, fence: None, markers: None, within }
    }
    /// Sets how long the key lives after the update, as [`Put::ttl`]. Without it, and without a
    /// lease, the key is permanent then, whatever it was before.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.options.ttl = Some(ttl);
        self
    }
    /// Has the key live as long as the lease.
    pub fn lease(mut self, lease: &Lease) -> Self {
        self.options.lease = Some(lease.id().clone());
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
        let Self { kv, key, change, options, fence, markers, within } = self;
        let key = key.map_err(|e| kv.in_call(e, "update", None))?;
        let can = kv.capabilities();
        let marker = check(can, &options, fence.as_ref(), markers.is_some()).and_then(|()| {
            markers.map(|directory| Marker::new(can, &directory?, &options, within)).transpose()
        });
        let marker = marker.map_err(|e| kv.in_call(e, "update", Some(key.as_str())))?;
        let (deadline, pauses) = (Deadline::after(within), Backoff::new(PAUSES.0, PAUSES.1));
        let work =
            Work { kv, key, options, fence, within, deadline, pauses, attempts: 0, conflicts: 0, lost: None };
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
            .field("options", &self.options)
            .field("within", &self.within)
            .finish_non_exhaustive()
    }
}

/// Checks what does not depend on the value.
fn check(
    capabilities: &Capabilities,
    options: &PutOptions,
    fence: Option<&Fence>,
    markers: bool,
) -> Result<()> {
    capabilities.check_consistency(Consistency::Linearizable)?;
    capabilities.check_put(&Bytes::new(), options)?;
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

/// The key that a transaction writes beside its change, and that tells that it was made.
struct Marker {
    key: Key,
    options: PutOptions,
    /// The TTL as granted; `None` where the marker lives under a lease.
    ttl: Option<Duration>,
    clock: Clock,
}

impl Marker {
    fn new(
        capabilities: &Capabilities,
        directory: &Directory,
        of_the_key: &PutOptions,
        within: Duration,
    ) -> Result<Self> {
        let key = directory.join(&Key::parse(&format!("{:016x}", unique()))?)?;
        let (mut options, clock) = (of_the_key.clone(), Clock::system());
        if options.lease.is_some() {
            return Ok(Self { key, options, ttl: None, clock });
        }
        let range = capabilities.ttl.as_ref().ok_or_else(|| capabilities.unsupported("TTLs"))?;
        // Some servers give all keys of one transaction one TTL.
        let long = within.saturating_mul(2).clamp(MARKER_TTL.0, MARKER_TTL.1).min(range.greatest);
        options.ttl.get_or_insert(long);
        let ttl = options.ttl.map(|ttl| range.grant(ttl)).transpose()?;
        Ok(Self { key, options, ttl, clock })
    }

    /// Tells whether the attempt may have been made so long ago that its marker has ended.
    fn may_have_gone(&self, attempt: &Attempt) -> bool {
        self.ttl.zip(attempt.sent).is_some_and(|(ttl, sent)| self.clock.now().since(sent) >= ttl)
    }
}

/// One change that was computed of what was there.
struct Attempt {
    /// The number that its marker holds.
    number: u32,
    before: Option<Entry>,
    next: Next,
    /// The moment before it was sent for the first time.
    sent: Option<Instant>,
}

impl Attempt {
    fn changes_nothing(&self) -> bool {
        match self.next {
            Next::Put(_) => false,
            Next::Delete => self.before.is_none(),
            Next::Keep => true,
        }
    }

    /// Tells whether this was computed of what is there now.
    fn is_of(&self, found: Option<&Entry>) -> bool {
        expect(self.before.as_ref()) == expect(found)
    }

    /// Tells whether a request of this attempt can still be made when this is there. A key that was
    /// missing can be missing again, while no version comes twice.
    fn can_still_be_made(&self, found: Option<&Entry>) -> bool {
        self.before.is_none() || self.is_of(found)
    }

    fn done(self, written: Option<Written>) -> Updated {
        let value = match self.next {
            Next::Put(value) => Some(value),
            Next::Delete => None,
            Next::Keep => self.before.as_ref().map(|entry| entry.value.clone()),
        };
        Updated { before: self.before, value, written }
    }
}

/// Returns the precondition that what was found is there still.
fn expect(found: Option<&Entry>) -> Expect {
    found.map_or(Expect::Missing, |entry| Expect::Version(entry.version))
}

/// The work of one update. The function is kept apart, since it cannot be shared between threads.
struct Work {
    kv: Kv,
    key: Key,
    options: PutOptions,
    fence: Option<Fence>,
    within: Duration,
    deadline: Deadline,
    pauses: Backoff,
    attempts: u32,
    /// The number of attempts that failed because another wrote the key first.
    conflicts: u32,
    /// The last failure that left the outcome unknown.
    lost: Option<Error>,
}

impl Work {
    /// Reads, computes and writes until nobody comes in between.
    async fn plain(mut self, mut change: Change) -> Result<Updated> {
        loop {
            let before = self.read(&self.key).await?;
            let attempt = self.compute(&mut change, before)?;
            if attempt.changes_nothing() {
                return Ok(attempt.done(None));
            }
            match self.write(&attempt).await {
                Ok(written) => return Ok(attempt.done(written)),
                Err(e) if e.is_conflict() => self.conflicts += 1,
                Err(e) => return Err(e),
            }
            self.pause().await?;
        }
    }

    /// Does the same by transactions with a marker, which tells about the attempts that are `open`:
    /// those whose answers were lost.
    async fn exactly_once(mut self, mut change: Change, marker: &Marker) -> Result<Updated> {
        let mut open = Vec::new();
        loop {
            match self.once(&mut change, marker, &mut open).await {
                Ok(Some(updated)) => return Ok(updated),
                Ok(None) => {}
                Err(e) if open.is_empty() => return Err(e),
                Err(e) if e.is_transient() => {}
                Err(e) => return Err(self.failed(outcome_unknown(e))),
            }
            match self.pause().await {
                Err(_) if !open.is_empty() => return Err(self.unknown()),
                paused => paused?,
            }
        }
    }

    /// Finds out about the open attempts, and makes one attempt; `None` when another one is needed.
    async fn once(
        &mut self,
        change: &mut Change,
        marker: &Marker,
        open: &mut Vec<Attempt>,
    ) -> Result<Option<Updated>> {
        let found = self.read(&self.key).await?;
        if !open.is_empty() {
            // The marker is read behind the key. Where the key has another version by an open
            // attempt, its marker is there by now.
            if let Some(updated) = self.marked(marker, open).await? {
                return Ok(Some(updated));
            }
            open.retain(|attempt| attempt.can_still_be_made(found.as_ref()));
        }
        let mut attempt = match open.iter().position(|attempt| attempt.is_of(found.as_ref())) {
            Some(at) => open.swap_remove(at),
            None => self.compute(change, found)?,
        };
        if attempt.changes_nothing() && open.is_empty() {
            return Ok(Some(attempt.done(None)));
        }
        let is_sent_again = attempt.sent.is_some();
        attempt.sent.get_or_insert_with(|| marker.clock.now());
        match self.transact(&attempt, marker).await {
            Ok(Outcome::Committed(written)) => {
                // A late request to create the key must find the marker.
                if !is_sent_again && open.is_empty() {
                    self.sweep(marker);
                }
                let written = written.into_iter().next().flatten();
                let written = written.filter(|_| matches!(attempt.next, Next::Put(_)));
                Ok(Some(attempt.done(written)))
            }
            Ok(Outcome::Refused(Refusal { condition, .. })) => {
                let is_marked = matches!(&condition, Condition::Missing(key) if *key == marker.key);
                if is_sent_again || is_marked {
                    open.push(attempt);
                }
                let Condition::Held(fence) = condition else {
                    self.conflicts += 1;
                    return Ok(None);
                };
                // No attempt can be made any more. The marker tells whether one was.
                if !open.is_empty()
                    && let Some(updated) = self.marked(marker, open).await?
                {
                    return Ok(Some(updated));
                }
                open.clear();
                Err(self.failed(lock_lost(&fence)))
            }
            Err(e) if e.kind() == ErrorKind::OutcomeUnknown => {
                open.push(attempt);
                self.lost = Some(e);
                Ok(None)
            }
            Err(e) => {
                if is_sent_again {
                    open.push(attempt);
                }
                Err(e)
            }
        }
    }

    /// Reads the marker, and returns what the attempt did that wrote it; `None` where none was made
    /// so far.
    async fn marked(&self, marker: &Marker, open: &mut Vec<Attempt>) -> Result<Option<Updated>> {
        let Some(mark) = self.read(&marker.key).await? else {
            if open.iter().any(|attempt| marker.may_have_gone(attempt)) {
                let why = format!(
                    "the answer was lost, and the marker {:?}, which would tell, may have ended by its TTL; read \
                     before writing again",
                    marker.key
                );
                return Err(Error::new(ErrorKind::OutcomeUnknown, why));
            }
            return Ok(None);
        };
        let number = mark.text().and_then(|number| number.parse::<u32>().ok());
        let Some(at) = open.iter().position(|attempt| Some(attempt.number) == number) else {
            let why =
                format!("the marker {:?} holds {:?}, which this update did not write", mark.key, mark.text());
            return Err(Error::new(ErrorKind::Corrupt, why));
        };
        Ok(Some(open.swap_remove(at).done(None)))
    }

    fn compute(&mut self, change: &mut Change, before: Option<Entry>) -> Result<Attempt> {
        let next = change(before.as_ref()).map_err(|e| self.failed(e))?;
        self.attempts += 1;
        Ok(Attempt { number: self.attempts, before, next, sent: None })
    }

    async fn read(&self, key: &Key) -> Result<Option<Entry>> {
        Get::new(&self.kv, Ok(key.clone())).deadline(self.left()).send("update").await
    }

    async fn write(&self, attempt: &Attempt) -> Result<Option<Written>> {
        let (expect, within) = (expect(attempt.before.as_ref()), self.left());
        match &attempt.next {
            Next::Put(value) => self.put(value, expect, within).send("update").await.map(Some),
            Next::Delete | Next::Keep => self.delete(expect, within).send("update").await.map(|_| None),
        }
    }

    async fn transact(&self, attempt: &Attempt, marker: &Marker) -> Result<Outcome> {
        // A server that is silent leaves time to find out what it did.
        let within = if self.left() == Duration::MAX { Duration::MAX } else { self.left() / 2 };
        let (txn, expect) = (Txn::new(&self.kv).deadline(within), expect(attempt.before.as_ref()));
        let txn = match (&attempt.next, &attempt.before) {
            (Next::Put(value), _) => txn.then(self.put(value, expect, within)),
            (Next::Delete, Some(_)) => txn.then(self.delete(expect, within)),
            // It keeps late requests of open attempts from being made.
            (Next::Keep, Some(entry)) => txn.when_version(&self.key, entry.version),
            (Next::Delete | Next::Keep, None) => txn.when_missing(&self.key),
        };
        let mark =
            Put::new(&self.kv, Ok(marker.key.clone()), attempt.number.to_string().into(), Expect::Missing);
        txn.then(mark.with(marker.options.clone(), None, within)).send("update", Some(&self.key)).await
    }

    fn put(&self, value: &Bytes, expect: Expect, within: Duration) -> Put {
        let put = Put::new(&self.kv, Ok(self.key.clone()), value.clone(), expect);
        put.with(self.options.clone(), self.fence.clone(), within)
    }

    fn delete(&self, expect: Expect, within: Duration) -> Delete {
        let delete = Delete::new(&self.kv, Ok(self.key.clone()), expect).deadline(within);
        match &self.fence {
            Some(fence) => delete.fenced(fence),
            None => delete,
        }
    }

    /// Deletes the marker in the background. One that stays ends by its TTL.
    fn sweep(&self, marker: &Marker) {
        if Handle::try_current().is_err() {
            return;
        }
        let (kv, key) = (self.kv.clone(), marker.key.clone());
        self.kv.handle.shared.tasks.spawn(async move {
            let options = WriteOptions { deadline: Deadline::after(kv.deadline) };
            let whole = kv.part().whole(&key)?;
            let _ = kv.store().as_ref().delete(&whole, Expect::Anything, &options).await;
            Ok(())
        });
    }

    /// Pauses at random before the next attempt.
    ///
    /// # Errors
    /// No time is left for one.
    async fn pause(&mut self) -> Result<()> {
        if !self.deadline.has_passed() {
            tokio::time::sleep(self.pauses.delay_within(self.left())).await;
        }
        if self.deadline.has_passed() { Err(self.too_late()) } else { Ok(()) }
    }

    fn left(&self) -> Duration {
        self.deadline.remaining()
    }

    fn failed(&self, error: Error) -> Error {
        self.kv.in_call(error, "update", Some(self.key.as_str()))
    }

    #[cold]
    fn too_late(&self) -> Error {
        let why = format!(
            "others wrote the key {} times within {:?}, each time before this could; nothing was written, so try \
             again, or give it more time",
            self.conflicts, self.within
        );
        self.failed(Error::new(ErrorKind::Timeout, why))
    }

    #[cold]
    fn unknown(&self) -> Error {
        let why = "the write may or may not have happened, so read before writing again";
        let lost = || self.failed(Error::new(ErrorKind::OutcomeUnknown, why));
        self.lost.clone().unwrap_or_else(lost)
    }
}
