//! One of us, each period.

use crate::{
    names::{in_recipe, new_id},
    needs,
    patience::{DEFAULT_TTL, backoff, ends, until_lost, write_fenced},
    record::{self, Format},
};
use futures_core::future::BoxFuture;
use kv_core::{
    Bytes, Entry, Error, ErrorKind, Fence, Guard, IntoKey, Key, Kv, Result, Version, Watch, WatchEvent,
    backend::Backoff,
};
use serde::{Deserialize, Serialize};
use std::{convert::Infallible, future::Future, time::Duration};
use tokio::time::{Instant, sleep_until};

/// The longest that a member waits beyond the period, at random, so that mostly one of them asks.
const SPREAD: Duration = Duration::from_secs(1);
/// A wait that counts as endless: the clock need not be able to count any period.
const LONG: Duration = Duration::from_secs(30 * 365 * 86_400);

/// Work that one of several processes does, each period: a report, a clean-up.
///
/// Every process runs the same [`run`](Self::run). Each tick has a number; it is begun by one of
/// them at a time, under a lock that is kept alive while the work runs: there is no longest time to
/// guess. The work may take longer than the period; the next tick begins when it has ended.
///
/// Nobody's clock has to be right. A member measures the period from the moment on in which it saw
/// the last tick begin, and who comes later waits a whole period. So ticks are never begun less
/// than a period apart, as the store learned of them, and nothing is made up for.
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

#[derive(Serialize, Deserialize)]
struct Record {
    v: Format,
    number: u64,
    ended: bool,
    id: String,
}

