//! The queues of locks: how contenders join them, hold the lock, and leave.

use super::{
    Data,
    records::{Asked, Due, Held, Line, LockName, Turn, Waiter},
};
use crate::error;
use bytes::Bytes;
use kv_core::{Entry, HeldLock, Holder, Result, Version, WatchEvent, backend::Alive, driver::LockOptions};
use std::{collections::VecDeque, time::Duration};
use tokio::sync::oneshot;

impl Data {
    pub(crate) fn holder(&self, lock: &LockName) -> Option<Holder> {
        let Held { token, value, changes, .. } = &self.locks.get(lock)?.holder;
        Some(Holder::new(*token, value.clone()).with_changes(*changes))
    }

    /// Returns the locks that are held, of clients with this prefix.
    pub(crate) fn held<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = HeldLock> + 'a {
        let ours = self.locks.iter().filter(move |((of, _), _)| **of == *prefix);
        ours.map(|((_, name), Line { holder, waiting })| {
            let waiters = waiting.iter().filter(|waiter| !waiter.turn.is_closed()).count();
            let holder = Holder::new(holder.token, holder.value.clone()).with_changes(holder.changes);
            HeldLock::new(name.clone(), holder, Some(waiters as u64))
        })
    }

    /// Changes the value of the holder, if it is the one of this token; tells whether it is.
    pub(crate) fn set_holder(&mut self, lock: &LockName, token: u64, value: Bytes) -> bool {
        let line = self.locks.get_mut(lock).filter(|line| line.holder.token == token);
        let Some(Line { holder, .. }) = line else { return false };
        holder.value = value.clone();
        holder.changes += 1;
        let told = Holder::new(token, value).with_changes(holder.changes);
        self.publish_holder(lock, &WatchEvent::Put(told.entry(lock.1.clone())));
        true
    }

    pub(crate) fn is_held(&self, lock: &LockName, token: u64) -> bool {
        self.locks.get(lock).is_some_and(|line| line.holder.token == token)
    }

    /// Takes the lock, or a place in its queue.
    pub(crate) fn ask(
        &mut self,
        lock: &LockName,
        attempt: u64,
        ttl: Duration,
        options: &LockOptions,
    ) -> Asked {
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
        let holder = Held { attempt, token: turn.token, value, changes: 0, end: None };
        self.locks.insert(lock.clone(), Line { holder, waiting });
        self.schedule(turn.since + ttl, Due::Lock(lock.clone()));
        self.publish_holder(lock, &WatchEvent::Put(entry));
    }

    /// Ends the holder's time, and gives the lock to the first contender that still waits.
    fn hand_over(&mut self, lock: &LockName) {
        let Some(Line { holder, mut waiting }) = self.locks.remove(lock) else { return };
        self.cancel(&Due::Lock(lock.clone()));
        while let Some(Waiter { attempt, value, ttl, turn: theirs }) = waiting.pop_front() {
            let turn = Turn { token: self.count(), since: self.clock.now() };
            if theirs.send(turn).is_ok() {
                return self.hold(lock, turn, attempt, value, ttl, waiting);
            }
        }
        let (key, version) = (lock.1.clone(), Version::new(holder.token, holder.changes));
        self.publish_holder(lock, &WatchEvent::Delete { key, version });
    }

    /// Gives back what the attempt has: the lock, or its place in the queue; returns whether it
    /// was the lock.
    pub(crate) fn give_back(&mut self, lock: &LockName, attempt: u64) -> bool {
        let Some(line) = self.locks.get_mut(lock) else { return false };
        let held = line.holder.attempt == attempt;
        if held {
            self.hand_over(lock);
        } else {
            line.waiting.retain(|waiter| waiter.attempt != attempt);
        }
        held
    }

    pub(crate) fn renew_lock(&mut self, lock: &LockName, attempt: u64, ttl: Duration) -> Result<()> {
        self.locks.get(lock).filter(|line| line.holder.attempt == attempt).ok_or_else(error::lock_lost)?;
        self.schedule(self.clock.now() + ttl, Due::Lock(lock.clone()));
        Ok(())
    }

    /// Takes the lock away from its holder, and tells it; returns whether there was one.
    pub(crate) fn evict(&mut self, lock: &LockName, why: &str) -> bool {
        let Some(line) = self.locks.get(lock) else { return false };
        if let Some(end) = &line.holder.end {
            end(why);
        }
        self.hand_over(lock);
        true
    }

    /// Takes the lock away from the holder of this token, and tells it; returns whether it is the
    /// holder.
    pub(crate) fn break_lock(&mut self, lock: &LockName, token: u64) -> bool {
        self.is_held(lock, token) && self.evict(lock, "it was ended by its token")
    }

    /// Has the holder told when the lock is taken away; at once, if it has been already.
    pub(crate) fn tell_lock(&mut self, lock: &LockName, attempt: u64, alive: &Alive) {
        match self.locks.get_mut(lock).filter(|line| line.holder.attempt == attempt) {
            Some(line) => line.holder.end = Some(Box::new(alive.ending())),
            None => alive.end(error::lock_lost().message()),
        }
    }
}
