//! The term of a leader.

use super::seat::Seat;
use crate::patience::{backoff, ends, until_lost};
use futures_core::future::BoxFuture;
use kv_core::{
    Error, ErrorKind, Fence, Guard, IntoValue, Key, Result,
    backend::{Mutex, apart},
};
use std::{fmt, future::Future, sync::Arc, time::Duration};
use tokio::sync::Mutex as Turn;

/// The time for which one candidate leads. It is kept alive in the background while this value
/// lives; dropping it resigns in the background.
///
/// The background is the runtime: a program that leaves `main` with a term does not resign, and the
/// next candidate leads after the TTL and its lateness. [`resign`](Self::resign),
/// [`Kv::close`](kv_core::Kv::close) and [`Kv::scope`](kv_core::Kv::scope) wait until the term is
/// over.
///
/// In [`lead`](super::Election::lead) the term ends with the work, or at its loss, whoever else
/// still has it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_recipes::Election;
///
/// let kv = kv_memory::open("memory://").await?;
/// let election = Election::new(&kv, "app/leader").candidate("host-7");
/// let term = election.campaign().await?;
/// kv.put("app/plan", "v2").fenced(&term).await?; // refused by the store once another leads
/// let both = kv.transact().when_held(&term).then(kv.put("a", "1")).then(kv.put("b", "2"));
/// assert!(both.await?.is_committed());
/// assert!(term.resign().await?, "it still led");
/// assert!(election.leader().await?.is_none());
/// # Ok(()) }
/// ```
#[must_use = "dropping the term resigns"]
pub struct Term(pub(super) Arc<Office>);

pub(super) struct Office {
    pub(super) seat: Arc<Seat>,
    fence: Fence,
    ttl: Duration,
    /// `None` once the term was given back.
    guard: Mutex<Option<Guard>>,
    /// The number of what the leader has said last. Whoever holds it writes: one record after the
    /// other.
    change: Turn<u64>,
    /// The number of the last nomination, by the same rule.
    pub(super) nomination: Turn<u64>,
}

impl Term {
    /// Takes office under this guard; `None` when the lock is lost before that.
    pub(super) async fn begin(seat: &Arc<Seat>, guard: Guard) -> Result<Option<Self>> {
        let said = seat.say(guard.fence(), 0, &seat.value);
        match until_lost(|| guard.is_held(), guard.lost(), said).await {
            Ok(Ok(())) => {}
            Err(e) if e.kind() == ErrorKind::Closed => return Err(e),
            Ok(Err(e)) if e.kind() != ErrorKind::LockLost => return Err(e),
            Ok(Err(_)) | Err(_) => return Ok(None),
        }
        let (fence, ttl) = (guard.fence().clone(), guard.ttl());
        let (guard, change, nomination) = (Mutex::new(Some(guard)), Turn::default(), Turn::default());
        Ok(Some(Self(Arc::new(Office { seat: seat.clone(), fence, ttl, guard, change, nomination }))))
    }

    /// Returns the number of the term, which grows with every term of the election, over restarts
    /// and failovers too: it is the fencing token. Hand it to resources outside the store, which
    /// refuse a number smaller than one they have seen.
    #[doc(alias = "token")]
    pub fn number(&self) -> u64 {
        self.0.fence.token()
    }

    /// Returns the proof of leading, for [`Condition::Held`](kv_core::Condition::Held).
    pub fn fence(&self) -> &Fence {
        &self.0.fence
    }

    /// Returns the name of the election.
    pub fn name(&self) -> &Key {
        &self.0.seat.name
    }

    /// Returns the name of the candidate that leads.
    pub fn candidate(&self) -> &str {
        &self.0.seat.candidate
    }

    /// Returns the TTL as granted: how long the term outlives the last renewal at least.
    pub fn ttl(&self) -> Duration {
        self.0.ttl
    }

    /// Returns how long the term lasts at least if no further renewal succeeds, by this side's
    /// clock; zero when it is over. No I/O.
    pub fn remaining(&self) -> Duration {
        self.0.guard.lock().as_ref().map_or(Duration::ZERO, Guard::remaining)
    }

    /// Tells whether the term goes on, by this side's clock and by the rule of
    /// [`Guard::is_held`](kv_core::Guard::is_held). No I/O. Between this answer and what you do
    /// next the term can end: make a write that must not happen then
    /// [`fenced`](kv_core::Put::fenced).
    pub fn is_held(&self) -> bool {
        self.0.guard.lock().as_ref().is_some_and(Guard::is_held)
    }

