//! A number that many change, each change once.

mod adding;
mod session;

use crate::{names::in_recipe, needs, patience::DEFAULT_TTL};
use adding::Adding;
use kv_core::{Error, IntoKey, Key, Kv, Result, backend::apart, driver::Deadline};
use session::Session;
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::Mutex;

/// The conditions and writes of one change: those of the number, and those of the marker.
const OPERATIONS: usize = 4;
/// The share of its time that each request of a change has, so that a lost answer leaves time to
/// find out.
const REQUESTS: u32 = 5;

/// A number that many processes change at once: each change takes effect exactly once, also when
/// its answer is lost, or the call says that it does not know.
///
/// The new number, and a marker of who changed it, are written in one transaction. When an answer
/// is lost, the marker tells whether the change took effect; as long as it did not, the change is
/// tried again in such a way that of all its tries at most one can take effect. The marker lives
/// under a lease of the counter, so that nothing piles up.
///
/// Clones are one: their changes go one after the other, and share the lease. For ids use
/// [`IdBlocks`](crate::IdBlocks), which cost less.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_memory::Faults;
/// use kv_recipes::Counter;
///
/// let kv = kv_memory::open("memory://").await?;
/// let hits = Counter::new(&kv, "stats/hits");
/// assert_eq!(hits.add(2).await?, 2);
///
/// Faults::of(&kv).unwrap().lose_answers(1); // the next change is done, and its answer lost
/// assert_eq!(hits.add(3).await?, 5);
/// assert_eq!(hits.get().await?, 5);
/// assert_eq!(kv.get("stats/hits").await?.unwrap().text(), Some("5"));
/// # Ok(()) }
/// ```
///
/// # When things fail
/// | when the caller is | then |
/// |---|---|
/// | paused beyond the TTL | a change that was under way took effect once or not at all; if nobody can know which, the error is [`OutcomeUnknown`](kv_core::ErrorKind::OutcomeUnknown) |
/// | killed | its last change took effect once or not at all; its marker goes within the TTL and its lateness |
/// | cut off from the server | an error within the [deadline](Self::deadline): [`OutcomeUnknown`](kv_core::ErrorKind::OutcomeUnknown) if the change may have taken effect, else that of the last try |
/// | there while the server restarts | as when it is cut off |
/// | told nothing, because an answer was lost | it reads the marker, and gives the answer that was lost |
/// | no longer waiting (the future is dropped) | the change took effect once or not at all; the next change of this counter is not confused by it |
///
/// On a store that may lose acknowledged writes ([`Durability::MayLose`](kv_core::Durability)) a
/// failover can take changes back, each with its marker.
///
/// # Layout, format 1
/// The key has the number as decimal text, `-17`, which anybody may read; a missing key is 0. Below
/// it, `NAME/callers/ID` is the marker of each counter that is in use, a line of JSON under its
/// lease: `{"v":1,"change":4,"result":-17}`. Whoever changes the number does so by one transaction
/// that expects the version of both keys and writes both, or, if an unknown outcome will do, by a
/// compare-and-swap of the number alone.
#[doc(alias = "atomic")]
#[doc(alias = "increment")]
#[derive(Clone)]
pub struct Counter {
    kv: Kv,
    name: Result<Key>,
    ttl: Duration,
    within: Duration,
    session: Arc<Mutex<Option<Session>>>,
}

impl Counter {
    /// Makes the counter of this key. No I/O.
    pub fn new(kv: &Kv, name: impl IntoKey) -> Self {
        let (ttl, within) = (DEFAULT_TTL, Deadline::DEFAULT);
        Self { kv: kv.clone(), name: name.into_key(), ttl, within, session: Arc::default() }
    }

    /// Sets the TTL of the lease under which the marker lives: 15 s unless it is set. In an outage
    /// that lasts longer, a change whose answer was lost has an unknown outcome.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets the time that each change has, with all its tries: five seconds unless it is set.
    #[doc(alias = "timeout")]
    #[must_use]
    pub fn deadline(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// Reads the number; 0 when the key is not there.
    ///
    /// # Errors
    /// Those of [`Kv::get`]; [`Corrupt`](kv_core::ErrorKind::Corrupt) for a value that is no number.
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing behind.
    pub async fn get(&self) -> Result<i64> {
        let name = self.name()?;
        let number = session::number(&self.kv, &name, self.within).await;
        Ok(number.map_err(|e| self.in_call(e, Some(&name)))?.value)
    }

    /// Adds to the number, and returns what it is then. It tries again while others change the
    /// number, and after answers that were lost; whoever loses often waits in the line of a lock,
    /// and who makes many changes in a row looks at that line every 16 changes, by one
    /// request more, so that nobody is always too late.
    ///
    /// # Errors
    /// Before any I/O [`InvalidKey`](kv_core::ErrorKind::InvalidKey),
    /// [`Unsupported`](kv_core::ErrorKind::Unsupported) where there are no transactions or no leases,
    /// [`InvalidArgument`](kv_core::ErrorKind::InvalidArgument) for the TTL. Then `InvalidArgument` for a
    /// sum beyond 64 bits and [`Corrupt`](kv_core::ErrorKind::Corrupt) for a value that is no number; when
    /// the time is over, [`OutcomeUnknown`](kv_core::ErrorKind::OutcomeUnknown) if the change may have taken
    /// effect, else the error of the last try, or [`Timeout`](kv_core::ErrorKind::Timeout) when others were
    /// always first; the server's lasting refusals. Nothing was added after an error of another
    /// kind than `OutcomeUnknown`.
    ///
    /// # Cancel safety
    /// A change whose future is dropped takes effect once or not at all.
    #[doc(alias = "cas")]
    #[doc(alias = "increment")]
    #[doc(alias = "fetch_add")]
    pub async fn add(&self, change: i64) -> Result<i64> {
        let name = self.name()?;
        let can = needs::transactions(&self.kv, OPERATIONS).and_then(|()| needs::leases(&self.kv, self.ttl));
        can.map_err(|e| self.in_call(e, Some(&name)))?;
        let counter = self.clone();
        // Other changes of this counter wait for it, polled or not.
        let added = apart(async move {
            let Self { kv, ttl, within, session, .. } = &counter;
            let mut adding = Adding::new(kv, &name, change, *ttl, *within / REQUESTS);
            let added = Deadline::after(*within).limit(adding.run(session)).await;
            let added = added.unwrap_or_else(|| Err(adding.out_of_time(*within)));
            added.map_err(|e| counter.in_call(e, Some(&name)))
        });
        added.await
    }

    fn name(&self) -> Result<Key> {
        self.name.clone().map_err(|e| self.in_call(e, None))
    }

    fn in_call(&self, error: Error, name: Option<&Key>) -> Error {
        in_recipe(error, &self.kv, "count", name)
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counter").field("name", &self.name).finish_non_exhaustive()
    }
}
