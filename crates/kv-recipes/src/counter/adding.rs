//! One change of a counter, with all its tries.

use super::session::{Number, Session, marker, number};
use crate::{
    names::below,
    patience::{backoff, ends},
};
use kv_core::{Error, ErrorKind, Guard, Key, Kv, Outcome, Result, Version};
use std::time::Duration;
use tokio::sync::Mutex;

/// The number of tries in which others were first, behind which a change waits in line.
const PATIENCE: u32 = 4;
/// The number of changes in a row in which nobody was first, behind which a counter looks whether anybody
/// stands in line.
const IN_A_ROW: u32 = 16;

/// One change.
///
/// Every try expects the same version of the marker as long as none took effect, so that of all
/// tries at most one does. A try whose answer was lost is found out by the marker. When the marker
/// is gone with its lease, no try that is still on its way can take effect, and the number tells
/// whether one did, as long as nobody else has changed it.
pub(super) struct Adding<'a> {
    kv: &'a Kv,
    name: &'a Key,
    by: i64,
    ttl: Duration,
    /// The time that each request has.
    each: Duration,
    /// The number of this change in its session; `None` before it has one.
    change: Option<u64>,
    /// True while a try may take effect, or may have taken it.
    may_be_done: bool,
    /// The version of the number that the first such try expected.
    expected: Option<Version>,
    /// True when such a try has lost its session.
    is_orphan: bool,
    /// True when nobody can know any more whether such a try took effect.
    is_lost: bool,
    /// The number of tries in which another change came first.
    late: u32,
    last: Option<Error>,
}

impl<'a> Adding<'a> {
    pub(super) fn new(kv: &'a Kv, name: &'a Key, by: i64, ttl: Duration, each: Duration) -> Self {
        let (change, expected, last, late) = (None, None, None, 0);
        let (may_be_done, is_orphan, is_lost) = (false, false, false);
        Self { kv, name, by, ttl, each, change, may_be_done, expected, is_orphan, is_lost, late, last }
    }

    pub(super) async fn run(&mut self, session: &Mutex<Option<Session>>) -> Result<i64> {
        let mut session = session.lock().await;
        let (mut backoff, mut turn) = (backoff(), self.courtesy(&mut session).await?);
        loop {
            match self.once(&mut session).await {
                Ok(Some(sum)) => {
                    if let Some(session) = &mut *session {
                        session.in_a_row =
                            if self.late == 0 { session.in_a_row.saturating_add(1) } else { 0 };
                    }
                    return Ok(sum);
                }
                Ok(None) => {}
                Err(e) if self.is_lost => return Err(e),
                Err(e) if ends(&e) && self.may_be_done => return Err(unknown().with_cause(e)),
                Err(e) if ends(&e) => return Err(e),
                Err(e) => self.last = Some(e),
            }
            if self.late >= PATIENCE && turn.is_none() {
                turn = self.turn().await?;
                if turn.is_some() {
                    // Nobody else of the line is trying: those that wait behind it wait for a pause too.
                    backoff.reset();
                    continue;
                }
            }
            backoff.pause().await;
        }
    }

    /// Stands in line behind those who were too late often, when this counter has made many changes in a row:
    /// it knows the number by its own last change, while they have to read it, and would be too late for ever.
    async fn courtesy(&self, session: &mut Option<Session>) -> Result<Option<Guard>> {
        let Some(session) = session.as_mut().filter(|session| session.in_a_row >= IN_A_ROW) else {
            return Ok(None);
        };
        session.in_a_row = 0;
        if self.kv.capabilities().lock.is_none() {
            return Ok(None);
        }
        match self.kv.lock_holder(self.line()?).deadline(self.each).await {
            Ok(Some(_)) => self.turn().await,
            // The look is a favour too.
            _ => Ok(None),
        }
    }

    /// Returns the lock of the line.
    fn line(&self) -> Result<Key> {
        below(self.name, "callers")
    }

    /// Waits in the line of those who were too late often; `None` where there are no locks, and when
    /// the line does not move, as behind a process that has died.
    async fn turn(&self) -> Result<Option<Guard>> {
        let Some(locking) = &self.kv.capabilities().lock else { return Ok(None) };
        let ttl = self.ttl.clamp(locking.ttl.least, locking.ttl.greatest.max(locking.ttl.least));
        let line = self.kv.new_lock(self.line()?).ttl(ttl).deadline(self.each);
        match line.acquire_within(self.each).await {
            // The line is a favour to the others, and no condition.
            Err(e) if e.kind() != ErrorKind::Closed => Ok(None),
            Err(e) if self.may_be_done => Err(unknown().with_cause(e)),
            turn => turn,
        }
    }

