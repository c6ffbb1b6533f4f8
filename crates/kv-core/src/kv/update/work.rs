//! The work of an update: reads, computes and writes, and finds out about lost answers.

use super::{
    Change, Next, Updated,
    attempt::{Attempt, expect},
    marker::Marker,
};
use crate::{
    Bytes, Condition, Entry, Error, ErrorKind, Fence, Key, Outcome, Refusal, Result, Written,
    backend::{Backoff, retry::outcome_unknown},
    driver::{Deadline, Expect, WriteOptions},
    kv::{Delete, Get, Kv, Put, Txn, lifetime::Lifetime, write::lock_lost},
};
use std::time::Duration;
use tokio::runtime::Handle;

/// The first and the greatest ceiling of the pauses after writes of others.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(320));

/// The work of one update. The function is kept apart, since it cannot be shared between threads.
pub(super) struct Work {
    kv: Kv,
    key: Key,
    life: Lifetime,
    fence: Option<Fence>,
    within: Duration,
    deadline: Deadline,
    pauses: Backoff,
    attempts: u32,
    /// The number of attempts that failed because another wrote the key first.
    conflicts: u32,
    /// The last failure that left the outcome unknown.
    lost: Option<Error>,
}

impl Work {
    pub(super) fn new(kv: Kv, key: Key, life: Lifetime, fence: Option<Fence>, within: Duration) -> Self {
        let (deadline, pauses) = (Deadline::after(within), Backoff::new(PAUSES.0, PAUSES.1));
        Self { kv, key, life, fence, within, deadline, pauses, attempts: 0, conflicts: 0, lost: None }
    }

    /// Reads, computes and writes until nobody comes in between.
    pub(super) async fn plain(mut self, mut change: Change) -> Result<Updated> {
        loop {
            let before = self.read(&self.key).await?;
            let attempt = self.compute(&mut change, before)?;
            if attempt.changes_nothing() {
                return Ok(attempt.done(None));
            }
            match self.write(&attempt).await {
                Ok(written) => return Ok(attempt.done(written)),
                Err(e) if e.is_conflict() => self.conflicts += 1,
                Err(e) => return Err(e),
            }
            self.pause().await?;
        }
    }

    /// Does the same by transactions with a marker, which tells about the attempts that are `open`:
    /// those whose answers were lost.
    pub(super) async fn exactly_once(mut self, mut change: Change, marker: &Marker) -> Result<Updated> {
        let mut open = Vec::new();
        loop {
            match self.once(&mut change, marker, &mut open).await {
                Ok(Some(updated)) => return Ok(updated),
                Ok(None) => {}
                Err(e) if open.is_empty() => return Err(e),
                Err(e) if e.is_transient() => {}
                Err(e) => return Err(self.failed(outcome_unknown(e))),
            }
            match self.pause().await {
                Err(_) if !open.is_empty() => return Err(self.unknown()),
                paused => paused?,
            }
        }
    }

    /// Finds out about the open attempts, and makes one attempt; `None` when another one is needed.
    async fn once(
        &mut self,
        change: &mut Change,
        marker: &Marker,
        open: &mut Vec<Attempt>,
    ) -> Result<Option<Updated>> {
        let found = self.read(&self.key).await?;
        if !open.is_empty() {
            // The marker is read behind the key. Where the key has another version by an open
            // attempt, its marker is there by now.
            if let Some(updated) = self.marked(marker, open).await? {
                return Ok(Some(updated));
            }
            open.retain(|attempt| attempt.can_still_be_made(found.as_ref()));
        }
        let mut attempt = match open.iter().position(|attempt| attempt.is_of(found.as_ref())) {
            Some(at) => open.swap_remove(at),
            None => self.compute(change, found)?,
        };
        if attempt.changes_nothing() && open.is_empty() {
            return Ok(Some(attempt.done(None)));
        }
        let is_sent_again = attempt.sent.is_some();
        attempt.sent.get_or_insert_with(|| marker.clock.now());
        match self.transact(&attempt, marker).await {
            Ok(Outcome::Committed(written)) => {
                // A late request to create the key must find the marker.
                if !is_sent_again && open.is_empty() {
                    self.sweep(marker);
                }
                let written = written.into_iter().next().flatten();
                let written = written.filter(|_| matches!(attempt.next, Next::Put(_)));
                Ok(Some(attempt.done(written)))
            }
            Ok(Outcome::Refused(Refusal { condition, .. })) => {
                let is_marked = matches!(&condition, Condition::Missing(key) if *key == marker.key);
                if is_sent_again || is_marked {
                    open.push(attempt);
                }
                let Condition::Held(fence) = condition else {
                    self.conflicts += 1;
                    return Ok(None);
                };
                // No attempt can be made any more. The marker tells whether one was.
                if !open.is_empty()
                    && let Some(updated) = self.marked(marker, open).await?
                {
                    return Ok(Some(updated));
                }
                open.clear();
                Err(self.failed(lock_lost(&fence)))
            }
            Err(e) if e.kind() == ErrorKind::OutcomeUnknown => {
                open.push(attempt);
                self.lost = Some(e);
                Ok(None)
            }
            Err(e) => {
                if is_sent_again {
                    open.push(attempt);
                }
                Err(e)
            }
        }
    }

