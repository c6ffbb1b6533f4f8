//! Several locks, all or none.

use crate::{
    names::in_recipe,
    patience::{DEFAULT_TTL, backoff, until_lost},
};
use futures_core::future::BoxFuture;
use kv_core::{
    Bytes, Condition, Error, ErrorKind, Guard, IntoKey, IntoValue, Key, Kv, Lock, Result, Txn, backend::apart,
};
use std::{
    future::{Future, poll_fn},
    task::Poll,
    time::Duration,
};

/// Names several locks, to be held together: all of them, or none. No I/O before
/// [`LockAll::acquire`].
///
/// They are acquired in the order of their names, whatever order they are given in, so that two
/// that want the same locks never wait for each other. Who holds one of them by itself already, and
/// then asks for several, can still wait for ever.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// let kv = kv_memory::open("memory://").await?;
/// kv.put("accounts/a", "70").await?;
///
/// let both = kv_recipes::lock_all(&kv, ["accounts/b", "accounts/a"]).acquire().await?;
/// assert!(kv_recipes::lock_all(&kv, ["accounts/a", "accounts/c"]).try_acquire().await?.is_none());
/// assert!(kv.lock_holder("accounts/c").await?.is_none(), "none is left behind");
///
/// // Refused by the store once one of them is lost.
/// let moved = both.transact().then(kv.put("accounts/a", "0")).then(kv.put("accounts/b", "70"));
/// assert!(moved.await?.is_committed());
/// assert!(both.release().await?, "all were still held");
/// # Ok(()) }
/// ```
///
/// # When things fail
/// | when the holder is | then |
/// |---|---|
/// | paused beyond the TTL | it knows that one is lost, and so all are; what it writes under [`Locks::transact`] is refused |
/// | killed | all are free within the TTL and its [lateness](kv_core::Capabilities::lateness) |
/// | cut off from the server | it knows the loss of the first by its own clock, a tenth of the TTL before another can have that lock |
/// | there while the server restarts | they are kept, as far as each lock outlives the restart; else as when it is cut off |
/// | told nothing, because an answer was lost | the place in line is found again, or taken anew; what is not used is given back |
/// | no longer waiting (the future is dropped) | all that it had are given back, in the background |
///
/// # Layout
/// They are locks of the store, and nothing else is written.
#[doc(alias = "mutex")]
#[doc(alias = "multi_lock")]
pub fn lock_all<K: IntoKey>(kv: &Kv, names: impl IntoIterator<Item = K>) -> LockAll {
    let names = names.into_iter().map(IntoKey::into_key).collect();
    LockAll { kv: kv.clone(), names, ttl: DEFAULT_TTL, value: Bytes::new() }
}

/// Several locks by their names; made by [`lock_all`], which shows it.
#[derive(Clone, Debug)]
#[must_use = "nothing is locked until it is acquired"]
pub struct LockAll {
    kv: Kv,
    names: Result<Vec<Key>>,
    ttl: Duration,
    value: Bytes,
}

impl LockAll {
    /// Sets how long the locks outlive their holder's last renewal: 15 s unless it is set.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets the value that others read of the holder of each lock.
    pub fn value(mut self, value: impl IntoValue) -> Self {
        self.value = value.into_value();
        self
    }

    /// Waits in the line of each lock, one after the other, until all are held at once. When one is
    /// lost while the others are waited for, all are given back, and it begins anew. Outages are
    /// ridden out.
    ///
    /// # Errors
    /// Before any I/O [`InvalidArgument`](ErrorKind::InvalidArgument) for no names and for a name
    /// that is given twice, which would wait for itself. Those of
    /// [`Lock::acquire`](kv_core::Lock::acquire).
    ///
    /// # Cancel safety
    /// Dropping the future gives back what was acquired, and leaves nothing behind. A future that is
    /// not polled keeps its place, or what it was granted, until it is dropped.
    pub async fn acquire(&self) -> Result<Locks> {
        let all = self.clone();
        // Others wait for what it holds meanwhile, polled or not.
        apart(async move { all.acquire_here().await }).await
    }