    /// Tries once; `None` when it has to be tried again.
    async fn once(&mut self, slot: &mut Option<Session>) -> Result<Option<i64>> {
        if self.is_orphan {
            self.find_out().await?;
        }
        if !self.may_be_done && slot.as_ref().is_some_and(|session| !session.lease.is_held()) {
            self.leave(slot);
        }
        let session = match slot {
            Some(session) => session,
            None => {
                let begun = Session::begin(self.kv, self.name, self.ttl, self.each).await?;
                slot.insert(begun)
            }
        };
        let change = *self.change.get_or_insert_with(|| {
            session.change += 1;
            session.change
        });
        if session.marked.is_none() {
            match session.read_marker(self.kv, self.each).await? {
                None => {
                    self.leave(slot);
                    return Ok(None);
                }
                Some((marker, version)) => {
                    session.marked = Some(version);
                    if marker.change == change {
                        return Ok(Some(marker.result));
                    }
                }
            }
        }
        let seen = match session.number {
            Some(seen) => seen,
            None => number(self.kv, self.name, self.each).await?,
        };
        let sum = match seen.value.checked_add(self.by) {
            Some(sum) => sum,
            // Others may have changed the number since this counter wrote it.
            None if session.number.take().is_some() => return Ok(None),
            None => return Err(self.too_great(seen.value)),
        };
        let answer = self.send(session, seen, change, sum).await;
        match answer {
            Err(e) if e.kind() == ErrorKind::LeaseLost => {
                // A try before this one may have taken effect: the marker tells while it is there.
                if !self.may_be_done {
                    self.leave(slot);
                }
                Ok(None)
            }
            answer => answer,
        }
    }

    /// Sends one try.
    async fn send(
        &mut self,
        session: &mut Session,
        seen: Number,
        change: u64,
        sum: i64,
    ) -> Result<Option<i64>> {
        // Both are taken out first: if this future is dropped, they have to be read again.
        let (Some(marked), _) = (session.marked.take(), session.number.take()) else { return Ok(None) };
        let put = self.kv.put(self.name, sum.to_string());
        let put = match seen.version {
            Some(version) => put.if_version(version),
            None => put.if_missing(),
        };
        let mark = self.kv.put(&session.marker, marker(change, sum)?).lease(&session.lease);
        let both = self.kv.transact().when_version(&session.marker, marked).then(put).then(mark);
        let before = std::mem::replace(&mut self.may_be_done, true);
        if !before {
            self.expected = seen.version;
        }
        match both.deadline(self.each).await {
            Ok(Outcome::Committed(written)) => {
                let version = |at: usize| Some((*written.get(at)?)?.version);
                session.marked = version(1);
                session.number = version(0).map(|version| Number { value: sum, version: Some(version) });
                Ok(Some(sum))
            }
            Ok(Outcome::Refused(refusal)) => {
                (self.may_be_done, self.late) = (before, self.late + 1);
                // The first condition is the marker's: behind it, it was as expected.
                session.marked = (refusal.index > 0).then_some(marked);
                Ok(None)
            }
            Err(e) if e.kind() == ErrorKind::OutcomeUnknown => Err(e),
            Err(e) => {
                self.may_be_done = before; // nothing was written
                Err(e)
            }
        }
    }

    /// Gives up a session whose lease has ended, and with it the marker.
    fn leave(&mut self, slot: &mut Option<Session>) {
        (*slot, self.change) = (None, None);
        self.is_orphan = self.may_be_done;
    }

    /// Finds out whether a try took effect whose marker is gone. Without the marker none can take
    /// effect any more.
    async fn find_out(&mut self) -> Result<()> {
        let now = number(self.kv, self.name, self.each).await?.version;
        if now != self.expected {
            self.is_lost = true;
            return Err(unknown());
        }
        (self.is_orphan, self.may_be_done) = (false, false);
        Ok(())
    }

    fn too_great(&self, value: i64) -> Error {
        let why = format!("{value} and {} are beyond 64 bits; the number stays as it is", self.by);
        Error::new(ErrorKind::InvalidArgument, why)
    }

    /// Returns the error of a change whose time is over.
    pub(super) fn out_of_time(&mut self, within: Duration) -> Error {
        match self.last.take() {
            Some(last) if self.may_be_done => unknown().with_cause(last),
            None if self.may_be_done => unknown(),
            Some(last) => last,
            None => {
                let late = self.late;
                let why = format!("its turn did not come within {within:?}; {late} times others were first");
                Error::new(ErrorKind::Timeout, why)
            }
        }
    }
}

#[cold]
fn unknown() -> Error {
    let why =
        "the change may or may not have been added, and nobody can know any more; read before adding again";
    Error::new(ErrorKind::OutcomeUnknown, why)
}
