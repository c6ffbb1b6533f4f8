//! The state that this side keeps of an attempt to hold a lock.

use crate::{
    client::{
        clock::Millis,
        item::{Found, OWNER},
        unique_id,
    },
    core::Core,
    error::damaged,
    lease::keep::life,
};
use kv_core::{
    Bytes, Key, Result,
    backend::{Instant, Mutex},
    driver::{Deadline, LockOptions},
};
use std::{
    sync::{
        Arc, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// One attempt to hold one lock.
pub(super) struct Attempt {
    pub(super) core: Arc<Core>,
    pub(super) name: Key,
    pub(super) owner: String,
    pub(super) ttl: Duration,
    pub(super) value: Bytes,
    pub(super) each_request: Duration,
    /// The tokens of the requests for the lock that may still take effect, and the moment at which
    /// each was sent.
    asked: Mutex<Vec<(u64, Instant)>>,
    /// Until this moment of the service's time a request may hold the lock that arrives late;
    /// `None` where none is on its way.
    doubt: Mutex<Option<Millis>>,
    /// Until this moment of this machine's clock nobody else can have the lock.
    held_until: Mutex<Instant>,
    /// Counts the renewals that were begun.
    renewals: AtomicU64,
}

impl Attempt {
    /// Makes an attempt that has asked for nothing yet.
    pub(super) fn new(core: &Arc<Core>, name: &Key, ttl: Duration, options: &LockOptions) -> Self {
        Self {
            core: core.clone(),
            name: name.clone(),
            owner: unique_id(),
            ttl,
            value: options.value.clone(),
            each_request: options.each_request,
            asked: Mutex::default(),
            doubt: Mutex::default(),
            held_until: Mutex::new(core.client.time.local().now()),
            renewals: AtomicU64::new(0),
        }
    }

    pub(super) fn deadline(&self) -> Deadline {
        Deadline::after(self.each_request)
    }

    fn asked(&self) -> MutexGuard<'_, Vec<(u64, Instant)>> {
        self.asked.lock()
    }

    /// Notes that a request with this token is sent now. Requests whose locks have ended by now
    /// are forgotten.
    pub(super) fn asks(&self, token: u64, now: Instant) {
        let mut asked = self.asked();
        asked.retain(|(_, since)| now.since(*since) < life(self.ttl));
        asked.push((token, now));
    }

    pub(super) fn asked_at(&self, token: u64) -> Option<Instant> {
        self.asked().iter().find(|(of, _)| *of == token).map(|(_, since)| *since)
    }

    /// Returns the greatest token that was asked for.
    pub(super) fn last_token(&self) -> u64 {
        self.asked().last().map_or(0, |(token, _)| *token)
    }

    /// Notes that a request that was sent may arrive at any time.
    pub(super) fn doubts(&self) {
        *self.doubt.lock() = Some(self.core.client.time.end_of(self.ttl));
    }

    /// Notes the token of the lock's record. A request with this token, or a lower one, does not
    /// get the lock any more.
    pub(super) fn seen(&self, token: u64) {
        if token >= self.last_token() {
            *self.doubt.lock() = None;
        }
    }

    /// Tells whether a request that arrives late can get the lock.
    pub(super) fn is_in_doubt(&self) -> bool {
        let until = *self.doubt.lock();
        until.is_some_and(|until| !self.core.client.time.is_over(until))
    }

    /// Notes that a request that was sent at `since` has granted or renewed the lock.
    pub(super) fn lives_since(&self, since: Instant) {
        let mut until = self.held_until.lock();
        *until = (*until).max(since + life(self.ttl));
    }

    pub(super) fn is_held_for_certain(&self) -> bool {
        let until = *self.held_until.lock();
        self.core.client.time.local().now() < until
    }

    /// Counts a renewal that begins.
    pub(super) fn next_renewal(&self) -> u64 {
        self.renewals.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Refuses a record whose owner is damaged: the owner may be put right and be this attempt
    /// again, and nobody else gets the lock meanwhile.
    pub(super) fn is_anybodys(&self, found: Option<&Found>) -> Result<()> {
        match found.and_then(|found| found.damaged_lock(self.core.client.time.latest())) {
            Some(OWNER) => Err(damaged("lock", self.name.as_str(), OWNER)),
            _ => Ok(()),
        }
    }

    pub(super) fn is_ours(&self, found: &Found) -> bool {
        found.owner.as_deref() == Some(&self.owner)
    }
}
