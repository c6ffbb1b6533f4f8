//! Leases and locks within one transaction of the writer.

use super::{Asked, Batch, Done, Redb};
use crate::{
    engine::{
        event::Event,
        format::{Inline, inline},
        state::{Held, Leased, Waiter},
        time::millis,
    },
    names,
};
use kv_core::{Bytes, Directory, HeldLock, Holder, Version, driver::LockPage};
use redb::ReadableTable;
use std::{ops::Bound, sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// The most locks of one page of a listing.
const LISTED: usize = 256;
/// A page takes no further lock when its values are this many bytes already.
const BYTES: usize = 1 << 20;

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
        let waited_for = self.state.queues.get_mut(name).is_some_and(|queue| {
            queue.retain(|waiter| !waiter.granted.is_closed());
            !queue.is_empty()
        });
        if !waited_for && !self.state.living().holders.contains_key(name) {
            return Ok(Ok(Asked::Granted(self.grant(name, id, ttl, value)?)));
        }
        if !wait {
            return Ok(Ok(Asked::Busy));
        }
        let (granted, turn) = oneshot::channel();
        self.state.queues.entry(name.clone()).or_default().push_back(Waiter { id, ttl, value, granted });
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
        let next = self.state.queues.get_mut(name).and_then(|queue| {
            std::iter::from_fn(|| queue.pop_front()).find(|waiter| !waiter.granted.is_closed())
        });
        if self.state.queues.get(name).is_some_and(|queue| queue.is_empty()) {
            self.state.queues.remove(name);
        }
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
        } else if let Some(queue) = self.state.queues.get_mut(name) {
            queue.retain(|waiter| waiter.id != id);
            if queue.is_empty() {
                self.state.queues.remove(name);
            }
        }
        Ok(Ok(held))
    }

    /// Takes the lock from the holder of this token; tells whether it is the holder.
    pub(crate) fn break_lock(&mut self, name: &Arc<str>, token: u64) -> Done<bool> {
        let held = self.holds(name, token);
        if held {
            self.hand_on(name)?;
        }
        Ok(Ok(held))
    }

    /// Returns a page of the locks that are held below a directory, of the store of this prefix:
    /// those whose names come behind this one.
    pub(crate) fn held(&self, prefix: &str, directory: &Directory, behind: Option<&str>) -> Done<LockPage> {
        let (base, mut page, mut bytes) = (directory.start(), LockPage::default(), 0);
        let from = behind.map_or(Bound::Included(&*base), Bound::Excluded);
        for row in self.locks.range::<&str>((from, Bound::Unbounded))? {
            let (name, row) = row?;
            let (name, (token, _, value)) = (name.value(), row.value());
            if !name.starts_with(&base) {
                break;
            }
            let lock = names::lock_key(prefix, name).filter(|lock| lock.is_below(directory));
            let Some(lock) = lock.filter(|_| self.holds(name, token)) else { continue };
            if page.locks.len() >= LISTED || bytes >= BYTES {
                page.next = page.locks.last().map(|last| LockPage::behind(&last.name));
                break;
            }
            let value = match value {
                Some(value) => Bytes::copy_from_slice(value),
                None => match self.large.get(token)? {
                    Some(value) => Bytes::copy_from_slice(value.value()),
                    None => return Err(redb::Error::Corrupted(format!("no value of version {token}"))),
                },
            };
            bytes += value.len();
            let changes = self.changes.get(name)?.map_or(0, |changes| changes.value());
            let queue = self.state.queues.get(name).into_iter().flatten();
            let waiters = queue.filter(|waiter| !waiter.granted.is_closed()).count();
            let holder = Holder::new(token, value).with_changes(changes);
            page.locks.push(HeldLock::new(lock, holder, Some(waiters as u64)));
        }
        Ok(Ok(page))
    }

    pub(crate) fn holds(&self, name: &str, token: u64) -> bool {
        self.state.living().holder(name, self.now).is_some_and(|held| held.token == token)
    }
}
