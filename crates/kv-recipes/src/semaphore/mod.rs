//! So many at once, and no more.

mod slots;

use crate::{
    Permit,
    names::in_recipe,
    needs,
    patience::{DEFAULT_TTL, backoff, ends, until_lost},
};
use kv_core::{Error, ErrorKind, IntoKey, Key, Kv, Lock, Result, backend::apart, driver::Deadline};
use slots::Slots;
use std::time::Duration;

/// A semaphore: so many permits of a name are held at once, and no more.
///
/// A fair lock is the gate: waiters stand in its line, and the first of them alone watches the
/// permits. So a permit that is given back costs the same few requests however many wait, and
/// waiters get permits in the order of asking where
/// [`Locking::fair`](kv_core::Locking::fair) says so. All who use a name must ask for the same
/// number of permits.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::ErrorKind;
/// use kv_recipes::Semaphore;
///
/// let kv = kv_memory::open("memory://").await?;
/// let two = Semaphore::new(&kv, "render", 2);
/// let (first, _second) = (two.acquire().await?, two.acquire().await?);
/// assert!(two.try_acquire().await?.is_none());
///
/// let third = tokio::spawn({
///     let two = two.clone();
///     async move { two.acquire().await }
/// });
/// first.release().await?;
/// assert!(third.await.unwrap()?.is_held());
///
/// let conflict = Semaphore::new(&kv, "render", 3).acquire().await.unwrap_err();
/// assert_eq!(conflict.kind(), ErrorKind::InvalidArgument);
/// # Ok(()) }
/// ```
///
/// # When things fail
/// | when a holder is | then |
/// |---|---|
/// | paused beyond the TTL | its permit is another's; when it wakes, [`Permit::is_held`] is false, and writes under its [`condition`](Permit::condition) are refused |
/// | killed | its permit is free within the TTL and its [lateness](kv_core::Capabilities::lateness) |
/// | robbed of its key, which somebody deletes or replaces | [`Permit::lost`] and [`Permit::while_held`], which watch the key, tell it at once; writes under its condition are refused |
/// | cut off from the server | it knows the loss by its own clock, a tenth of the TTL before the permit can be another's |
/// | there while the server restarts | the permit is kept, if its lease outlives the restart; else as when it is cut off |
/// | told nothing, because an answer was lost | it reads the key of the permit, and knows its own by its id; else it gives back what it may have, and asks again |
/// | no longer waiting (the future is dropped) | its place in line and its permit are free, in the background |
///
/// There are never more live permits than the number, because each has a numbered key that is made
/// only if it is missing. Somebody who deletes such a key takes the permit from its holder, who is
/// told, and frees it; whatever is put in its place counts as one. On a store that may lose
/// acknowledged writes ([`Durability::MayLose`](kv_core::Durability)) a failover can free a permit
/// that is held: the older holder's writes under its condition are refused. A waiter that is paused
/// at the head of the line holds up the others for one TTL at most.
///
/// # Layout, format 1
/// | name | has |
/// |---|---|
/// | the lock `NAME` | the gate: its holder, and nobody else, makes the keys below |
/// | the key `NAME/limit` | a line of JSON: `{"v":1,"limit":8}` |
/// | the keys `NAME/slots/0` to `NAME/slots/7` | the permits that are held, each under a lease of its holder and fenced by the gate: `{"v":1,"id":"9f86d081884c7d65","token":42}` |
///
/// To change the number, delete `NAME/limit` while nobody uses the semaphore.
#[doc(alias = "mutex")]
#[doc(alias = "limit")]
#[derive(Clone, Debug)]
#[must_use = "nothing is held until it is acquired"]
pub struct Semaphore {
    kv: Kv,
    name: Result<Key>,
    permits: usize,
    ttl: Duration,
}

impl Semaphore {
    /// Makes the semaphore of this name, with so many permits. No I/O.
    pub fn new(kv: &Kv, name: impl IntoKey, permits: usize) -> Self {
        Self { kv: kv.clone(), name: name.into_key(), permits, ttl: DEFAULT_TTL }
    }

    /// Sets how long a permit outlives its holder's last renewal: 15 s unless it is set. It is
    /// rounded as the TTLs of locks and leases.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Waits in line until a permit is held. Outages are ridden out, as by a wait for a lock.
    ///
    /// # Errors
    /// Before any I/O [`InvalidKey`](ErrorKind::InvalidKey),
    /// [`Unsupported`](ErrorKind::Unsupported) where there are no leases, no watches, or no writes
    /// that depend on a lock, and [`InvalidArgument`](ErrorKind::InvalidArgument) for the TTL and
    /// for no permits at all. Then `InvalidArgument` when others use the name with another number
    /// of permits, [`Corrupt`](ErrorKind::Corrupt) where the limit cannot be read,
    /// [`Closed`](ErrorKind::Closed), and the server's lasting refusals.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line, and leaves nothing behind. One that is not polled keeps
    /// its place, or what it was granted, until it is dropped.
    pub async fn acquire(&self) -> Result<Permit> {
        let acquired = self.acquire_by(Deadline::NEVER).await?;
        acquired.ok_or_else(|| Error::new(ErrorKind::Other, "a wait without an end has ended"))
    }

