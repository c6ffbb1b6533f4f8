//! One handle that contends for locks, in whichever process.

use super::{
    event::{Event, Unwritten, wall},
    had::{Had, Kind, Wanted, attempt_of},
};
use crate::torture::{
    chance::Chance,
    field::{Denials, Failed},
};
use kv_core::{ErrorKind, Fence, Kv};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};

/// The number of locks that are contended for.
pub(super) const LOCKS: usize = 3;
/// The number of tasks of one handle that contend.
const TASKS: usize = 2;
/// The time that `close` may take. Its deadline is far shorter; the machine may be busy.
pub(super) const CLOSE: Duration = Duration::from_secs(30);

/// Returns the name of a lock.
pub(super) fn name(lock: usize) -> String {
    format!("l{lock}")
}

/// The directory in which holders write.
pub(super) const RESOURCES: &str = "resource";

/// Returns the key that the holder of a lock writes.
pub(super) fn resource(lock: usize) -> String {
    format!("{RESOURCES}/l{lock}")
}

/// The function that takes a contender's events, each with the wall clock's time.
pub(super) type Tell = Arc<dyn Fn(u64, Event) + Send + Sync>;

/// A handle, and what it works with.
pub(super) struct Contender<'a> {
    /// The name of the client, which is in the names of its attempts.
    pub(super) client: String,
    pub(super) kv: Kv,
    pub(super) kind: Kind,
    pub(super) ttl: Duration,
    /// Tells whether writes can be fenced.
    pub(super) is_fenced: bool,
    /// The denials that it may meet.
    pub(super) denials: Denials,
    pub(super) tell: Tell,
    /// Tells whether it is to end.
    pub(super) is_over: &'a (dyn Fn() -> bool + Send + Sync),
    pub(super) attempts: AtomicU32,
}

