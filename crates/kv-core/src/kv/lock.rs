//! `new_lock`, `lock_holder`.

use super::*;
use crate::backend::{Alive, Backoff, Outage, Tasks};

/// A lock by its name: [`acquire`](Self::acquire) waits in line for it, and gives a [`Guard`].
///
/// One holder at a time, also within one process, task and handle: there is no re-entrancy. Waiters get it in the order
/// of asking where [`Locking::fair`] says so. It is kept alive in the background until the guard is dropped; a killed
/// holder's is free after the TTL and its lateness.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// let kv = kv_memory::open("memory://").await?;
/// let guard = kv.new_lock("leader").value("host-1").acquire().await?;
/// kv.put("plan", "v2").fenced(&guard).await?; // refused by the store once another leads
/// assert_eq!(kv.lock_holder("leader").await?.unwrap().value, "host-1");
/// assert!(kv.new_lock("leader").try_acquire().await?.is_none());
/// assert!(guard.release().await?);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is locked until it is acquired"]
pub struct Lock {
    kv: Kv,
    name: Result<Key, Arc<Error>>,
    ttl: Duration,
    value: Bytes,
    within: Duration,
}

impl Lock {
    pub(super) fn new(kv: &Kv, name: Result<Key>) -> Self {
        let (ttl, value, within) = (LockOptions::DEFAULT_TTL, Bytes::new(), kv.deadline);
        Self { kv: kv.clone(), name: name.map_err(Arc::new), ttl, value, within }
    }
    /// How long the lock outlives its holder's last renewal: 15 s unless told otherwise. It is rounded as a key's TTL.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }
    /// What others read of the holder.
    pub fn value(mut self, value: impl IntoValue) -> Self {
        self.value = value.into_value();
        self
    }
    /// The time that each single request has, in place of the handle's. Waiting in line has no end.
    pub fn deadline(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// Waits in line until the lock is held, over outages too, as a watch does: a lost place is taken anew, and what ends
    /// the wait is what [`Error::is_lasting`] names. A lock whose time was over before it came is never given. Whoever wants
    /// an end uses [`acquire_within`](Self::acquire_within).
    ///
    /// # Errors
    /// Before any I/O [`InvalidKey`](ErrorKind::InvalidKey), [`Unsupported`](ErrorKind::Unsupported),
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for the TTL, [`TooLarge`](ErrorKind::TooLarge) for the value. Then
    /// [`Closed`](ErrorKind::Closed), and the server's lasting refusals, such as
    /// [`PermissionDenied`](ErrorKind::PermissionDenied).
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line, and leaves nothing behind.
    pub async fn acquire(self) -> Result<Guard> {
        let kv = self.kv.clone();
        let ended = || {
            let why = "the store ended the wait without the lock";
            kv.in_call(Error::new(ErrorKind::Other, why), "lock", None)
        };
        let wait = Wait::new(&self);
        self.get(Some(wait)).await?.ok_or_else(ended)
    }

    /// The lock if it is free and nobody waits for it, else `None`; leaves no contender behind.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), and those of the one request: [`Unavailable`](ErrorKind::Unavailable),
    /// [`Timeout`](ErrorKind::Timeout) when there was no answer within the deadline; what was begun is then given back in
    /// the background. [`LockLost`](ErrorKind::LockLost) when the answer took longer than the TTL.
    ///
    /// # Cancel safety
    /// As [`acquire`](Self::acquire).
    pub async fn try_acquire(self) -> Result<Option<Guard>> {
        self.get(None).await
    }

    /// As [`acquire`](Self::acquire), but gives `None` when it was not got within this time.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); when the time ends in an outage, the error of the last try.
    ///
    /// # Cancel safety
    /// As [`acquire`](Self::acquire).
    pub async fn acquire_within(self, wait: Duration) -> Result<Option<Guard>> {
        let (kv, name, waiting) = (self.kv.clone(), self.name.clone(), Wait::new(&self));
        let answer = Deadline::after(wait).limit(self.get(Some(waiting.clone()))).await;
        answer.unwrap_or_else(|| match waiting.outage() {
            Some(e) => Err(kv.in_call(e, "lock", name.as_ref().ok().map(Key::as_str))),
            None => Ok(None),
        })
    }

    async fn get(self, wait: Option<Arc<Wait>>) -> Result<Option<Guard>> {
        let kv = self.kv.clone();
        kv.acquiring("lock", Box::pin(self.get_counted(wait))).await
    }

    async fn get_counted(self, wait: Option<Arc<Wait>>) -> Result<Option<Guard>> {
        let kv = self.kv;
        let name = self.name.map_err(|e| kv.in_call(Error::clone(&e), "lock", None))?;
        let until_closed = kv.until_closed();
        let options =
            LockOptions { ttl: self.ttl, value: self.value, wait: wait.is_some(), each_request: self.within };
        let (store, deadline) = kv.begin(if wait.is_some() { Duration::MAX } else { self.within });
        let lock = async {
            let capabilities = store.capabilities();
            let locking = capabilities.lock.as_ref().ok_or_else(|| capabilities.unsupported("locks"))?;
            let ttl = locking.ttl.grant(options.ttl)?;
            capabilities.check_value(&options.value)?;
            let acquire = async {
                match &wait {
                    Some(wait) => wait.acquire(store, &name, &options).await,
                    None => {
                        store.lock(&name, &options).await.and_then(|got| still_held(&kv.shared.tasks, got))
                    }
                }
            };
            tokio::select! {
                biased;
                () = until_closed => Err(closed()),
                acquired = acquire => Ok(acquired?.map(|acquired| (acquired, ttl))),
            }
        };
        let acquired = kv.call("lock", Some(name.as_str()), Does::Read, deadline, lock).await?;
        let Some((Acquired { fence, alive, mut release }, ttl)) = acquired else { return Ok(None) };
        kv.hold(&mut release).map_err(|e| kv.in_call(e, "lock", Some(name.as_str())))?;
        Ok(Some(Guard { kv, name, fence, ttl, alive, release, within: self.within }))
    }
}

/// A wait for a lock that rides outages out.
struct Wait {
    backend: &'static str,
    tasks: Tasks,
    /// The error of the last try, and when the try that runs now began: `None` while there is a pause before it.
    outage: Mutex<(Option<Error>, Option<tokio::time::Instant>)>,
    /// Within this time a request of a try is answered.
    within: Duration,
}

impl Wait {
    fn new(lock: &Lock) -> Arc<Self> {
        let (backend, within) = (lock.kv.capabilities().backend, lock.within);
        let tasks = lock.kv.shared.tasks.clone();
        Arc::new(Self { backend, tasks, outage: Mutex::default(), within })
    }

