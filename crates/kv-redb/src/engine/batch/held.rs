//! Leases and locks within one transaction of the writer.

use super::{Asked, Batch, Done, Redb};
use crate::engine::{
    event::Event,
    format::{Inline, inline},
    queue::{Queue, Waiter},
    state::{Held, Leased},
    time::millis,
};
use kv_core::{Bytes, Version};
use redb::ReadableTable;
use std::{sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// Leases.
impl Batch<'_> {
    pub(crate) fn grant_lease(&mut self, lease: u64, ttl: Duration) -> Redb<()> {
        let ttl = millis(ttl);
        self.leases.insert(lease, ttl)?;
        let life = Leased { ttl, until: self.now.saturating_add(ttl) };
        let old = self.state.living().set_lease(lease, Some(life));
        self.trace.replaced.push(old);
        self.trace.changed = true;
        Ok(())
    }

    pub(crate) fn revoke(&mut self, lease: u64) -> Done<bool> {
        let lives = self.state.living().lives(lease, self.now);
        if lives {
            self.end_lease(lease)?;
        }
        Ok(Ok(lives))
    }

    /// Ends leases that are over, and clears away their keys, as far as this batch has room.
    pub(super) fn sweep_leases(&mut self) -> Redb<()> {
        while self.room > 0 {
            let (rest, ended) = {
                let living = self.state.living();
                (living.rest(), living.ended_lease(self.now))
            };
            match (rest, ended) {
                (Some(lease), _) => self.clear_lease(lease)?,
                (None, Some(lease)) => self.end_lease(lease)?,
                (None, None) => break,
            }
        }
        Ok(())
    }

    /// Ends a lease. Nobody sees its keys any more, also those that are still to be cleared away.
    fn end_lease(&mut self, lease: u64) -> Redb<()> {
        let old = self.state.living().ends(lease);
        self.trace.replaced.push(old);
        self.clear_lease(lease)
    }

    fn clear_lease(&mut self, lease: u64) -> Redb<()> {
        let mut names = Vec::new();
        for row in self.leased.range((lease, "")..(lease + 1, ""))?.take(self.room) {
            names.push(row?.0.value().1.to_owned());
        }
        for name in &names {
            if !self.remove(name)? {
                self.leased.remove((lease, &**name))?;
            }
        }
        // The lease's row stays until its last key is gone, for the process that opens the file
        // next.
        let is_left = names.len() == self.room;
        if !is_left {
            self.leases.remove(lease)?;
        }
        // The lease counts too.
        self.room = self.room.saturating_sub(names.len() + 1);
        let old = self.state.living().set_rest(lease, is_left);
        self.trace.replaced.push(old);
        self.trace.changed = true;
        Ok(())
    }
}

