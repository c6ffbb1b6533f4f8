//! What ends at a moment, and who sees to it.

use super::{Data, Due};
use kv_core::backend::Instant;
use tokio::runtime::Handle;

impl Data {
    pub(crate) fn schedule(&mut self, at: Instant, due: Due) {
        self.due.insert((at, due));
        self.sweep();
        self.tell_sweepers();
    }

    pub(crate) fn cancel(&mut self, at: Instant, due: Due) {
        self.due.remove(&(at, due));
        self.tell_sweepers();
    }

    fn tell_sweepers(&self) {
        let first = self.due.first().map(|(at, _)| *at);
        self.next_due.send_if_modified(|next| std::mem::replace(next, first) != first);
    }

    pub(super) fn purge(&mut self) {
        if self.due.is_empty() {
            return;
        }
        let now = self.clock.now();
        while self.due.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, due)) = self.due.pop_first()
        {
            match due {
                Due::Key(name) => drop(self.remove(&name)),
                Due::Lease(id) => drop(self.evict_lease(id, "its TTL passed without a renewal")),
                Due::Lock(lock) => drop(self.evict(&lock, "its TTL passed without a renewal")),
            }
        }
        self.tell_sweepers();
    }

    /// Sees to it that what is due is removed in time while someone of this runtime waits for it: another's could end.
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
