//! `new_lock`.

use super::{Does, Guard, Kv, closing::closed, sentry::Sentry};
use crate::{
    Bytes, Error, ErrorKind, IntoValue, Key, Result,
    backend::{Backoff, Outage, Tasks, lock as guarded},
    driver::{Acquired, Deadline, LockOptions, Store},
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// The name of the call [`Lock::acquire_within`].
const WITHIN: &str = "acquire_within";

/// A lock by its name: [`acquire`](Self::acquire) waits in line for it, and gives a [`Guard`].
///
/// A lock has one holder at a time, also within one process, task and handle: there is no
/// re-entrancy. Waiters get it in the order of asking where
/// [`Locking::fair`](crate::Locking::fair) says so. It is kept alive in the background until the
/// guard is dropped; the lock of a killed holder is free after the TTL and its lateness.
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
#[doc(alias = "Mutex")]
#[doc(alias = "Election")]
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
    /// Sets how long the lock outlives its holder's last renewal: 15 s unless it is set. It is
    /// rounded as a key's TTL.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }
    /// Sets the value that others read of the holder.
    pub fn value(mut self, value: impl IntoValue) -> Self {
        self.value = value.into_value();
        self
    }
    /// Sets the time that each single request has, in place of the handle's. Waiting in line has
    /// no end.
    #[doc(alias = "timeout")]
    pub fn deadline(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// Waits in line until the lock is held. Outages are ridden out, as by a watch: a lost place
    /// is taken anew, and an error that [`Error::is_lasting`] names ends the wait. A lock whose
    /// time was over before it came is never given. To wait for a limited time, use
    /// [`acquire_within`](Self::acquire_within).
    ///
    /// # Errors
    /// Before any I/O [`InvalidKey`](ErrorKind::InvalidKey),
    /// [`Unsupported`](ErrorKind::Unsupported), [`InvalidArgument`](ErrorKind::InvalidArgument)
    /// for the TTL, [`TooLarge`](ErrorKind::TooLarge) for the value. Then
    /// [`Closed`](ErrorKind::Closed), and the server's lasting refusals, such as
    /// [`PermissionDenied`](ErrorKind::PermissionDenied).
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line, and leaves nothing behind. One that is not polled keeps
    /// its place, or the lock that it was granted, until it is dropped.
    #[doc(alias = "lock")]
    #[doc(alias = "campaign")]
    pub async fn acquire(self) -> Result<Guard> {
        let kv = self.kv.clone();
        let ended = || {
            let why = "the store ended the wait without the lock";
            kv.in_call(Error::new(ErrorKind::Other, why), "acquire", None)
        };
        let wait = Wait::new(&self);
        self.get("acquire", Some(wait)).await?.ok_or_else(ended)
    }

    /// Acquires the lock if it is free and nobody waits for it; returns `None` otherwise. It
    /// leaves no contender behind.
    ///
    /// # Errors
    /// Those of [`acquire`](Self::acquire), and those of the one request:
    /// [`Unavailable`](ErrorKind::Unavailable), [`Timeout`](ErrorKind::Timeout) when there was no
    /// answer within the deadline; what was begun is then given back in the background.
    /// [`LockLost`](ErrorKind::LockLost) when the answer took longer than the TTL.
    ///
    /// # Cancel safety
    /// That of [`acquire`](Self::acquire).
    #[doc(alias = "try_lock")]
    pub async fn try_acquire(self) -> Result<Option<Guard>> {
        self.get("try_acquire", None).await
    }

    /// Acquires the lock as [`acquire`](Self::acquire) does, but returns `None` when the lock was
    /// not acquired within this time.
    ///
    /// # Errors
    /// Those of [`acquire`](Self::acquire); when the time ends in an outage, the error of the last
    /// try.
    ///
    /// # Cancel safety
    /// That of [`acquire`](Self::acquire). The time ends also for a future that is not polled.
    #[doc(alias = "timeout")]
    #[doc(alias = "lock_timeout")]
    pub async fn acquire_within(self, wait: Duration) -> Result<Option<Guard>> {
        let (kv, deadline, waiting) = (self.kv.clone(), Deadline::after(wait), Wait::new(&self));
        // The time is limited where the wait goes on, polled or not: nothing is granted behind it.
        let acquire = async move {
            let (kv, name) = (self.kv.clone(), self.name.clone());
            let answer = deadline.limit(self.get_counted(WITHIN, Some(waiting.clone()))).await;
            answer.unwrap_or_else(|| match waiting.outage() {
                Some(e) => Err(kv.in_call(e, WITHIN, name.as_ref().ok().map(Key::as_str))),
                None => Ok(None),
            })
        };
        kv.acquiring(WITHIN, Box::pin(acquire)).await
    }

    /// Makes the call of this name.
    async fn get(self, operation: &'static str, wait: Option<Arc<Wait>>) -> Result<Option<Guard>> {
        let kv = self.kv.clone();
        kv.acquiring(operation, Box::pin(self.get_counted(operation, wait))).await
    }

    async fn get_counted(self, operation: &'static str, wait: Option<Arc<Wait>>) -> Result<Option<Guard>> {
        let kv = self.kv;
        let name = self.name.map_err(|e| kv.in_call(Error::clone(&e), operation, None))?;
        let until_closed = kv.until_closed();
        let (asked, value, each_request) = (self.ttl, self.value, self.within);
        let (store, deadline) = kv.begin(if wait.is_some() { Duration::MAX } else { self.within });
        let lock = async {
            let capabilities = store.capabilities();
            let ttl = capabilities.lock_ttl(asked)?;
            capabilities.check_value(&value)?;
            let options = LockOptions { ttl, value, wait: wait.is_some(), each_request };
            let whole = kv.part().whole(&name)?;
            let acquire = async {
                match &wait {
                    Some(wait) => wait.acquire(store, &whole, &options).await,
                    None => store
                        .lock(&whole, &options)
                        .await
                        .and_then(|got| still_held(&kv.handle.shared.tasks, got)),
                }
            };
            tokio::select! {
                biased;
                () = until_closed => Err(closed()),
                acquired = acquire => Ok(acquired?.map(|acquired| (acquired, ttl))),
            }
        };
        let acquired = kv.call(operation, Some(name.as_str()), Does::Read, deadline, lock).await?;
        let Some((Acquired { fence, alive, mut release }, ttl)) = acquired else { return Ok(None) };
        kv.hold(&mut release).map_err(|e| kv.in_call(e, operation, Some(name.as_str())))?;
        let fence = fence.acquired_as(&name);
        let sentry = Sentry::of(&kv, &alive, ErrorKind::LockLost, Some(&name));
        let owner = kv.owner_of(&alive, "lock");
        Ok(Some(Guard { sentry, owner, kv, name, fence, ttl, alive, release, within: each_request }))
    }
}

/// A wait for a lock that rides outages out.
struct Wait {
    backend: &'static str,
    tasks: Tasks,
    /// The error of the last try, and the moment at which the try that runs now began: `None`
    /// while there is a pause before it.
    outage: Mutex<(Option<Error>, Option<tokio::time::Instant>)>,
    /// The time within which a request of a try is answered.
    within: Duration,
}

impl Wait {
    fn new(lock: &Lock) -> Arc<Self> {
        let (backend, within) = (lock.kv.capabilities().backend, lock.within);
        let tasks = lock.kv.handle.shared.tasks.clone();
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
            let mut trying = store.lock(name, options);
            let tried = tokio::select! {
                biased;
                tried = &mut trying => tried,
                // Its requests were answered: from here on it is others that have the lock.
                () = tokio::time::sleep(self.within), if outage.has_begun() => {
                    outage.over();
                    trying.await
                }
            };
            match tried.and_then(|got| still_held(&self.tasks, got)) {
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

    /// Returns the last error when the wait is not in line. A try that has lasted longer than a
    /// request may last is in line.
    fn outage(&self) -> Option<Error> {
        let (error, trying) = guarded(&self.outage).clone();
        error.filter(|_| trying.is_none_or(|since| since.elapsed() < self.within))
    }
}

/// Gives back a lock that was lost before it came: a server may keep our place for longer than our
/// session lives.
fn still_held(tasks: &Tasks, acquired: Option<Acquired>) -> Result<Option<Acquired>> {
    match acquired {
        Some(mut late) if !late.alive.is_held() => {
            late.release.hold_in(tasks);
            let ttl = late.alive.ttl();
            Err(Error::new(
                ErrorKind::LockLost,
                format!("its time, {ttl:?}, was over before the server's answer came; give it a longer TTL"),
            ))
        }
        acquired => Ok(acquired),
    }
}

/// Tells whether an error ends a wait: one that lasts, or one of a name or a value that no server
/// takes. Options were looked at before the store was asked: an `InvalidArgument` is what a server
/// says, or something in its place, and may pass.
fn ends(error: &Error) -> bool {
    error.is_lasting() || matches!(error.kind(), ErrorKind::InvalidKey | ErrorKind::TooLarge)
}