/// Returns the number under which a lock's value is kept that is not in its row.
fn large((token, _, value): (u64, u64, Inline<'_>)) -> Option<u64> {
    value.is_none().then_some(token)
}

/// Locks.
impl Batch<'_> {
    pub(crate) fn acquire(
        &mut self,
        name: &Arc<str>,
        id: u64,
        ttl: Duration,
        value: Bytes,
        wait: bool,
    ) -> Done<Asked> {
        let ttl = millis(ttl);
        self.settle(name)?;
        let is_free = {
            let mut living = self.state.living();
            let is_waited_for = living.queues.get_mut(name).is_some_and(Queue::is_waited_for);
            !is_waited_for && !living.holders.contains_key(name)
        };
        if is_free {
            return Ok(Ok(Asked::Granted(self.grant(name, id, ttl, value)?)));
        }
        if !wait {
            return Ok(Ok(Asked::Busy));
        }
        let (granted, turn) = oneshot::channel();
        let waiter = Waiter { id, ttl, value, granted };
        self.state.living().queues.entry(name.clone()).or_default().push(waiter);
        Ok(Ok(Asked::InLine(turn)))
    }

    fn grant(&mut self, name: &Arc<str>, id: u64, ttl: u64, value: Bytes) -> Redb<u64> {
        let token = self.state.next();
        self.keep_held(name, token, ttl, &value)?;
        self.changes.remove(&**name)?;
        let version = Version::new(token, 0);
        self.trace.events.push(Event::Held { name: name.clone(), value, version });
        let held = Held { id, token, ttl, until: self.now.saturating_add(ttl) };
        let old = self.state.living().hands_on(name, Some(held));
        self.trace.replaced.push(old);
        self.trace.changed = true;
        Ok(token)
    }

    /// Writes the row of a lock that is held, and its value.
    fn keep_held(&mut self, name: &str, token: u64, ttl: u64, value: &[u8]) -> Redb<()> {
        let old = self.locks.insert(name, (token, ttl, inline(value)))?.and_then(|row| large(row.value()));
        if let Some(old) = old {
            self.large.remove(old)?;
        }
        self.keep_large(token, value)
    }

    /// Changes the value of the holder, if it is the one of this token; tells whether it is.
    pub(crate) fn set_holder(&mut self, name: &Arc<str>, token: u64, value: Bytes) -> Done<bool> {
        let held = self.state.living().holder(name, self.now).filter(|held| held.token == token);
        let Some(held) = held else { return Ok(Ok(false)) };
        self.keep_held(name, token, held.ttl, &value)?;
        let changes = self.changes.get(&**name)?.map_or(0, |changes| changes.value()).saturating_add(1);
        self.changes.insert(&**name, changes)?;
        let version = Version::new(token, changes);
        self.trace.events.push(Event::Held { name: name.clone(), value, version });
        self.trace.changed = true;
        Ok(Ok(true))
    }

    /// Takes the lock from a holder whose time is over.
    fn settle(&mut self, name: &Arc<str>) -> Redb<()> {
        let over = {
            let living = self.state.living();
            living.holders.contains_key(name) && living.holder(name, self.now).is_none()
        };
        if over { self.hand_on(name) } else { Ok(()) }
    }

    /// Gives the lock to the first contender that still waits, or frees it.
    pub(super) fn hand_on(&mut self, name: &Arc<str>) -> Redb<()> {
        let next = {
            let mut living = self.state.living();
            let next = living.queues.get_mut(name).and_then(Queue::pop);
            if living.queues.get(name).is_some_and(Queue::is_empty) {
                living.queues.remove(name);
            }
            next
        };
        if let Some(Waiter { id, ttl, value, granted }) = next {
            let token = self.grant(name, id, ttl, value)?;
            self.trace.owed.push((granted, token));
            return Ok(());
        }
        let Some(held) = self.state.living().holders.get(name).copied() else { return Ok(()) };
        let changes = self.changes.remove(&**name)?.map_or(0, |changes| changes.value());
        let version = Version::new(held.token, changes);
        self.trace.events.push(Event::Freed { name: name.clone(), version });
        let old = self.locks.remove(&**name)?.and_then(|row| large(row.value()));
        if let Some(old) = old {
            self.large.remove(old)?;
        }
        let old = self.state.living().hands_on(name, None);
        self.trace.replaced.push(old);
        self.trace.changed = true;
        Ok(())
    }

    /// Gives back what the acquisition has: its place in the queue, or the lock; returns whether
    /// it was the lock.
    pub(crate) fn release(&mut self, name: &Arc<str>, id: u64) -> Done<bool> {
        self.settle(name)?;
        let held = self.state.living().holders.get(name).is_some_and(|held| held.id == id);
        if held {
            self.hand_on(name)?;
            return Ok(Ok(true));
        }
        let mut living = self.state.living();
        if let Some(queue) = living.queues.get_mut(name) {
            queue.leave(id);
            if queue.is_empty() {
                living.queues.remove(name);
            }
        }
        Ok(Ok(false))
    }

    /// Takes the lock from the holder of this token; tells whether it is the holder.
    pub(crate) fn break_lock(&mut self, name: &Arc<str>, token: u64) -> Done<bool> {
        let held = self.holds(name, token);
        if held {
            self.hand_on(name)?;
        }
        Ok(Ok(held))
    }

    pub(crate) fn holds(&self, name: &str, token: u64) -> bool {
        self.state.living().holder(name, self.now).is_some_and(|held| held.token == token)
    }
}
