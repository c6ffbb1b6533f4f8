//! A lock that is held.

use super::{Does, Kv, closing::closed, sentry::Sentry, write::lock_lost};
use crate::{
    Error, ErrorKind, Fence, IntoValue, Key, Result,
    backend::{Alive, Owner, Undo},
    driver::WriteOptions,
};
use std::{future::Future, time::Duration};

/// A lock that is held while this value lives; dropping it releases the lock in the background.
///
/// The background is the runtime: a program that leaves `main` (by `?` too) with the lock held
/// does not release it, and the next contender gets it after the TTL and its lateness. Where only a
/// runtime ends, and not the program, the next lock or lease of the handle releases it.
/// [`release`](Self::release), [`Kv::close`] and [`Kv::scope`] wait until the lock is free.
#[derive(Debug)]
#[must_use = "dropping the guard releases the lock"]
pub struct Guard {
    /// The first that is dropped.
    pub(super) sentry: Option<Sentry>,
    pub(super) owner: Owner,
    pub(super) kv: Kv,
    pub(super) name: Key,
    pub(super) fence: Fence,
    pub(super) ttl: Duration,
    pub(super) alive: Alive,
    pub(super) release: Undo,
    pub(super) within: Duration,
}

impl Guard {
    /// Returns the name of the lock.
    pub fn name(&self) -> &Key {
        &self.name
    }

    /// Returns the fencing token, which grows with every acquisition of this lock, over restarts
    /// and failovers too. Hand it to resources outside the store, which refuse a token smaller
    /// than one they have seen.
    #[doc(alias = "fencing_token")]
    pub fn token(&self) -> u64 {
        self.fence.token()
    }

    /// Returns the proof of holding the lock, for [`Condition::Held`](crate::Condition::Held).
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Returns the TTL as granted: how long the lock outlives the last renewal at least.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Returns how long the lock is held at least if no further renewal succeeds, by this side's
    /// clock; zero when it is lost. No I/O.
    pub fn remaining(&self) -> Duration {
        if self.kv.is_closed() { Duration::ZERO } else { self.alive.remaining() }
    }

    /// Tells whether the lock is held, by this side's clock, which counts suspend. No I/O. The
    /// answer is `false` from the moment that (start of the last successful renewal + TTL - a
    /// tenth of it) has passed. One failed renewal is no loss.
    ///
    /// Between this answer and what you do next the lock can be lost. Make a write that must not
    /// happen then [`fenced`](crate::Put::fenced).
    pub fn is_held(&self) -> bool {
        self.alive.is_held() && !self.kv.is_closed()
    }

    /// Changes the value that others read of the holder, by one request. A watch of the holder
    /// tells the new value, with a version that grows, also where the bytes are the same. The
    /// request renews nothing.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// let guard = kv.new_lock("leader").value("starting").acquire().await?;
    /// guard.set_value("serving at 10.0.0.1:80").await?;
    /// let leader = kv.lock_holder("leader").await?.expect("it is held");
    /// assert_eq!((leader.value, leader.token), ("serving at 10.0.0.1:80".into(), guard.token()));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Before any I/O [`Unsupported`](ErrorKind::Unsupported), [`TooLarge`](ErrorKind::TooLarge),
    /// and [`LockLost`](ErrorKind::LockLost) where the lock is lost by this side's clock. Then
    /// [`LockLost`](ErrorKind::LockLost) where the store says so, the server's refusals, and
    /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) when the answer was lost.
    ///
    /// # Cancel safety
    /// A future that is dropped may have sent the value: it is set or not, and the caller does not
    /// know which.
    #[doc(alias = "proclaim")]
    #[doc(alias = "update")]
    pub async fn set_value(&self, value: impl IntoValue) -> Result<()> {
        let (value, name) = (value.into_value(), Some(self.name.as_str()));
        let (store, deadline) = self.kv.begin(self.within);
        let set = async {
            let capabilities = store.capabilities();
            if !capabilities.lock.as_ref().is_some_and(|locking| locking.set_value) {
                return Err(capabilities.unsupported("changes of a held lock's value"));
            }
            capabilities.check_value(&value)?;
            let (options, whole) = (WriteOptions { deadline }, self.kv.part().whole(&self.name)?);
            match self.is_held() && store.set_holder(&whole, &self.fence, value, &options).await? {
                true => Ok(()),
                false => Err(lock_lost(&self.fence)),
            }
        };
        self.kv.call("set_value", name, Does::Write, deadline, set).await
    }

    /// Waits until the lock is lost, and returns the reason. The answer comes within 250 ms of the
    /// loss or of waking from suspend, and as soon as an end by the server or an administrator is
    /// seen; it is [`Closed`](ErrorKind::Closed) after [`Kv::close`]. The future borrows nothing
    /// of the guard.
    ///
    /// # Cancel safety
    /// Dropping the future stops the wait, and changes nothing.
    #[doc(alias = "cancelled")]
    pub fn lost(&self) -> impl Future<Output = Error> + Send + 'static {
        let lost = until_lost(&self.kv, &self.alive, ErrorKind::LockLost);
        let (name, backend) = (self.name.clone(), self.kv.capabilities().backend);
        async move { lost.await.in_call("lock", backend, Some(name.as_str())) }
    }

    /// Runs the work until it ends, or until the lock is lost: the work is then dropped where it
    /// stands.
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
    /// [`LockLost`](ErrorKind::LockLost) and [`Closed`](ErrorKind::Closed), or those of the work,
    /// whose type can be any that these turn into.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work where it stands; the lock stays held.
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

    /// Releases the lock, and returns whether it was still held.
    ///
    /// # Errors
    /// Those of the server; the lock is free after its TTL then. After [`Kv::close`], which
    /// released it, the answer is `Ok(false)`.
    ///
    /// # Cancel safety
    /// The release goes on in the background when the future is dropped.
    #[doc(alias = "unlock")]
    #[doc(alias = "resign")]
    pub async fn release(self) -> Result<bool> {
        let Self { sentry, owner, kv, name, release, within, .. } = self;
        drop((sentry, owner));
        kv.give_back("release", Some(name.as_str()), release, within).await
    }
}

impl AsRef<Fence> for Guard {
    fn as_ref(&self) -> &Fence {
        &self.fence
    }
}

/// Waits until the handle is closed or the life is over, and returns the reason.
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