    async fn acquire(
        &self,
        store: &dyn Store,
        name: &Key,
        options: &LockOptions,
    ) -> Result<Option<Acquired>> {
        let (mut backoff, mut outage) = (Backoff::default(), Outage::new("wait for a lock", self.backend));
        loop {
            guarded(&self.outage).1 = Some(tokio::time::Instant::now());
            match store.lock(name, options).await.and_then(|got| still_held(&self.tasks, got)) {
                Err(e) if !ends(&e) => {
                    outage.failed(&e);
                    *guarded(&self.outage) = (Some(e), None);
                    backoff.pause().await;
                }
                answer => {
                    outage.over();
                    return answer;
                }
            }
        }
    }

    /// Why it is not in line, if it is not: a try that has lasted longer than a request may last waits in line.
    fn outage(&self) -> Option<Error> {
        let (error, trying) = guarded(&self.outage).clone();
        error.filter(|_| trying.is_none_or(|since| since.elapsed() < self.within))
    }
}

/// Gives back what was lost before it came: a server may keep our place for longer than our session lives.
fn still_held(tasks: &Tasks, acquired: Option<Acquired>) -> Result<Option<Acquired>> {
    match acquired {
        Some(mut late) if !late.alive.is_held() => {
            late.release.count_in(tasks);
            let ttl = late.alive.ttl();
            Err(Error::new(
                ErrorKind::LockLost,
                format!("its time, {ttl:?}, was over before the server's answer came; give it a longer TTL"),
            ))
        }
        acquired => Ok(acquired),
    }
}

/// What ends a wait: what lasts, and what no server has to be asked for.
fn ends(error: &Error) -> bool {
    use ErrorKind::*;
    error.is_lasting() || matches!(error.kind(), InvalidKey | InvalidArgument | TooLarge)
}

/// A lock that is held while this lives; dropping it releases the lock in the background.
///
/// The background is the runtime: a program that leaves `main` (by `?` too) with the lock held does not release it, and
/// the next one gets it after the TTL and its lateness. [`release`](Self::release), [`Kv::close`] and [`Kv::scope`] wait
/// until it is free.
#[derive(Debug)]
#[must_use = "dropping the guard releases the lock"]
pub struct Guard {
    kv: Kv,
    name: Key,
    fence: Fence,
    ttl: Duration,
    alive: Alive,
    release: Undo,
    within: Duration,
}

impl Guard {
    /// The name of the lock.
    pub fn name(&self) -> &Key {
        &self.name
    }

    /// The fencing token: grows with every acquisition of this lock, over restarts and failovers too. Hand it to
    /// resources outside the store, which refuse a token smaller than one they have seen.
    pub fn token(&self) -> u64 {
        self.fence.token()
    }

    /// The proof of holding it, for [`Condition::Held`].
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// The TTL as granted: how long the lock outlives the last renewal at least.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// How long it is held at least if no further renewal succeeds, by this side's clock; zero when it is lost. No I/O.
    pub fn remaining(&self) -> Duration {
        if self.kv.is_closed() { Duration::ZERO } else { self.alive.remaining() }
    }