    /// Waits for a permit until the deadline; `None` when all were held by then.
    async fn acquire_by(&self, deadline: Deadline) -> Result<Option<Permit>> {
        let this = self.clone();
        // All who come later wait behind it, polled or not.
        apart(async move { this.acquire_here(deadline).await }).await
    }

    async fn acquire_here(&self, deadline: Deadline) -> Result<Option<Permit>> {
        let slots = self.slots()?;
        let mut backoff = backoff();
        loop {
            let gate = self.gate(&slots).acquire_within(deadline.remaining()).await?;
            let Some(gate) = gate else { return Ok(None) };
            let mut failed =
                Some(Error::new(ErrorKind::Timeout, "no look at the permits was answered in time"));
            // The gate is given back in the background, as soon as the permit is there.
            let waits = Box::pin(until_lost(|| gate.is_held(), gate.lost(), slots.wait(&gate, &mut failed)));
            match deadline.limit(waits).await {
                Some(Ok(Ok(permit))) => return Ok(Some(permit)),
                Some(Ok(Err(e))) if ends(&e) => return Err(self.in_call(e, &slots.name)),
                Some(Err(e)) if e.kind() == ErrorKind::Closed => return Err(e),
                Some(Ok(Err(_)) | Err(_)) => {} // the place in line was lost, and is taken anew
                None => return failed.map_or(Ok(None), |e| Err(self.in_call(e, &slots.name))),
            }
            drop(gate);
            deadline.limit(backoff.pause()).await;
        }
    }

    /// Takes a permit if one is free and nobody waits or is being served at this moment; returns
    /// `None` otherwise. It leaves nothing behind.
    ///
    /// # Errors
    /// Those of [`acquire`](Self::acquire), and those of the single requests:
    /// [`Unavailable`](ErrorKind::Unavailable), [`Timeout`](ErrorKind::Timeout),
    /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown); what was begun is then given back in the
    /// background.
    ///
    /// # Cancel safety
    /// That of [`acquire`](Self::acquire).
    pub async fn try_acquire(&self) -> Result<Option<Permit>> {
        let this = self.clone();
        apart(async move { this.try_acquire_here().await }).await
    }

    async fn try_acquire_here(&self) -> Result<Option<Permit>> {
        let slots = self.slots()?;
        let Some(gate) = self.gate(&slots).try_acquire().await? else { return Ok(None) };
        let taken = until_lost(|| gate.is_held(), gate.lost(), Box::pin(slots.try_take(&gate))).await;
        // A gate that could not be given back is free after its TTL.
        drop(gate.release().await);
        taken.flatten().map_err(|e| self.in_call(e, &slots.name))
    }

    /// Takes a permit as [`acquire`](Self::acquire) does, but returns `None` when all were held by
    /// others within this time.
    ///
    /// # Errors
    /// Those of [`acquire`](Self::acquire); when the time ends before the server has told that all
    /// are held, as in an outage, the error of the last try, or [`Timeout`](ErrorKind::Timeout).
    ///
    /// # Cancel safety
    /// That of [`acquire`](Self::acquire).
    #[doc(alias = "timeout")]
    pub async fn acquire_within(&self, wait: Duration) -> Result<Option<Permit>> {
        self.acquire_by(Deadline::after(wait)).await
    }

    fn slots(&self) -> Result<Slots> {
        let Self { kv, name, permits, ttl } = self;
        let name = name.clone().map_err(|e| in_recipe(e, kv, "acquire", None))?;
        let can = needs::watches(kv).and_then(|()| needs::leases(kv, *ttl));
        can.and_then(|()| needs::fences(kv, *ttl)).map_err(|e| self.in_call(e, &name))?;
        if *permits == 0 {
            let why = "a semaphore of no permits, which nobody would ever get; give it one at least";
            return Err(self.in_call(Error::new(ErrorKind::InvalidArgument, why), &name));
        }
        Ok(Slots::new(kv, name, *permits, *ttl))
    }

    fn gate(&self, slots: &Slots) -> Lock {
        self.kv.new_lock(&slots.name).ttl(self.ttl)
    }

    fn in_call(&self, error: Error, name: &Key) -> Error {
        in_recipe(error, &self.kv, "acquire", Some(name))
    }
}