    /// Reads the marker, and returns what the attempt did that wrote it; `None` where none was made
    /// so far.
    async fn marked(&self, marker: &Marker, open: &mut Vec<Attempt>) -> Result<Option<Updated>> {
        let Some(mark) = self.read(&marker.key).await? else {
            if open.iter().any(|attempt| marker.may_have_gone(attempt)) {
                let why = format!(
                    "the answer was lost, and the marker {:?}, which would tell, may have ended by its TTL; read \
                     before writing again",
                    marker.key
                );
                return Err(Error::new(ErrorKind::OutcomeUnknown, why));
            }
            return Ok(None);
        };
        let number = mark.text().and_then(|number| number.parse::<u32>().ok());
        let Some(at) = open.iter().position(|attempt| Some(attempt.number) == number) else {
            let why =
                format!("the marker {:?} holds {:?}, which this update did not write", mark.key, mark.text());
            return Err(Error::new(ErrorKind::Corrupt, why));
        };
        Ok(Some(open.swap_remove(at).done(None)))
    }

    fn compute(&mut self, change: &mut Change, before: Option<Entry>) -> Result<Attempt> {
        let next = change(before.as_ref()).map_err(|e| self.failed(e))?;
        self.attempts += 1;
        Ok(Attempt { number: self.attempts, before, next, sent: None })
    }

    async fn read(&self, key: &Key) -> Result<Option<Entry>> {
        Get::new(&self.kv, Ok(key.clone())).deadline(self.left()).send("update").await
    }

    async fn write(&self, attempt: &Attempt) -> Result<Option<Written>> {
        let (expect, within) = (expect(attempt.before.as_ref()), self.left());
        match &attempt.next {
            Next::Put(value) => self.put(value, expect, within).run().await.map(Some),
            Next::Delete | Next::Keep => self.delete(expect, within).run().await.map(|_| None),
        }
    }

    async fn transact(&self, attempt: &Attempt, marker: &Marker) -> Result<Outcome> {
        // A server that is silent leaves time to find out what it did.
        let within = if self.left() == Duration::MAX { Duration::MAX } else { self.left() / 2 };
        let (txn, expect) = (Txn::new(&self.kv).deadline(within), expect(attempt.before.as_ref()));
        let txn = match (&attempt.next, &attempt.before) {
            (Next::Put(value), _) => txn.then(self.put(value, expect, within)),
            (Next::Delete, Some(_)) => txn.then(self.delete(expect, within)),
            // It keeps late requests of open attempts from being made.
            (Next::Keep, Some(entry)) => txn.when_version(&self.key, entry.version),
            (Next::Delete | Next::Keep, None) => txn.when_missing(&self.key),
        };
        let (key, number) = (Ok(marker.key.clone()), attempt.number.to_string().into());
        let mark = Put::new(&self.kv, "update", key, number, Expect::Missing);
        txn.then(mark.with(marker.life.clone(), None, within)).send("update", Some(&self.key)).await
    }

    fn put(&self, value: &Bytes, expect: Expect, within: Duration) -> Put {
        let put = Put::new(&self.kv, "update", Ok(self.key.clone()), value.clone(), expect);
        put.with(self.life.clone(), self.fence.clone(), within)
    }

    fn delete(&self, expect: Expect, within: Duration) -> Delete {
        let delete = Delete::new(&self.kv, "update", Ok(self.key.clone()), expect).deadline(within);
        match &self.fence {
            Some(fence) => delete.fenced(fence),
            None => delete,
        }
    }

    /// Deletes the marker in the background. One that stays ends by its TTL.
    fn sweep(&self, marker: &Marker) {
        if Handle::try_current().is_err() {
            return;
        }
        let (kv, key) = (self.kv.clone(), marker.key.clone());
        self.kv.handle.shared.tasks.spawn(async move {
            let options = WriteOptions { deadline: Deadline::after(kv.deadline) };
            let whole = kv.part().whole(&key)?;
            let _ = kv.store().as_ref().delete(&whole, Expect::Anything, &options).await;
            Ok(())
        });
    }

    /// Pauses at random before the next attempt.
    ///
    /// # Errors
    /// No time is left for one.
    async fn pause(&mut self) -> Result<()> {
        if !self.deadline.has_passed() {
            tokio::time::sleep(self.pauses.delay_within(self.left())).await;
        }
        if self.deadline.has_passed() { Err(self.too_late()) } else { Ok(()) }
    }

    fn left(&self) -> Duration {
        self.deadline.remaining()
    }

    fn failed(&self, error: Error) -> Error {
        self.kv.in_call(error, "update", Some(self.key.as_str()))
    }

    #[cold]
    fn too_late(&self) -> Error {
        let why = format!(
            "others wrote the key {} times within {:?}, each time before this could; nothing was written, so try \
             again, or give it more time",
            self.conflicts, self.within
        );
        self.failed(Error::new(ErrorKind::Timeout, why))
    }

    #[cold]
    fn unknown(&self) -> Error {
        let why = "the write may or may not have happened, so read before writing again";
        let lost = || self.failed(Error::new(ErrorKind::OutcomeUnknown, why));
        self.lost.clone().unwrap_or_else(lost)
    }
}
