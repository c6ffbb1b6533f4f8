//! One client that owns keys that end.

use super::{
    Work, directory,
    judge::{Found, History, Lease, Life, Look, Revocation, Write, micros},
};
use crate::torture::chance::Chance;
use kv_core::{Error, ErrorKind, Kv, Outcome, Put, Version, Written};
use std::time::Duration;

/// The number of keys that an owner writes by turns.
const SLOTS: usize = 4;
const SECOND: Duration = Duration::from_secs(1);
/// The owner that ends when all is calm; the others end under fire.
const CALM: usize = 1;
/// The owner that revokes its leases soon and often, so that strokes meet revocations too.
const HASTY: usize = 2;
/// The time for which the end of a round waits until leases that were lost are over for certain.
const OUTLIVES: Duration = Duration::from_secs(15);

impl Work<'_> {
    /// Works as this owner, to its end.
    pub(super) async fn owner(&self, number: usize, name: String, kv: Kv) {
        Owner::new(self, number, name, kv).run().await;
    }
}

/// A key that is written.
struct Slot {
    key: String,
    /// The value that was written last and its version, if they are known and the key was not
    /// deleted.
    last: Option<(u32, Version)>,
    /// The number of writes that were noted.
    writes: usize,
}

struct Owner<'a> {
    work: &'a Work<'a>,
    number: usize,
    name: String,
    kv: Kv,
    chance: Chance,
    slots: Vec<Slot>,
    begun: usize,
    /// The lease and its number.
    lease: Option<(usize, kv_core::Lease)>,
    /// Leases whose handles said that they were over, and their numbers.
    lost: Vec<(usize, kv_core::Lease)>,
}

/// The precondition of a write.
#[derive(Clone, Copy)]
enum Expects {
    Anything,
    Missing,
    Last(u32, Version),
}

impl<'a> Owner<'a> {
    fn new(work: &'a Work<'a>, number: usize, name: String, kv: Kv) -> Self {
        let chance = work.field.chance(&name);
        let (slots, lost) = (Vec::new(), Vec::new());
        let mut owner = Self { work, number, name, kv, chance, slots, begun: 0, lease: None, lost };
        for _ in 0..SLOTS {
            let slot = owner.begin();
            owner.slots.push(slot);
        }
        owner
    }

    async fn run(mut self) {
        while !self.work.field.is_over() {
            self.step().await;
            self.look_at_lease();
            tokio::time::sleep(self.chance.millis(0, 12)).await;
        }
        if self.number == CALM {
            self.work.field.calm().await;
            self.outlive().await;
        }
        match self.chance.below(3) {
            0 => self.revoke().await,
            // `close` waits for the end of what was dropped before.
            1 => {
                let dropped = self.drop_lease();
                self.close(dropped).await;
            }
            _ => {
                self.look_at_lease();
                let held = self.lease.as_ref().map(|(number, _)| *number);
                self.close(held).await;
            }
        }
        self.drop_lease();
        let _ = self.kv.close().await;
    }

    /// Begins a key that was never used.
    fn begin(&mut self) -> Slot {
        self.begun += 1;
        let key = format!("{}/k{}", directory(self.number), self.begun);
        let mut log = self.work.log();
        log.keys.insert(key.clone(), History::default());
        log.newest.push(key.clone());
        Slot { key, last: None, writes: 0 }
    }

    async fn step(&mut self) {
        if self.number == HASTY && self.chance.one_in(3) {
            if self.leased().await.is_some() {
                self.revoke().await;
            }
            return;
        }
        if !self.lost.is_empty() && self.chance.one_in(100) {
            return self.revoke_lost(0).await;
        }
        let at = self.chance.below(SLOTS);
        let capabilities = self.work.field.capabilities();
        let can_transact = capabilities.max_txn_ops >= 2;
        let more = if self.chance.one_in(3) { SECOND * 7 / 10 } else { Duration::ZERO };
        let ttl = capabilities.ttl.as_ref().map(|range| range.least.max(SECOND) + more);
        let expects = match (self.chance.below(3), self.slots[at].last) {
            (1, Some((id, version))) => Expects::Last(id, version),
            (1, None) => Expects::Missing,
            _ => Expects::Anything,
        };
        match self.chance.below(16) {
            0..6 => {
                let (slot, only_whether) = (&self.slots[at], self.chance.one_in(5));
                self.work.look(&self.name, &self.kv, &slot.key, only_whether, Some(slot.writes)).await;
            }
            6..9 if ttl.is_some() => self.put(at, expects, ttl, false).await,
            9 => self.put(at, expects, None, false).await,
            10 if can_transact => {
                let ttl = if self.chance.one_in(2) { ttl } else { None };
                self.transact(at, ttl).await;
            }
            11 => self.delete(at).await,
            12..15 => self.put(at, expects, None, true).await,
            _ => match self.chance.below(5) {
                0 => self.revoke().await,
                1 => drop(self.drop_lease()),
                _ => {}
            },
        }
        if self.chance.one_in(12) {
            self.slots[at] = self.begin();
        }
    }

