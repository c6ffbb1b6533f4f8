//! One of us, each period.

mod member;

use crate::{
    names::in_recipe,
    needs,
    patience::{DEFAULT_TTL, backoff, ends},
};
use kv_core::{Error, ErrorKind, Fence, IntoKey, Key, Kv, Result};
use member::Member;
use std::{convert::Infallible, future::Future, time::Duration};

/// Work that one of several processes does, each period: a report, a clean-up.
///
/// Every process runs the same [`run`](Self::run). Each tick has a number; it is begun by one of
/// them at a time, under a lock that is kept alive while the work runs: there is no longest time to
/// guess. The work may take longer than the period; the next tick begins when it has ended.
///
/// Nobody's clock has to be right. A member measures the period from the moment on in which it saw
/// the last tick begin, and who comes later waits a whole period. So ticks are never begun less
/// than a period apart, as the store learned of them, and nothing is made up for. Of all members
/// together one must be there for a whole period: where all are restarted more often, as by a
/// deployment each day with a period of a week, no tick comes.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_recipes::Ticks;
/// use std::time::Duration;
/// use tokio::sync::mpsc;
///
/// let kv = kv_memory::open("memory://").await?;
/// let (told, mut ticks) = mpsc::unbounded_channel();
/// for member in ["host-1", "host-2", "host-3"] {
///     let (kv, told) = (kv.clone(), told.clone());
///     tokio::spawn(async move {
///         let every = Ticks::every(&kv, "report", Duration::from_millis(50));
///         let work = |tick: kv_recipes::Tick| {
///             let (report, told) = (kv.put("last", member).fenced(&tick), told.clone());
///             async move {
///                 report.await.expect("no other runs the tick");
///                 told.send(tick.number()).expect("it is waited for");
///             }
///         };
///         every.run(work).await
///     });
/// }
/// for number in 1..=3 {
///     assert_eq!(ticks.recv().await, Some(number), "each by one of them");
/// }
/// # Ok(()) }
/// ```
///
/// # When things fail
/// | when the member that runs is | then |
/// |---|---|
/// | paused beyond the TTL | another runs the same tick again; the work of the first is dropped when it wakes, and what it wrote under the tick is refused if it comes late |
/// | killed | another runs the same tick again, within the TTL and its [lateness](kv_core::Capabilities::lateness) |
/// | cut off from the server | its work is dropped a tenth of the TTL before another can run |
/// | there while the server restarts | it goes on, if the lock outlives the restart; else as when it is cut off |
/// | told nothing, because an answer was lost | the record is read again: it knows its own by the id |
/// | no longer waiting (the future is dropped) | its work is dropped, and another runs the tick again |
///
/// So a tick is run at least once, by one member at a time, and a run again is
/// [told](Tick::is_again). Writes that must happen once a tick depend on its number and are
/// [`fenced`](kv_core::Put::fenced) by it.
///
/// # Layout, format 1
/// | name | has |
/// |---|---|
/// | the lock `NAME` | who runs |
/// | the key `NAME` | a line of JSON: `{"v":1,"number":7,"ended":false,"id":"9f86d081884c7d65"}`, written by the holder of the lock, fenced by it, when a tick begins and when it has ended; the id is that of the run |
#[doc(alias = "cron")]
#[doc(alias = "schedule")]
#[doc(alias = "timer")]
#[doc(alias = "singleton")]
#[derive(Clone, Debug)]
#[must_use = "nothing happens until `run` is awaited"]
pub struct Ticks {
    kv: Kv,
    name: Result<Key>,
    period: Duration,
    ttl: Duration,
}

/// One tick, for the work that it runs.
#[derive(Clone, Debug)]
pub struct Tick {
    number: u64,
    is_again: bool,
    fence: Fence,
}

impl Tick {
    /// Returns the number of the tick, which counts from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Tells whether this tick was begun before, by a run that did not end.
    pub fn is_again(&self) -> bool {
        self.is_again
    }

    /// Returns the proof of running the tick, for writes that are
    /// [`fenced`](kv_core::Put::fenced) by it.
    pub fn fence(&self) -> &Fence {
        &self.fence
    }
}

impl AsRef<Fence> for Tick {
    fn as_ref(&self) -> &Fence {
        &self.fence
    }
}

impl Ticks {
    /// Makes the ticks of this name, with this period. No I/O.
    pub fn every(kv: &Kv, name: impl IntoKey, period: Duration) -> Self {
        Self { kv: kv.clone(), name: name.into_key(), period, ttl: DEFAULT_TTL }
    }

    /// Sets how long the lock outlives a member that died while it ran: 15 s unless it is set.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Takes part, again and again: runs the work of the ticks that fall to this member. The first
    /// tick of all begins at once. Outages are ridden out. What the work could not do is the work's
    /// own to tell: the tick has ended all the same.
    ///
    /// It returns only what ends it: [`InvalidKey`](ErrorKind::InvalidKey),
    /// [`Unsupported`](ErrorKind::Unsupported) where there are no watches, or no writes that depend
    /// on a lock, [`InvalidArgument`](ErrorKind::InvalidArgument) for the TTL and for a period of
    /// nothing, before any I/O; [`Corrupt`](ErrorKind::Corrupt) for a key that holds something
    /// else; [`Closed`](ErrorKind::Closed), and the server's lasting refusals.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work that runs, and leaves nothing behind but the number of
    /// the tick. One that is not polled keeps its place, or the tick that it was granted, until it is
    /// dropped.
    pub async fn run<W, F>(&self, mut work: W) -> Error
    where
        W: FnMut(Tick) -> F,
        F: Future<Output = ()>,
    {
        let Err(e) = self.go(&mut work).await;
        in_recipe(e, &self.kv, "tick", self.name.as_ref().ok())
    }

    async fn go<W, F>(&self, work: &mut W) -> Result<Infallible>
    where
        W: FnMut(Tick) -> F,
        F: Future<Output = ()>,
    {
        let name = self.name.clone()?;
        needs::watches(&self.kv).and_then(|()| needs::fences(&self.kv, self.ttl))?;
        if self.period.is_zero() {
            return Err(Error::new(ErrorKind::InvalidArgument, "a period of 0 s; give one that lasts"));
        }
        let mut member = Member::begin(self, name).await?;
        let mut backoff = backoff();
        loop {
            match member.turn(work).await {
                Ok(()) => backoff.reset(),
                Err(e) if ends(&e) => return Err(e),
                Err(_) => backoff.pause().await,
            }
        }
    }
}
