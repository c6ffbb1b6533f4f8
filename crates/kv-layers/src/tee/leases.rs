//! The other store's leases, which live as long as the own ones.

use super::copier::Copier;
use kv_core::{
    Error, ErrorKind, LeaseId, Result,
    backend::Mutex,
    driver::{Deadline, LeaseOptions, Leased},
};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// The leases of the other store, by the names of the own ones, until they are revoked.
#[derive(Default)]
pub(super) struct Leases(Mutex<HashMap<LeaseId, Arc<Theirs>>>);

struct Theirs {
    leased: Leased,
    /// The own lease is revoked, and this one is to follow.
    is_over: AtomicBool,
}

impl Leases {
    /// Returns the other store's name of a lease.
    ///
    /// # Errors
    /// [`LeaseLost`](ErrorKind::LeaseLost) for a lease that the other store has not.
    pub(super) fn name(&self, own: &LeaseId) -> Result<LeaseId> {
        let theirs = self.0.lock().get(own).map(|theirs| theirs.leased.id.clone());
        theirs.ok_or_else(|| Error::new(ErrorKind::LeaseLost, "the other store has not granted this lease"))
    }
}

impl Copier {
    /// Grants a lease of both stores. It is the own one that counts.
    pub(super) async fn grant(self: &Arc<Self>, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        self.revoke_left();
        let Leased { id, ttl, alive, revoke: ours } = self.from.as_ref().lease(ttl, options).await?;
        // An other store that is away holds nobody up.
        let patience = Deadline::after(options.deadline.remaining().min(self.patience));
        match self.to.as_ref().lease(ttl, &options.clone().deadline(patience)).await {
            Ok(leased) => {
                let theirs = Theirs { leased, is_over: AtomicBool::new(false) };
                self.leases.0.lock().insert(id.clone(), Arc::new(theirs));
            }
            Err(e) => {
                // What is put under the lease is not copied then, and each of it is told.
                self.note(id.as_str(), Err(e));
                return Ok(Leased { id, ttl, alive, revoke: ours });
            }
        }
        let (copier, own, ours) = (self.clone(), id.clone(), Arc::new(ours));
        // The end of a runtime may cut it off, also between the two.
        let revoke = self.tasks.undo_repeatable(move || {
            let (copier, own, ours) = (copier.clone(), own.clone(), ours.clone());
            async move {
                let revoked = ours.run_within().await;
                copier.revoke(&own);
                revoked
            }
        });
        Ok(Leased { id, ttl, alive, revoke })
    }

    /// Has the other store's lease revoked in the background, for as long as that takes.
    fn revoke(self: &Arc<Self>, own: &LeaseId) {
        let Some(theirs) = self.leases.0.lock().get(own).cloned() else { return };
        theirs.is_over.store(true, Ordering::Release);
        let (copier, own) = (self.clone(), own.clone());
        self.tasks.spawn(async move {
            copier.note(own.as_str(), theirs.leased.revoke.run_within().await.map(drop));
            copier.leases.0.lock().remove(&own);
            Ok(())
        });
    }

    /// Revokes what is left of the other store's leases because a runtime ended.
    fn revoke_left(self: &Arc<Self>) {
        // Whoever revokes one now has a reference to it.
        self.revoke_those(|theirs| theirs.is_over.load(Ordering::Acquire) && Arc::strong_count(theirs) == 1);
    }

    /// Revokes all leases of the other store.
    pub(super) fn revoke_all(self: &Arc<Self>) {
        self.revoke_those(|_| true);
    }

    fn revoke_those(self: &Arc<Self>, which: impl Fn(&Arc<Theirs>) -> bool) {
        let leases = self.leases.0.lock();
        let those: Vec<_> =
            leases.iter().filter(|(_, theirs)| which(theirs)).map(|(own, _)| own.clone()).collect();
        drop(leases);
        those.iter().for_each(|own| self.revoke(own));
    }
}
