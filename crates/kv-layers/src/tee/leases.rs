//! The other store's leases, which live as long as the own ones.

use super::copier::{Copier, Job, Mine};
use kv_core::{
    Error, ErrorKind, Key, LeaseId, Result, Version,
    backend::{AbortOnDrop, Backoff, Mutex},
    driver::{Deadline, LeaseOptions, Leased},
};
use std::{
    collections::{HashMap, HashSet},
    future::Future,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// The first and the greatest ceiling of the pauses between attempts to have a lease granted.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// The reason of a lease's loss, when it comes.
type Loss = Pin<Box<dyn Future<Output = Error> + Send>>;

/// The leases of the other store, by the names of the own ones, until they are revoked.
#[derive(Default)]
pub(super) struct Leases(Mutex<Held>);

#[derive(Default)]
struct Held {
    leases: HashMap<LeaseId, Own>,
    /// The keys that were put under them, each with its lease and its version in the own store.
    keys: HashMap<Key, (LeaseId, Version)>,
}

/// An own lease.
struct Own {
    /// The other store's; `None` while it has granted none.
    theirs: Option<Arc<Theirs>>,
    keys: HashSet<Key>,
    _keeper: AbortOnDrop,
}

struct Theirs {
    leased: Leased,
    /// The own lease is revoked, and this one is to follow.
    is_over: AtomicBool,
}

impl Theirs {
    fn new(leased: Leased) -> Arc<Self> {
        Arc::new(Self { leased, is_over: AtomicBool::new(false) })
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }
}

impl Held {
    fn forget(&mut self, key: &Key) {
        if let Some((lease, _)) = self.keys.remove(key)
            && let Some(own) = self.leases.get_mut(&lease)
        {
            own.keys.remove(key);
        }
    }
}

impl Leases {
    /// Returns the other store's name of a lease.
    ///
    /// # Errors
    /// [`LeaseLost`](ErrorKind::LeaseLost) for a lease that the other store has not.
    pub(super) fn name(&self, own: &LeaseId) -> Result<LeaseId> {
        let held = self.0.lock();
        let theirs = held.leases.get(own).and_then(|own| own.theirs.as_ref());
        let name = theirs.map(|theirs| theirs.leased.id.clone());
        name.ok_or_else(|| Error::new(ErrorKind::LeaseLost, "the other store has not granted this lease"))
    }

    /// Notes under which lease the own store has a key, in this version.
    pub(super) fn note(&self, key: &Key, version: Version, lease: Option<&LeaseId>) {
        let mut held = self.0.lock();
        // Of two copies of one key the older one may come here last.
        if held.keys.get(key).is_some_and(|(_, noted)| *noted > version) {
            return;
        }
        held.forget(key);
        if let Some(lease) = lease
            && let Some(own) = held.leases.get_mut(lease)
        {
            own.keys.insert(key.clone());
            held.keys.insert(key.clone(), (lease.clone(), version));
        }
    }

    /// Returns the version of a key that is noted.
    pub(super) fn noted(&self, key: &Key) -> Option<Version> {
        self.0.lock().keys.get(key).map(|(_, version)| *version)
    }

    /// Forgets a key that is deleted, as was seen when this version of it was noted.
    pub(super) fn gone(&self, key: &Key, noted: Option<Version>) {
        let mut held = self.0.lock();
        if held.keys.get(key).map(|(_, version)| *version) == noted {
            held.forget(key);
        }
    }

    /// Returns the writes that put the keys under this lease.
    fn writes(&self, own: &LeaseId) -> Vec<Mine> {
        let held = self.0.lock();
        let keys = held.leases.get(own).into_iter().flat_map(|own| &own.keys);
        keys.filter_map(|key| Some(Mine::under(key, own, held.keys.get(key)?.1))).collect()
    }

    /// Tells whether the other store's lease is to live, whether it was granted or not.
    fn is_wanted(&self, own: &LeaseId) -> bool {
        let held = self.0.lock();
        held.leases.get(own).is_some_and(|own| own.theirs.as_ref().is_none_or(|theirs| !theirs.is_over()))
    }

    fn set(&self, own: &LeaseId, theirs: Leased) {
        let mut held = self.0.lock();
        let before = held.leases.get_mut(own).and_then(|own| own.theirs.replace(Theirs::new(theirs)));
        drop(held);
        drop(before);
    }

    fn end(&self, own: &LeaseId) {
        let mut held = self.0.lock();
        let ended = held.leases.remove(own);
        for key in ended.iter().flat_map(|own| &own.keys) {
            held.keys.remove(key);
        }
        // What is dropped with it may come here again.
        drop(held);
        drop(ended);
    }
}

impl Copier {
    /// Grants a lease of both stores. It is the own one that counts.
    pub(super) async fn grant(self: &Arc<Self>, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        self.revoke_left();
        let Leased { id, ttl, alive, revoke: ours } = self.from.as_ref().lease(ttl, options).await?;
        // An other store that is away holds nobody up.
        let patience = Deadline::after(options.deadline.remaining().min(self.patience));
        let theirs = self.grant_there(ttl, &options.clone().deadline(patience)).await;
        let theirs = theirs.map_err(|e| self.note(id.as_str(), Err(e))).ok();
        let keeper = Keeper { copier: Arc::downgrade(self), own: id.clone(), ttl };
        let lost = theirs.as_ref().map(|leased| -> Loss { Box::pin(leased.alive.lost()) });
        let own_lost = Box::pin(alive.lost());
        let before = {
            // The keeper looks here whether the lease is wanted, and so does not begin before.
            let mut held = self.leases.0.lock();
            let keeper = tokio::spawn(keeper.run(own_lost, lost));
            let _keeper = AbortOnDrop::new(keeper.abort_handle());
            let own = Own { theirs: theirs.map(Theirs::new), keys: HashSet::new(), _keeper };
            held.leases.insert(id.clone(), own)
        };
        drop(before);
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

    /// Grants a lease of the other store, as long as that store's TTLs allow for this one.
    async fn grant_there(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        let to = self.to.as_ref();
        to.lease(to.capabilities().lease_ttl(ttl)?, options).await
    }

    /// Has the other store's lease revoked in the background, for as long as that takes.
    fn revoke(self: &Arc<Self>, own: &LeaseId) {
        let theirs = match self.leases.0.lock().leases.get(own) {
            Some(own) => own.theirs.clone(),
            None => return,
        };
        let Some(theirs) = theirs else { return self.leases.end(own) };
        let was_over = theirs.is_over.swap(true, Ordering::AcqRel);
        // Whoever revokes it now has a reference to it.
        if was_over && Arc::strong_count(&theirs) > 2 {
            return;
        }
        let (copier, own) = (self.clone(), own.clone());
        self.tasks.spawn(async move {
            copier.note(own.as_str(), theirs.leased.revoke.run_within().await.map(drop));
            copier.leases.end(&own);
            Ok(())
        });
    }

    /// Revokes what is left of the other store's leases because a runtime ended.
    fn revoke_left(self: &Arc<Self>) {
        // Whoever revokes one now has a reference to it.
        self.revoke_those(|own| {
            own.theirs.as_ref().is_some_and(|theirs| theirs.is_over() && Arc::strong_count(theirs) == 1)
        });
    }

    /// Revokes all leases of the other store.
    pub(super) fn revoke_all(self: &Arc<Self>) {
        self.revoke_those(|_| true);
    }

    fn revoke_those(self: &Arc<Self>, which: impl Fn(&Own) -> bool) {
        let held = self.leases.0.lock();
        let leases = held.leases.iter();
        let those: Vec<_> = leases.filter(|(_, own)| which(own)).map(|(own, _)| own.clone()).collect();
        drop(held);
        those.iter().for_each(|own| self.revoke(own));
    }
}

/// Keeps a lease of the other store as long as the own one lives.
struct Keeper {
    copier: Weak<Copier>,
    own: LeaseId,
    ttl: Duration,
}

impl Keeper {
    /// Has another lease granted, and the keys copied again, whenever the other store has lost one
    /// or granted none; revokes it when the own one is over.
    async fn run(self, mut ours: Loss, mut theirs: Option<Loss>) {
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        loop {
            tokio::select! {
                biased;
                _ = &mut ours => break,
                () = self.until_missing(&mut theirs, &mut backoff) => {}
            }
            tokio::select! {
                biased;
                _ = &mut ours => break,
                granted = self.grant() => match granted {
                    Ok(lost) => theirs = lost,
                    Err(()) => return,
                },
            }
        }
        if let Some(copier) = self.copier.upgrade() {
            copier.revoke(&self.own);
        }
    }

    /// Waits until the other store has lost the lease, and tells it; where it has granted none,
    /// waits for a while.
    async fn until_missing(&self, theirs: &mut Option<Loss>, backoff: &mut Backoff) {
        let Some(lost) = theirs else { return backoff.pause().await };
        let why = lost.await.with_kind(ErrorKind::LeaseLost);
        *theirs = None;
        backoff.reset();
        match self.copier.upgrade() {
            Some(copier) if copier.leases.is_wanted(&self.own) => copier.note(self.own.as_str(), Err(why)),
            _ => {}
        }
    }

    /// Has the lease granted anew, and the keys copied, and returns what waits for its loss; `None`
    /// when it is to be tried again, an error when nobody wants it any more.
    async fn grant(&self) -> Result<Option<Loss>, ()> {
        let copier = self.copier.upgrade().filter(|copier| copier.leases.is_wanted(&self.own)).ok_or(())?;
        let leased = match copier.grant_there(self.ttl, &LeaseOptions::default()).await {
            Ok(leased) => leased,
            Err(e) => {
                copier.outage.lock().failed(&e);
                return Ok(None);
            }
        };
        if !copier.leases.is_wanted(&self.own) {
            return Err(());
        }
        let lost: Loss = Box::pin(leased.alive.lost());
        copier.leases.set(&self.own, leased);
        drop(copier.begin(Job::of(copier.leases.writes(&self.own))));
        Ok(Some(lost))
    }
}