    /// Returns the number of the lease, and makes a new one if there is none; `None` when that
    /// fails.
    async fn leased(&mut self) -> Option<usize> {
        if let Some((number, _)) = &self.lease {
            return Some(*number);
        }
        let range = self.work.field.capabilities().lease.clone()?;
        let ttl = range.least.max(SECOND) * *self.chance.pick(&[1, 2, 4]);
        let began = self.work.field.now();
        match self.kv.lease(ttl).await {
            Ok(lease) => {
                if range.grant(ttl).ok() != Some(lease.ttl()) {
                    self.work.absurd(format!("{ttl:?} were asked for, and {:?} granted", lease.ttl()));
                }
                let mut log = self.work.log();
                log.seen.answered += 1;
                let number = log.leases.len();
                log.leases.push(Lease { ttl: micros(lease.ttl()), held: began, ..Lease::default() });
                drop(log);
                self.lease = Some((number, lease));
                Some(number)
            }
            Err(e) => {
                self.work.failed(&e);
                None
            }
        }
    }

    /// Notes that the lease is held, or drops it, or keeps what is left of it for a revocation.
    fn look_at_lease(&mut self) {
        let Some((number, lease)) = &self.lease else { return };
        let asked = self.work.field.now();
        if lease.is_held() {
            self.work.lease(*number, |seen| seen.held = asked);
        } else if self.chance.one_in(2) {
            self.drop_lease();
        } else {
            self.ends(*number);
            self.lost.extend(self.lease.take());
        }
    }

    /// Notes that nobody renews the lease any more.
    fn ends(&self, number: usize) {
        let now = self.work.field.now();
        self.work.lease(number, |seen| {
            seen.dropped.get_or_insert(now);
        });
    }

    fn drop_lease(&mut self) -> Option<usize> {
        let (number, lease) = self.lease.take()?;
        drop(lease);
        self.ends(number);
        Some(number)
    }

    async fn revoke(&mut self) {
        self.look_at_lease();
        if let Some((number, lease)) = self.lease.take() {
            self.revoke_this(number, lease).await;
        }
    }

    /// Revokes a lease that was lost. Its keys are read before, since the revocation removes what
    /// should have ended by itself.
    async fn revoke_lost(&mut self, nth: usize) {
        let (number, lease) = self.lost.remove(nth);
        for key in self.work.keys_under(number) {
            self.work.look(&self.name, &self.kv, &key, false, None).await;
        }
        self.revoke_this(number, lease).await;
    }

    async fn revoke_this(&self, number: usize, lease: kv_core::Lease) {
        let began = self.work.field.now();
        // The handle tells what is left from a moment after this one.
        let lives = began + micros(lease.remaining());
        let answer = lease.revoke().await;
        let ended = self.work.field.now();
        // The handle renews the lease until the answer.
        self.ends(number);
        match answer {
            Ok(was_alive) => {
                self.work.lease(number, |seen| {
                    seen.revoked = Some(ended);
                    seen.revocation = Some(Revocation { began, ended, lives, was_alive });
                });
                self.work.log().seen.answered += 1;
            }
            Err(e) => self.work.failed(&e),
        }
    }

    /// Revokes the leases that were lost, each when it is over for certain, if that comes soon.
    async fn outlive(&mut self) {
        let limit = self.work.field.now() + micros(OUTLIVES);
        while !self.lost.is_empty() {
            let times = self.work.times();
            let over = |(number, _): &(usize, kv_core::Lease)| {
                let log = self.work.log();
                log.leases.get(*number).and_then(|lease| times.outlived(lease)).unwrap_or(limit)
            };
            let ends: Vec<u64> = self.lost.iter().map(over).collect();
            let Some((first, end)) = ends.into_iter().enumerate().min_by_key(|(_, end)| *end) else { return };
            let wait = end.min(limit).saturating_sub(self.work.field.now());
            tokio::time::sleep(Duration::from_micros(wait + 1000)).await;
            self.revoke_lost(first).await;
        }
    }

    /// Closes the handle, which gives the lease back.
    async fn close(&mut self, lease: Option<usize>) {
        let answer = self.kv.close().await;
        let now = self.work.field.now();
        if let Some(number) = lease {
            self.work.lease(number, |seen| {
                seen.dropped.get_or_insert(now);
                seen.revoked = answer.is_ok().then_some(now);
            });
        }
    }

    async fn put(&mut self, at: usize, expects: Expects, ttl: Option<Duration>, under_lease: bool) {
        if under_lease && self.leased().await.is_none() {
            return;
        }
        let (id, key) = (self.work.id(), self.slots[at].key.clone());
        let mut call = match expects {
            Expects::Anything => self.kv.put(&key, id.to_string()),
            Expects::Missing => self.kv.atomic_put(&key, id.to_string(), None),
            Expects::Last(_, version) => self.kv.atomic_put(&key, id.to_string(), version),
        };
        let mut life = Life::Forever;
        if let Some(ttl) = ttl {
            (call, life) = self.with_ttl(call, ttl);
        } else if let Some((number, lease)) = &self.lease
            && under_lease
        {
            (call, life) = (call.lease(lease), Life::Under(*number));
        }
        let began = self.work.field.now();
        let answer = call.await;
        self.answered(at, began, id, life, expects, answer);
    }

