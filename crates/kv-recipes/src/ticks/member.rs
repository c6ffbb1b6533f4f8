//! One process that takes part in the ticks.

use super::{Tick, Ticks};
use crate::{
    json::corrupt,
    names::new_id,
    patience::{until_lost, write_fenced},
    record::{self, Format},
};
use futures_core::future::BoxFuture;
use kv_core::{Bytes, Entry, Guard, Key, Result, Version, Watch, WatchEvent, backend::Backoff};
use serde::{Deserialize, Serialize};
use std::{future::Future, time::Duration};
use tokio::time::{Instant, sleep_until};

/// The longest that a member waits beyond the period, at random, so that mostly one of them asks.
const SPREAD: Duration = Duration::from_secs(1);
/// A wait that counts as endless: the clock need not be able to count any period.
const LONG: Duration = Duration::from_secs(30 * 365 * 86_400);

#[derive(Serialize, Deserialize)]
struct Record {
    v: Format,
    number: u64,
    ended: bool,
    id: String,
}

fn read(entry: &Entry) -> Result<Record> {
    let (record, _): (Record, _) = record::read(&entry.key, &entry.value)?;
    match record.number {
        u64::MAX => Err(corrupt(&entry.key, "is the last tick that can be")),
        _ => Ok(record),
    }
}

/// The state of the ticks as far as a member knows it.
struct Seen {
    /// The number of the last tick; 0 when there was none.
    number: u64,
    ended: bool,
    version: Option<Version>,
    /// The moment from which on the next tick may begin.
    due: Instant,
}

pub(super) struct Member<'a> {
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
    pub(super) async fn begin(ticks: &'a Ticks, name: Key) -> Result<Self> {
        let said = ticks.kv.watch(&name).await?;
        let holder = ticks.kv.lock_holder(&name).watch().await?;
        let seen = Seen { number: 0, ended: true, version: None, due: Instant::now() };
        let (knows_said, knows_holder, is_held) = (false, false, false);
        Ok(Self { ticks, name, said, holder, knows_said, knows_holder, is_held, seen })
    }

    /// Waits until a tick is due, and runs it if no other member has begun it.
    pub(super) async fn turn<W, F>(&mut self, work: &mut W) -> Result<()>
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