    async fn acquire_here(&self) -> Result<Locks> {
        let (names, mut backoff) = (self.names()?, backoff());
        'anew: loop {
            let mut locks = Locks { kv: self.kv.clone(), guards: Vec::with_capacity(names.len()) };
            for name in &names {
                let next = self.lock(name).acquire();
                match until_lost(|| locks.is_held(), locks.lost(), next).await {
                    Ok(next) => locks.guards.push(next?),
                    Err(e) if e.kind() == ErrorKind::Closed => return Err(e),
                    Err(_) => {
                        drop(locks);
                        backoff.pause().await;
                        continue 'anew;
                    }
                }
            }
            if locks.is_held() {
                return Ok(locks);
            }
        }
    }

    /// Acquires all locks if all are free and nobody waits for one of them; returns `None`
    /// otherwise. It leaves nothing behind.
    ///
    /// # Errors
    /// Those of [`acquire`](Self::acquire), and of
    /// [`Lock::try_acquire`](kv_core::Lock::try_acquire); [`LockLost`](ErrorKind::LockLost) when
    /// one was lost before all were there.
    ///
    /// # Cancel safety
    /// That of [`acquire`](Self::acquire).
    pub async fn try_acquire(&self) -> Result<Option<Locks>> {
        let all = self.clone();
        apart(async move { all.try_acquire_here().await }).await
    }

    async fn try_acquire_here(&self) -> Result<Option<Locks>> {
        let names = self.names()?;
        let mut locks = Locks { kv: self.kv.clone(), guards: Vec::with_capacity(names.len()) };
        for name in &names {
            match self.lock(name).try_acquire().await? {
                Some(next) => locks.guards.push(next),
                None => {
                    locks.release().await?;
                    return Ok(None);
                }
            }
        }
        if !locks.is_held() {
            return Err(locks.lost().await);
        }
        Ok(Some(locks))
    }

    fn lock(&self, name: &Key) -> Lock {
        self.kv.new_lock(name).ttl(self.ttl).value(&self.value)
    }

    /// Returns the names in the order in which all acquire them.
    fn names(&self) -> Result<Vec<Key>> {
        let in_call = |e| in_recipe(e, &self.kv, "lock_all", None);
        let refused = |why: String| Err(in_call(Error::new(ErrorKind::InvalidArgument, why)));
        let mut names = self.names.clone().map_err(in_call)?;
        names.sort_unstable();
        if names.is_empty() {
            return refused("no locks; name one at least".into());
        }
        match names.windows(2).find(|two| two[0] == two[1]) {
            Some(two) => refused(format!("the lock {:?} twice; name it once", two[0])),
            None => Ok(names),
        }
    }
}

/// Several locks that are held together while this value lives; dropping it gives all back in the
/// background. It counts as lost when one of them is.
///
/// The background is the runtime: a program that leaves `main` leaves the locks to their TTL.
#[derive(Debug)]
#[must_use = "dropping it gives the locks back"]
pub struct Locks {
    kv: Kv,
    guards: Vec<Guard>,
}

impl Locks {
    /// Returns the guards, in the order of their names.
    pub fn guards(&self) -> &[Guard] {
        &self.guards
    }

    /// Returns how long all are held at least if no further renewal succeeds, by this side's clock;
    /// zero when one is lost. No I/O.
    pub fn remaining(&self) -> Duration {
        self.guards.iter().map(Guard::remaining).min().unwrap_or_default()
    }

    /// Tells whether all are held, by the rule of [`Guard::is_held`]. No I/O.
    pub fn is_held(&self) -> bool {
        self.guards.iter().all(Guard::is_held)
    }

    /// Waits until one of them is lost, and returns the reason, as [`Guard::lost`] says. The future
    /// borrows nothing.
    pub fn lost(&self) -> impl Future<Output = Error> + Send + 'static {
        let lost = |guard: &Guard| -> BoxFuture<'static, Error> { Box::pin(guard.lost()) };
        let mut all: Vec<_> = self.guards.iter().map(lost).collect();
        poll_fn(move |cx| {
            let mut first = all.iter_mut().map(|lost| lost.as_mut().poll(cx));
            first.find(Poll::is_ready).unwrap_or(Poll::Pending)
        })
    }

    /// Runs the work until it ends, or until one of them is lost: the work is then dropped where it
    /// stands.
    ///
    /// # Errors
    /// [`LockLost`](ErrorKind::LockLost) and [`Closed`](ErrorKind::Closed), or those of the work.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work; the locks stay.
    pub async fn while_held<T, E: From<Error>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        until_lost(|| self.is_held(), self.lost(), work).await?
    }

    /// Begins a transaction that is refused, with nothing written, unless all of them are still
    /// held.
    pub fn transact(&self) -> Txn {
        let held = self.guards.iter().map(|guard| Condition::Held(guard.fence().clone()));
        held.fold(self.kv.transact(), Txn::when)
    }

    /// Gives all back, and returns whether all were still held.
    ///
    /// # Errors
    /// The first of the server's; the locks that it concerns are free after their TTL then, and the
    /// others are given back.
    ///
    /// # Cancel safety
    /// It goes on in the background when the caller stops waiting.
    pub async fn release(self) -> Result<bool> {
        // All at once: where the server is away, they take the time of one.
        let released = |guard: Guard| -> BoxFuture<'static, Result<bool>> { Box::pin(guard.release()) };
        let mut left: Vec<_> = self.guards.into_iter().map(released).collect();
        let (mut were_held, mut failed) = (true, None);
        poll_fn(|cx| {
            left.retain_mut(|release| match release.as_mut().poll(cx) {
                Poll::Pending => true,
                Poll::Ready(Ok(was_held)) => {
                    were_held &= was_held;
                    false
                }
                Poll::Ready(Err(e)) => {
                    failed.get_or_insert(e);
                    false
                }
            });
            if left.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        failed.map_or(Ok(were_held), Err)
    }
}
