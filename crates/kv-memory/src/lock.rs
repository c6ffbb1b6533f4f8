//! Locks: a line for each name.

use crate::{
    Memory,
    data::{Data, Due, LockName},
    faults::Does,
};
use bytes::Bytes;
use kv_core::{
    Acquired, Deadline, Entry, Error, ErrorKind, Fence, Holder, Key, LockOptions, Result, Version,
    WatchEvent,
    backend::{Alive, Instant},
};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// Who holds a lock, and who waits for it. There is none for a lock that is free.
pub(crate) struct Line {
    holder: Held,
    waiting: VecDeque<Waiter>,
}

pub(crate) type End = Box<dyn Fn(&str) + Send>;

struct Held {
    attempt: u64,
    token: u64,
    value: Bytes,
    /// Ends the holder's life early.
    end: Option<End>,
}

struct Waiter {
    attempt: u64,
    value: Bytes,
    ttl: Duration,
    turn: oneshot::Sender<Turn>,
}

/// What a holder begins with.
#[derive(Clone, Copy)]
struct Turn {
    token: u64,
    since: Instant,
}

impl Line {
    /// How many are in line.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::LockLost, "its TTL passed without a renewal, or it was taken away")
}

/// How an acquisition begins.
enum Asked {
    Got(Turn),
    InLine(oneshot::Receiver<Turn>),
    Refused,
}

impl Data {
    pub(crate) fn holder(&self, lock: &LockName) -> Option<Holder> {
        self.locks.get(lock).map(|line| Holder::new(line.holder.token, line.holder.value.clone()))
    }

    pub(crate) fn is_held(&self, lock: &LockName, token: u64) -> bool {
        self.locks.get(lock).is_some_and(|line| line.holder.token == token)
    }

    fn ask(&mut self, lock: &LockName, attempt: u64, ttl: Duration, options: &LockOptions) -> Asked {
        let value = options.value.clone();
        let Some(line) = self.locks.get_mut(lock) else {
            let turn = Turn { token: self.count(), since: self.clock.now() };
            self.hold(lock, turn, attempt, value, ttl, VecDeque::new());
            return Asked::Got(turn);
        };
        if !options.wait {
            return Asked::Refused;
        }
        let (turn, mine) = oneshot::channel();
        line.waiting.push_back(Waiter { attempt, value, ttl, turn });
        self.sweep();
        Asked::InLine(mine)
    }

    fn hold(
        &mut self,
        lock: &LockName,
        turn: Turn,
        attempt: u64,
        value: Bytes,
        ttl: Duration,
        waiting: VecDeque<Waiter>,
    ) {
        let entry = Entry::new(lock.1.clone(), value.clone(), Version::new(turn.token, 0));
        let holder = Held { attempt, token: turn.token, value, end: None };
        self.locks.insert(lock.clone(), Line { holder, waiting });
        self.schedule(turn.since + ttl, Due::Lock(lock.clone()));
        self.publish_holder(lock, &WatchEvent::Put(entry));
    }

    /// The holder's time is over: the first of those who still wait gets it.
    fn hand_over(&mut self, lock: &LockName) {
        let Some(Line { holder, mut waiting }) = self.locks.remove(lock) else { return };
        self.cancel(&Due::Lock(lock.clone()));
        while let Some(Waiter { attempt, value, ttl, turn: theirs }) = waiting.pop_front() {
            let turn = Turn { token: self.count(), since: self.clock.now() };
            if theirs.send(turn).is_ok() {
                return self.hold(lock, turn, attempt, value, ttl, waiting);
            }
        }
        let (key, version) = (lock.1.clone(), Version::new(holder.token, 0));
        self.publish_holder(lock, &WatchEvent::Delete { key, version });
    }

    /// Gives back what the attempt has: the lock, or its place in line; whether it was the lock.
    fn give_back(&mut self, lock: &LockName, attempt: u64) -> bool {
        let Some(line) = self.locks.get_mut(lock) else { return false };
        let held = line.holder.attempt == attempt;
        if held {
            self.hand_over(lock);
        } else {
            line.waiting.retain(|waiter| waiter.attempt != attempt);
        }
        held
    }

    fn renew_lock(&mut self, lock: &LockName, attempt: u64, ttl: Duration) -> Result<()> {
        self.locks.get(lock).filter(|line| line.holder.attempt == attempt).ok_or_else(lost)?;
        self.schedule(self.clock.now() + ttl, Due::Lock(lock.clone()));
        Ok(())
    }

    /// Takes the lock away from its holder, who is told; whether there was one.
    pub(crate) fn evict(&mut self, lock: &LockName, why: &str) -> bool {
        let Some(line) = self.locks.get(lock) else { return false };
        if let Some(end) = &line.holder.end {
            end(why);
        }
        self.hand_over(lock);
        true
    }

    /// Has the holder told when the lock is taken away; it may have been already.
    fn tell(&mut self, lock: &LockName, attempt: u64, alive: &Alive) {
        match self.locks.get_mut(lock).filter(|line| line.holder.attempt == attempt) {
            Some(line) => line.holder.end = Some(Box::new(alive.ending())),
            None => alive.end(lost().message()),
        }
    }
}

impl Memory {
    pub(crate) fn lock_name(&self, name: &Key) -> LockName {
        (self.0.prefix.clone(), name.clone())
    }

    /// The lock, for this TTL, which the store grants.
    pub(crate) async fn acquire(
        &self,
        name: &Key,
        ttl: Duration,
        options: &LockOptions,
    ) -> Result<Option<Acquired>> {
        let (lock, attempt) = (self.lock_name(name), self.look().count());
        let release = {
            let (memory, lock, each) = (self.clone(), lock.clone(), options.each_request);
            self.0.tasks.undo(async move {
                memory.trouble().resumed_by(Does::Write, Deadline::after(each)).await?;
                Ok(memory.look().give_back(&lock, attempt))
            })
        };
        let turn = loop {
            let asked = self.look().ask(&lock, attempt, ttl, options);
            match asked {
                Asked::Got(turn) => break turn,
                Asked::InLine(mine) => {
                    let turn = mine.await;
                    // It is heard of when nothing is frozen, and may be over then: the place in line is taken anew.
                    self.trouble().resumed().await;
                    match turn {
                        Ok(turn) if self.look().is_held(&lock, turn.token) => break turn,
                        _ => {}
                    }
                }
                Asked::Refused => {
                    release.forget();
                    return Ok(None);
                }
            }
        };
        let (clock, shared, of) = (self.clock(), Arc::downgrade(&self.0.shared), lock.clone());
        let trouble = self.trouble().clone();
        let alive = Alive::keep(&clock, ttl, turn.since, move || {
            let (shared, of, resumed) = (shared.clone(), of.clone(), trouble.resumed());
            async move {
                resumed.await;
                shared.upgrade().ok_or_else(lost)?.look().renew_lock(&of, attempt, ttl)
            }
        });
        self.look().tell(&lock, attempt, &alive);
        Ok(Some(Acquired { fence: Fence::new(name.clone(), turn.token, Bytes::new()), alive, release }))
    }
}