    /// Whether it is held, by this side's clock, which counts suspend; no I/O. `false` from the moment that (start of the
    /// last successful renewal + TTL - a tenth of it) has passed. One failed renewal is no loss.
    ///
    /// Between this answer and what you do next the lock can be lost; a write that must not happen then is
    /// [`fenced`](Put::fenced).
    pub fn is_held(&self) -> bool {
        self.alive.is_held() && !self.kv.is_closed()
    }

    /// Ready, with the reason, within 250 ms of the loss or of waking from suspend, and as soon as an end by the server
    /// or an administrator is seen; [`Closed`](ErrorKind::Closed) after [`Kv::close`]. It borrows nothing of the guard.
    pub fn lost(&self) -> impl Future<Output = Error> + Send + 'static {
        let lost = until_lost(&self.kv, &self.alive, ErrorKind::LockLost);
        let (name, backend) = (self.name.clone(), self.kv.capabilities().backend);
        async move { lost.await.in_call("lock", backend, Some(name.as_str())) }
    }

    /// Runs the work until it ends, or until the lock is lost: then the work is dropped where it stands.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// # let kv = kv_memory::open("memory://").await?;
    /// let guard = kv.new_lock("leader").acquire().await?;
    /// let answer = guard
    ///     .while_held(async {
    ///         kv.put("state", "led by me").fenced(&guard).await?;
    ///         kv_core::Result::Ok(42)
    ///     })
    ///     .await?;
    /// # assert_eq!(answer, 42);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`LockLost`](ErrorKind::LockLost), [`Closed`](ErrorKind::Closed), or the work's own, of any type that they turn
    /// into.
    pub async fn while_held<T, E: From<Error>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        tokio::select! {
            biased;
            lost = self.lost() => Err(lost.into()),
            done = work => done,
        }
    }

    /// Releases the lock; whether it was still held. It goes on in the background when the caller stops waiting.
    ///
    /// # Errors
    /// The server's; the lock is free after its TTL then. `Ok(false)` after [`Kv::close`], which released it.
    pub async fn release(self) -> Result<bool> {
        let Self { kv, name, release, within, .. } = self;
        let deadline = Deadline::after(within);
        let released = deadline.limit(release.run()).await;
        released
            .unwrap_or_else(|| Err(cut_off(Does::Write, deadline)))
            .map_err(|e| kv.in_call(e, "release", Some(name.as_str())))
    }
}

impl AsRef<Fence> for Guard {
    fn as_ref(&self) -> &Fence {
        &self.fence
    }
}

/// Ready when the handle is closed or the life is over.
pub(super) fn until_lost(
    kv: &Kv,
    alive: &Alive,
    kind: ErrorKind,
) -> impl Future<Output = Error> + Send + 'static {
    let (until_closed, lost) = (kv.until_closed(), alive.lost());
    async move {
        tokio::select! {
            biased;
            () = until_closed => closed(),
            lost = lost => lost.with_kind(kind),
        }
    }
}

/// [`Kv::lock_holder`], to be awaited: who holds the lock, or `None`.
///
/// # Errors
/// Before any I/O [`InvalidKey`](ErrorKind::InvalidKey) and [`Unsupported`](ErrorKind::Unsupported); else as a get.
#[derive(Debug)]
#[must_use = "a call does nothing until it is awaited"]
pub struct LockHolder {
    kv: Kv,
    name: Result<Key>,
    consistency: Consistency,
    within: Duration,
}

impl LockHolder {
    pub(super) fn new(kv: &Kv, name: Result<Key>) -> Self {
        Self { kv: kv.clone(), name, consistency: Consistency::default(), within: kv.deadline }
    }
    /// Lets any member answer, from the past.
    pub fn stale(mut self) -> Self {
        self.consistency = Consistency::Stale;
        self
    }
    deadline!();

    /// Watches the holder: `Put`s whose value is the holder's and whose version is `Version::new(token, 0)`, a `Delete`
    /// when nobody holds it. This is what an election builds on.
    pub fn watch(self) -> WatchCall {
        WatchCall::new(&self.kv, self.name.map(Target::Holder)).deadline(self.within)
    }

    async fn run(self) -> Result<Option<Holder>> {
        let name = self.name.map_err(|e| self.kv.in_call(e, "lock_holder", None))?;
        let (store, deadline) = self.kv.begin(self.within);
        let lock_holder = async {
            let capabilities = store.capabilities();
            if capabilities.lock.is_none() {
                return Err(capabilities.unsupported("locks"));
            }
            capabilities.check_consistency(self.consistency)?;
            store.lock_holder(&name, &ReadOptions { consistency: self.consistency, deadline }).await
        };
        self.kv.call("lock_holder", Some(name.as_str()), Does::Read, deadline, lock_holder).await
    }
}
awaitable!(LockHolder => Option<Holder>, LockHolder::run);