fn read(entry: &Entry) -> Result<Record> {
    record::read(&entry.key, &entry.value).map(|(record, _)| record)
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
    /// the tick.
    pub async fn run<W, F>(&self, mut work: W) -> Error
    where
        W: FnMut(Tick) -> F,
        F: Future<Output = ()>,
    {
        match self.go(&mut work).await {
            Ok(never) => match never {},
            Err(e) => in_recipe(e, &self.kv, "tick", self.name.as_ref().ok()),
        }
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

/// What a member knows of the ticks.
struct Seen {
    /// The number of the last tick; 0 when there was none.
    number: u64,
    ended: bool,
    version: Option<Version>,
    /// The moment from which on the next tick may begin.
    due: Instant,
}

struct Member<'a> {
    ticks: &'a Ticks,
    name: Key,
    /// The watch of the record.
    said: Watch,
    /// The watch of the lock's holder.
    holder: Watch,
    knows_said: bool,
    knows_holder: bool,
    is_held: bool,
    seen: Seen,
}

impl<'a> Member<'a> {
    async fn begin(ticks: &'a Ticks, name: Key) -> Result<Self> {
        let said = ticks.kv.watch(&name).await?;
        let holder = ticks.kv.lock_holder(&name).watch().await?;
        let seen = Seen { number: 0, ended: true, version: None, due: Instant::now() };
        let (knows_said, knows_holder, is_held) = (false, false, false);
        Ok(Self { ticks, name, said, holder, knows_said, knows_holder, is_held, seen })
    }

    /// Waits until a tick is due, and runs it if no other member has begun it.
    async fn turn<W, F>(&mut self, work: &mut W) -> Result<()>
    where
        W: FnMut(Tick) -> F,
        F: Future<Output = ()>,
    {
        self.until_due().await?;
        let due = self.last();
        let lock = self.ticks.kv.new_lock(&self.name).ttl(self.ticks.ttl);
        let mut line: BoxFuture<'static, Result<Guard>> = Box::pin(lock.acquire());
        let guard = loop {
            tokio::select! {
                biased;
                event = self.said.event() => {
                    self.of_said(&event?)?;
                    if self.last() != due {
                        return Ok(()); // another was first: nobody stays in line for nothing
                    }
                }
                guard = &mut line => break guard?,
            }
        };
        let run = self.run(&guard, due, work);
        until_lost(|| guard.is_held(), guard.lost(), run).await.flatten()?;
        guard.release().await.map(drop)
    }

    /// Waits until a tick may begin: the next one when the last has ended and its period is over,
    /// the same one again when nobody holds the lock under which it ran.
    async fn until_due(&mut self) -> Result<()> {
        loop {
            let due = match (self.seen.ended, self.is_held) {
                (true, _) => Some(self.seen.due),
                (false, false) => Some(Instant::now()),
                (false, true) => None,
            };
            let due = due.filter(|_| self.knows_said && self.knows_holder);
            // What was told already comes before the clock.
            tokio::select! {
                biased;
                event = self.said.event() => self.of_said(&event?)?,
                event = self.holder.event() => self.of_holder(&event?),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => return Ok(()),
            }
        }
    }

    /// Runs the tick behind `due`, unless what the store shows now is something else.
    async fn run<W, F>(&mut self, guard: &Guard, due: (u64, bool), work: &mut W) -> Result<()>
    where
        W: FnMut(Tick) -> F,
        F: Future<Output = ()>,
    {
        match self.ticks.kv.get(&self.name).await? {
            Some(entry) => self.saw(&entry)?,
            None => self.forget(),
        }
        if self.last() != due {
            return Ok(());
        }
        let (last, ended) = due;
        let (number, id) = (if ended { last + 1 } else { last }, new_id());
        self.write(guard, number, &id, false).await?;
        if ended {
            self.seen.due = self.after_a_period();
        }
        work(Tick { number, is_again: !ended, fence: guard.fence().clone() }).await;
        self.write(guard, number, &id, true).await
    }

    async fn write(&mut self, guard: &Guard, number: u64, id: &str, ended: bool) -> Result<()> {
        let record: Bytes = record::write(&Record { v: Format, number, ended, id: id.to_owned() }, b"")?;
        let is_done = |entry: &Entry| {
            let found = read(entry)?;
            Ok(found.id == id && found.ended == ended)
        };
        let version = write_fenced(&self.ticks.kv, &self.name, guard.fence(), &record, is_done).await?;
        let seen = &mut self.seen;
        (seen.number, seen.ended, seen.version) = (number, ended, Some(version));
        Ok(())
    }

    /// Returns the number of the last tick, and whether it has ended.
    fn last(&self) -> (u64, bool) {
        (self.seen.number, self.seen.ended)
    }

    fn of_said(&mut self, event: &WatchEvent) -> Result<()> {
        match event {
            WatchEvent::Put(entry) => return self.saw(entry),
            WatchEvent::Delete { .. } => self.forget(),
            WatchEvent::Synced => self.knows_said = true,
        }
        Ok(())
    }

    fn of_holder(&mut self, event: &WatchEvent) {
        match event {
            WatchEvent::Put(_) => self.is_held = true,
            WatchEvent::Delete { .. } => self.is_held = false,
            WatchEvent::Synced => self.knows_holder = true,
        }
    }

    fn saw(&mut self, entry: &Entry) -> Result<()> {
        if self.seen.version.is_some_and(|seen| entry.version <= seen) {
            return Ok(());
        }
        let Record { number, ended, .. } = read(entry)?;
        if number != self.seen.number {
            self.seen.due = self.after_a_period();
        }
        let seen = &mut self.seen;
        (seen.number, seen.ended, seen.version) = (number, ended, Some(entry.version));
        Ok(())
    }

    /// Begins to count anew, because somebody deleted the record; the period is kept.
    fn forget(&mut self) {
        let seen = &mut self.seen;
        (seen.number, seen.ended, seen.version) = (0, true, None);
    }

    fn after_a_period(&self) -> Instant {
        let period = self.ticks.period;
        let spread = SPREAD.min(period / 20);
        let wait = period.saturating_add(Backoff::new(spread, spread).delay());
        Instant::now() + wait.min(LONG)
    }
}
