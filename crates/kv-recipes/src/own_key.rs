//! A key under a lease of its own, which others may take away although the lease lives.

use crate::patience::{backoff, ends};
use kv_core::{Error, ErrorKind, Key, Kv, Lease, Result, Version, WatchEvent};
use std::{
    future::{Future, pending},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// A key that stands for its owner: it is held while its lease lives and nobody has taken it away.
///
/// The lease is watched all the while, the key by whoever waits in [`lost`](Self::lost). Once one
/// of them has seen that it is gone, it is no longer held.
pub(crate) struct OwnKey {
    kv: Kv,
    lease: Lease,
    key: Key,
    /// The version that the key has; `None` where any will do.
    version: Option<Version>,
    is_gone: Arc<AtomicBool>,
}

impl OwnKey {
    pub(crate) fn new(kv: &Kv, lease: Lease, key: Key, version: Option<Version>) -> Self {
        Self { kv: kv.clone(), lease, key, version, is_gone: Arc::default() }
    }

    pub(crate) fn kv(&self) -> &Kv {
        &self.kv
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    pub(crate) fn is_held(&self) -> bool {
        self.lease.is_held() && !self.is_gone.load(Ordering::Acquire)
    }

    pub(crate) fn remaining(&self) -> Duration {
        if self.is_held() { self.lease.remaining() } else { Duration::ZERO }
    }

    /// Waits until the lease is over, or the key is gone or another's, and returns the reason. It
    /// watches the key meanwhile. The future borrows nothing.
    pub(crate) fn lost(&self) -> impl Future<Output = Error> + Send + 'static {
        let Self { kv, lease, key, version, is_gone } = self;
        let (kv, key, version, is_gone) = (kv.clone(), key.clone(), *version, is_gone.clone());
        let lost = Box::pin(lease.lost());
        async move {
            let backend = kv.capabilities().backend;
            let gone = Box::pin(until_gone(&kv, &key, version));
            tokio::select! {
                biased;
                why = lost => why,
                () = gone => {
                    is_gone.store(true, Ordering::Release);
                    let why = format!("no longer held: its key {key:?} was deleted, or is another's");
                    Error::new(ErrorKind::LeaseLost, why).in_call("lease", backend, None)
                }
            }
        }
    }

    /// Takes the key away with its lease, and returns whether it was held as far as this side knows.
    pub(crate) async fn give_back(self) -> Result<bool> {
        let was_there = !self.is_gone.load(Ordering::Acquire);
        // On the heap: whoever gives several back at once holds a future of each.
        Ok(Box::pin(self.lease.revoke()).await? && was_there)
    }
}

/// Waits until the key is gone or another's. Where the server refuses to tell, the lease alone
/// decides.
async fn until_gone(kv: &Kv, key: &Key, version: Option<Version>) {
    let mut backoff = backoff();
    loop {
        match watch_until_gone(kv, key, version).await {
            Ok(()) => return,
            Err(e) if ends(&e) => pending().await,
            Err(_) => backoff.pause().await,
        }
    }
}

async fn watch_until_gone(kv: &Kv, key: &Key, version: Option<Version>) -> Result<()> {
    let is_own = |found: Version| version.is_none_or(|own| own == found);
    let (mut watch, mut is_there) = (kv.watch(key).await?, false);
    loop {
        let is_doubtful = match watch.event().await? {
            WatchEvent::Put(entry) => {
                is_there = is_own(entry.version);
                !is_there
            }
            WatchEvent::Delete { .. } => {
                is_there = false;
                true
            }
            WatchEvent::Synced => !is_there,
        };
        // The watch says when to look, and may be late; what is read then decides.
        if is_doubtful && !kv.get(key).await?.is_some_and(|entry| is_own(entry.version)) {
            return Ok(());
        }
    }
}