impl Contender<'_> {
    /// Contends until it is to end, and then closes its handle.
    pub(super) async fn work(&self, chance: &mut Chance) {
        let kept = self.contend(chance).await;
        self.leave(kept).await;
    }

    /// Contends until it is to end; returns the guards that it kept, each with its attempt's name.
    pub(super) async fn contend(&self, chance: &mut Chance) -> Vec<(String, Had)> {
        let of_task = std::iter::repeat_with(|| Chance::new(chance.below(usize::MAX) as u64, "task"));
        let tasks: Vec<_> = of_task.take(TASKS).map(|chance| self.turns(chance)).collect();
        futures::future::join_all(tasks).await.into_iter().flatten().collect()
    }

    /// Closes the handle, which is to give these guards back.
    pub(super) async fn leave(&self, kept: Vec<(String, Had)>) {
        self.close().await;
        if kept.iter().any(|(_, guard)| guard.is_held()) {
            self.wrong("a guard says that it is held when the handle is closed");
        }
    }

    /// Releases these guards.
    pub(super) async fn give_back(&self, kept: Vec<(String, Had)>) {
        for (attempt, guard) in kept {
            self.release(&attempt, guard).await;
        }
    }

    /// Closes the handle.
    pub(super) async fn close(&self) {
        let began = wall();
        let closed = timeout(CLOSE, self.kv.close()).await;
        self.tell(Event::Closed { began, is_ok: closed.ok().map(|closed| closed.is_ok()) });
    }

    fn tell(&self, event: Event) {
        (self.tell)(wall(), event);
    }

    fn wrong(&self, what: impl Into<String>) {
        self.tell(Event::Wrong { what: what.into() });
    }

    /// Takes turns until it is to end; returns the guard that is kept beyond it, if there is one.
    async fn turns(&self, mut chance: Chance) -> Option<(String, Had)> {
        while !(self.is_over)() {
            let kept = self.turn(&mut chance).await;
            if kept.is_some() {
                return kept;
            }
            sleep(chance.millis(0, 40)).await;
        }
        None
    }

    async fn turn(&self, chance: &mut Chance) -> Option<(String, Had)> {
        let lock = chance.below(LOCKS);
        let (attempt, wanted) = self.asks(lock);
        let got = match chance.below(6) {
            0 => wanted.try_acquire().await.map(|got| (got, true)),
            // The wait is given up wherever it stands, or after so long that outages have begun
            // and ended meanwhile.
            n @ 1..3 => {
                let patience = if n == 1 { chance.millis(0, 300) } else { chance.millis(2000, 6000) };
                match timeout(patience, wanted.acquire()).await {
                    Ok(got) => got.inspect_err(|e| self.ended(e)).map(|guard| (Some(guard), true)),
                    Err(_) => Ok((None, false)),
                }
            }
            _ => wanted.acquire_within(chance.millis(200, 3000)).await.map(|got| (got, true)),
        };
        match got {
            Ok((Some(guard), _)) => {
                self.tell(Event::Granted { attempt: attempt.clone(), token: guard.token() });
                self.hold(lock, &attempt, guard, chance).await.map(|guard| (attempt, guard))
            }
            Ok((None, is_answer)) => {
                self.tell(Event::Missed { attempt, is_answer });
                None
            }
            Err(e) => {
                // A lock whose acquisition took longer than its TTL is lost before it is given.
                if matches!(Failed::of(&e, self.denials), Failed::Absurd) && e.kind() != ErrorKind::LockLost {
                    self.wrong(e.to_string());
                }
                self.tell(Event::Missed { attempt, is_answer: false });
                None
            }
        }
    }

    /// Checks what ended a wait that has no end of its own: only lasting errors may.
    pub(super) fn ended(&self, e: &kv_core::Error) {
        if !e.is_lasting() {
            self.wrong(format!("a wait for a lock was ended by what passes: {e}"));
        }
    }

    /// Tells that it asks for a lock; returns the attempt's name, and the lock to be acquired.
    pub(super) fn asks(&self, lock: usize) -> (String, Wanted) {
        let attempt = format!("{}/{}", self.client, self.attempts.fetch_add(1, Ordering::Relaxed));
        self.tell(Event::Asks { attempt: attempt.clone(), lock });
        let wanted = Wanted::new(self.kind, &self.kv, name(lock), self.ttl, &attempt);
        (attempt, wanted)
    }

    /// Holds the lock for a while, writes, and gives it back in one of the ways that there are.
    /// Returns the guard if it is kept when the contender is to end.
    async fn hold(&self, lock: usize, attempt: &str, guard: Had, chance: &mut Chance) -> Option<Had> {
        let ttl = u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX / 2);
        let time = if chance.one_in(10) { chance.millis(ttl, 2 * ttl) } else { chance.millis(0, 200) };
        let until = Instant::now() + time;
        // A contender that has lost the lock writes all the same, some times.
        let mut late = chance.below(4);
        while Instant::now() < until || late > 0 && !guard.is_held() {
            let is_held = self.asks_guard(attempt, &guard);
            if !is_held {
                if late == 0 || !self.is_fenced {
                    break;
                }
                late -= 1;
            }
            if self.is_fenced && (!is_held || chance.one_in(3)) {
                self.write(lock, attempt, &guard).await;
            }
            if chance.one_in(6) {
                self.read(lock).await;
            }
            if (self.is_over)() {
                return chance.one_in(2).then_some(guard);
            }
            sleep(if is_held { chance.millis(5, 40) } else { chance.millis(50, 500) }).await;
        }
        match chance.below(4) {
            0 => drop(guard),
            _ => {
                let fence = guard.fence().clone();
                if self.release(attempt, guard).await && self.is_fenced && chance.one_in(2) {
                    self.write(lock, attempt, fence).await;
                }
            }
        }
        None
    }

    /// Asks the guard whether it is held, and tells so.
    pub(super) fn asks_guard(&self, attempt: &str, guard: &Had) -> bool {
        let (at, is_held) = (wall(), guard.is_held());
        if is_held {
            (self.tell)(at, Event::Held { attempt: attempt.into(), by: "is_held".into() });
        }
        is_held
    }

    /// Releases the lock, and tells whether it was still held: then it was held at the beginning
    /// of the call, or later, and is not after the answer. A lock that was lost before may be held
    /// on the server until its TTL is over.
    pub(super) async fn release(&self, attempt: &str, guard: Had) -> bool {
        let (at, began, left) = (wall(), Instant::now(), guard.remaining());
        let answer = guard.release().await;
        if matches!(answer, Ok(false)) && began.elapsed() < left {
            self.wrong(format!("the release of {attempt} says that it was lost, with {left:?} left"));
        }
        let was_held = matches!(answer, Ok(true));
        if was_held {
            (self.tell)(at, Event::Held { attempt: attempt.into(), by: "release".into() });
            self.tell(Event::Released { attempt: attempt.into() });
        }
        was_held
    }

    /// Puts the token of a lock, if the lock is still held.
    pub(super) async fn write(&self, lock: usize, attempt: &str, fence: impl AsRef<Fence>) {
        let (began, attempt, fence) = (wall(), attempt.to_owned(), fence.as_ref());
        match self.kv.put(resource(lock), fence.token().to_string()).fenced(fence).await {
            Ok(written) => self.tell(Event::Wrote { attempt, began, version: written.version }),
            Err(e) => {
                let how = match Failed::of(&e, self.denials) {
                    _ if e.kind() == ErrorKind::LockLost => Unwritten::Refused,
                    Failed::Unknown => Unwritten::Unknown,
                    Failed::Nothing => Unwritten::Failed,
                    Failed::Absurd => {
                        self.wrong(e.to_string());
                        Unwritten::Failed
                    }
                };
                self.tell(Event::Unwritten { attempt, began, how });
            }
        }
    }

    /// Reads what the last holder wrote.
    pub(super) async fn read(&self, lock: usize) {
        let began = wall();
        match self.kv.get(resource(lock)).await {
            Ok(None) => {}
            Ok(Some(entry)) => match entry.text().and_then(|text| text.parse().ok()) {
                Some(token) => self.tell(Event::Found { lock, began, version: entry.version, token }),
                None => {
                    self.wrong(format!("{:?}, which nobody wrote, was read from {}", entry.value, entry.key))
                }
            },
            Err(e) => self.unread(&e),
        }
    }

    /// Reads who holds the lock; returns whether somebody does, or `None` without an answer.
    pub(super) async fn look(&self, lock: usize) -> Option<bool> {
        let began = wall();
        match self.kv.lock_holder(name(lock)).await {
            Ok(holder) => {
                let is_held = holder.is_some();
                let holder = holder.map(|h| (h.token, attempt_of(&h.value)));
                self.tell(Event::Holder { lock, began, holder });
                Some(is_held)
            }
            Err(e) => {
                self.unread(&e);
                None
            }
        }
    }

    fn unread(&self, e: &kv_core::Error) {
        if matches!(Failed::of(e, self.denials), Failed::Absurd) {
            self.wrong(e.to_string());
        }
        self.tell(Event::Unread);
    }
}
