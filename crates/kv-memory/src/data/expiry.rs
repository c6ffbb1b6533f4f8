//! The ends of keys, leases and locks, and the tasks that remove what is due.

use super::{Data, records::Due};
use kv_core::backend::Instant;
use tokio::runtime::Handle;

impl Data {
    /// Sets the moment at which this ends, in place of the one before.
    pub(crate) fn schedule(&mut self, at: Instant, due: Due) {
        if self.expiries.set(due, at) {
            self.tell_sweepers();
        }
        self.sweep();
    }

    pub(crate) fn cancel(&mut self, due: &Due) {
        if self.expiries.remove(due) {
            self.tell_sweepers();
        }
    }

    fn tell_sweepers(&self) {
        self.next_due.send_replace(self.expiries.first().map(|(at, _)| at));
    }

    pub(super) fn purge(&mut self) {
        // In most stores nothing ends, and every call comes this way.
        if !self.expiries.is_empty() {
            self.end_passed();
        }
    }

    fn end_passed(&mut self) {
        let now = self.clock.now();
        if self.expiries.first().is_none_or(|(at, _)| at > now) {
            return;
        }
        while let Some(due) = self.expiries.take(1, |at| at <= now).pop() {
            match due {
                Due::Key(name) => drop(self.remove(&name)),
                Due::Lease(id) => drop(self.evict_lease(id, "its TTL passed without a renewal")),
                Due::Lock(lock) => drop(self.evict(&lock, "its TTL passed without a renewal")),
            }
        }
        self.tell_sweepers();
    }

    /// Starts a task on this runtime, unless one runs there, that removes in time what is due, so
    /// that those who wait on this runtime see it. A task on another runtime could end with that
    /// runtime.
    pub(crate) fn sweep(&mut self) {
        let Ok(runtime) = Handle::try_current() else { return };
        let id = runtime.id();
        if self.sweepers.iter().any(|(of, sweeper)| *of == id && !sweeper.is_finished()) {
            return;
        }
        self.sweepers.retain(|(_, sweeper)| !sweeper.is_finished());
        let (shared, mut next) = (self.me.clone(), self.next_due.subscribe());
        let clock = self.clock.clone();
        let sweeper = runtime.spawn(async move {
            loop {
                let due = *next.borrow_and_update();
                let due = async {
                    match due {
                        Some(at) => clock.sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    changed = next.changed() => match changed {
                        Ok(()) => {}
                        Err(_) => return, // the store is gone
                    },
                    () = due => match shared.upgrade() {
                        Some(shared) => drop(shared.look()),
                        None => return,
                    },
                }
            }
        });
        self.sweepers.push((id, sweeper.abort_handle()));
    }
}