    /// Waits until the term is over, and returns the reason, as
    /// [`Guard::lost`](kv_core::Guard::lost) says. The future borrows nothing, and keeps nothing
    /// alive.
    pub fn lost(&self) -> impl Future<Output = Error> + Send + 'static {
        let lost = self.0.guard.lock().as_ref().map(|guard| -> BoxFuture<'static, Error> {
            Box::pin(guard.lost()) // in a box it borrows nothing of what is locked here
        });
        async move {
            match lost {
                Some(lost) => lost.await,
                None => Error::new(ErrorKind::LockLost, "the term is over: it was given back"),
            }
        }
    }

    /// Runs the work until it ends, or until the term is over: the work is then dropped where it
    /// stands.
    ///
    /// # Errors
    /// [`LockLost`](ErrorKind::LockLost) and [`Closed`](ErrorKind::Closed), or those of the work.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work; the term goes on.
    pub async fn while_held<T, E: From<Error>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        until_lost(|| self.is_held(), self.lost(), work).await?
    }

    /// Says another value to those who [observe](super::Election::observe), in place of what the
    /// leader said before. It returns when the value stands, and rides out everything but the end
    /// of the term: an answer that is lost, an outage. What was said earlier never comes after it.
    ///
    /// # Errors
    /// [`LockLost`](ErrorKind::LockLost) when the term is over, [`TooLarge`](ErrorKind::TooLarge),
    /// [`Closed`](ErrorKind::Closed), and the server's lasting refusals. After an error that came
    /// behind a lost answer, it may have been said all the same.
    ///
    /// # Cancel safety
    /// A future that is dropped may have said it, or may not; what is said next is written after
    /// it.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// use kv_recipes::Election;
    ///
    /// let kv = kv_memory::open("memory://").await?;
    /// let election = Election::new(&kv, "app/leader");
    /// let term = election.campaign().await?;
    /// kv_memory::Faults::of(&kv).unwrap().lose_answers(3); // of writes that are done
    /// term.proclaim("10.0.0.7:8080").await?;
    /// assert_eq!(election.leader().await?.unwrap().value, "10.0.0.7:8080");
    /// # Ok(()) }
    /// ```
    pub async fn proclaim(&self, value: impl IntoValue) -> Result<()> {
        let (term, value) = (self.another(), value.into_value());
        // Later values wait for it, polled or not.
        let said = apart(async move {
            let Office { seat, fence, change, .. } = &*term.0;
            let mut change = change.lock().await;
            // It is counted first: a number whose write was dropped is not used again.
            *change += 1;
            let said = seat.say(fence, *change, &value);
            let said = until_lost(|| term.is_held(), term.lost(), said).await;
            said.flatten().map_err(|e| seat.in_call(e))
        });
        said.await
    }

    /// Ends the term, so that the next candidate leads, and returns whether this one still led.
    ///
    /// # Errors
    /// Those of the server; the term ends by its TTL then.
    ///
    /// # Cancel safety
    /// It goes on in the background when the caller stops waiting.
    pub async fn resign(self) -> Result<bool> {
        match self.end() {
            Some(guard) => guard.release().await,
            None => Ok(false),
        }
    }

    /// Returns the same term once more.
    pub(super) fn another(&self) -> Self {
        Self(self.0.clone())
    }

    /// Takes the lock out of the term, which is over then.
    pub(super) fn end(&self) -> Option<Guard> {
        self.0.guard.lock().take()
    }

    /// Tells whether the term is over, by this side's clock or by the store's word. In an outage it
    /// waits for one of them.
    pub(super) async fn is_over(&self) -> bool {
        let (Seat { kv, name, .. }, mut backoff) = (&*self.0.seat, backoff());
        while self.is_held() {
            match kv.lock_holder(name).await {
                Ok(holder) => return holder.is_none_or(|holder| holder.token != self.number()),
                Err(e) if ends(&e) => return false,
                Err(_) => backoff.pause().await,
            }
        }
        true
    }
}

impl AsRef<Fence> for Term {
    fn as_ref(&self) -> &Fence {
        &self.0.fence
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seat { name, candidate, .. } = &*self.0.seat;
        let mut term = f.debug_struct("Term");
        term.field("name", name).field("number", &self.number()).field("candidate", candidate);
        term.field("is_held", &self.is_held()).finish_non_exhaustive()
    }
}