    fn with_ttl(&self, call: Put, ttl: Duration) -> (Put, Life) {
        let granted = self.work.field.capabilities().ttl.as_ref().and_then(|range| range.grant(ttl).ok());
        (call.ttl(ttl), Life::For(micros(granted.unwrap_or(ttl))))
    }

    async fn transact(&mut self, at: usize, ttl: Option<Duration>) {
        let (id, key) = (self.work.id(), self.slots[at].key.clone());
        let (mut step, mut life) = (self.kv.put(&key, id.to_string()), Life::Forever);
        if let Some(ttl) = ttl {
            (step, life) = self.with_ttl(step, ttl);
        }
        let (txn, expects) = match self.slots[at].last {
            Some((was, version)) => {
                (self.kv.transact().when_version(&key, version), Expects::Last(was, version))
            }
            None => (self.kv.transact().when_missing(&key), Expects::Missing),
        };
        let began = self.work.field.now();
        let answer = match txn.then(step).await {
            Ok(Outcome::Committed(written)) => match written.first() {
                Some(Some(written)) => Ok(*written),
                _ => return self.work.absurd(format!("a transaction answered {written:?} to one put")),
            },
            Ok(Outcome::Refused(refusal)) => {
                let kind = match expects {
                    Expects::Missing => ErrorKind::KeyExists,
                    _ => ErrorKind::KeyModified,
                };
                Err(Error::new(kind, refusal.to_string()))
            }
            Err(e) => Err(e),
        };
        self.answered(at, began, id, life, expects, answer);
    }

    async fn delete(&mut self, at: usize) {
        let key = self.slots[at].key.clone();
        let began = self.work.field.now();
        match self.kv.delete(&key).await {
            Ok(was_there) => {
                let found = if was_there { Found::Something } else { Found::Nothing };
                self.saw(at, "delete", began, found);
                self.wrote(
                    at,
                    Write { id: 0, life: Life::Gone, began, ended: Some(self.work.field.now()) },
                    None,
                );
            }
            Err(e) => self.write_failed(at, began, 0, Life::Gone, &e),
        }
    }

    fn answered(
        &mut self,
        at: usize,
        began: u64,
        id: u32,
        life: Life,
        expects: Expects,
        answer: Result<Written, Error>,
    ) {
        match answer {
            Ok(written) => {
                match expects {
                    Expects::Anything => self.work.log().seen.answered += 1,
                    Expects::Missing => self.saw(at, "condition", began, Found::Nothing),
                    Expects::Last(was, _) => self.saw(at, "condition", began, Found::Value(was)),
                }
                // A put that took long tells the shorter TTL that is left.
                let life = match (life, written.ttl.map(micros)) {
                    (Life::For(asked), Some(told)) if told <= asked => Life::For(told),
                    (Life::For(_), _) | (_, Some(_)) => {
                        let what = format!("{life:?} was asked for, and a TTL of {:?} granted", written.ttl);
                        return self.work.absurd(what);
                    }
                    (life, None) => life,
                };
                let write = Write { id, life, began, ended: Some(self.work.field.now()) };
                self.wrote(at, write, Some((id, written.version)));
            }
            Err(e) if e.kind() == ErrorKind::KeyExists && matches!(expects, Expects::Missing) => {
                self.saw(at, "condition", began, Found::Something);
            }
            Err(e) if e.kind() == ErrorKind::KeyModified && matches!(expects, Expects::Last(..)) => {
                // Nobody else writes the key: it has ended.
                self.saw(at, "condition", began, Found::Nothing);
                self.slots[at].last = None;
            }
            Err(e) if e.kind() == ErrorKind::LeaseLost && matches!(life, Life::Under(_)) => {
                self.work.log().seen.answered += 1;
                if self.lease.as_ref().is_some_and(|(_, lease)| lease.is_held()) {
                    self.work.absurd(format!("a lease that is held was lost to a put: {e}"));
                    self.drop_lease();
                } else {
                    self.look_at_lease();
                }
            }
            Err(e) => self.write_failed(at, began, id, life, &e),
        }
    }

    /// Notes a write that failed, and leaves its key alone when nobody knows what became of it.
    fn write_failed(&mut self, at: usize, began: u64, id: u32, life: Life, error: &Error) {
        self.work.failed(error);
        if error.kind() == ErrorKind::OutcomeUnknown {
            self.wrote(at, Write { id, life, began, ended: None }, None);
            self.slots[at] = self.begin();
        }
    }

    fn saw(&self, at: usize, by: &'static str, began: u64, found: Found) {
        let (slot, ended) = (&self.slots[at], self.work.field.now());
        self.work.log().seen.answered += 1;
        let look = Look { client: self.name.clone(), by, began, ended, found, after: Some(slot.writes) };
        self.work.note(&slot.key, look);
    }

    fn wrote(&mut self, at: usize, write: Write, last: Option<(u32, Version)>) {
        let slot = &mut self.slots[at];
        slot.writes += 1;
        slot.last = last;
        self.work.wrote(&slot.key, write);
    }
}
