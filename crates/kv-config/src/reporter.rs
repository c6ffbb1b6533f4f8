//! Reports which settings a process runs.

use crate::{
    record::Record,
    state::{Shared, State, ends},
};
use kv_core::{Bytes, ErrorKind, Key, Kv, Lease, Result, Version, Watch, WatchEvent, backend::Backoff};
use std::{future::pending, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// The first and the greatest ceiling of the pauses between attempts to report.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Keeps the report of a process in the store, under a lease of its own.
pub(crate) struct Reporter {
    key: Key,
    ttl: Duration,
    lease: Option<Lease>,
    /// The report that was written under the lease, and the version that the key has by it.
    written: Option<(Record, Version)>,
    /// The watch of the key: a hint to look again, and no more.
    watch: Option<Watch>,
    /// The key may be gone, or another's.
    is_doubtful: bool,
    /// The moment until which the report of another process is left in the place of this one's.
    left_until: Option<Instant>,
}

impl Reporter {
    pub(crate) fn new(key: Key, ttl: Duration) -> Self {
        let (lease, written, watch, is_doubtful, left_until) = (None, None, None, false, None);
        Self { key, ttl, lease, written, watch, is_doubtful, left_until }
    }

    /// Reports until the handle is closed.
    pub(crate) async fn run<T: Send + Sync + 'static>(mut self, shared: Shared<T>) {
        let mut told = shared.subscribe();
        let opened = told.wait_for(|state| state.kv.is_some()).await.map(|state| state.kv.clone());
        let Ok(Some(kv)) = opened else { return };
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        loop {
            let Err(e) = self.once(&kv, &shared, &mut told).await else {
                backoff.reset();
                continue;
            };
            if e.kind() == ErrorKind::LeaseLost {
                (self.lease, self.written) = (None, None);
            }
            let is_over = ends(&e);
            shared.trouble(Some(e), |troubles| &mut troubles.report);
            if is_over {
                return;
            }
            backoff.pause().await;
        }
    }

    /// Sees to it that the report of the present state stands under a lease that lives; then waits
    /// until one of these may have changed.
    async fn once<T: Send + Sync + 'static>(
        &mut self,
        kv: &Kv,
        shared: &Shared<T>,
        told: &mut watch::Receiver<State<T>>,
    ) -> Result<()> {
        if self.lease.as_ref().is_none_or(|lease| !lease.is_held()) {
            (self.lease, self.written) = (None, None);
            self.lease = Some(kv.lease(self.ttl).await?);
        }
        let record = {
            let state = told.borrow_and_update();
            Record::of(&state)
        };
        let must_write = self.must_write(kv, &record).await?;
        let Some(lease) = &self.lease else { return Ok(()) };
        if must_write {
            let version = put(kv, &self.key, lease, &record.write()?).await?;
            (self.written, self.is_doubtful, self.left_until) = (Some((record, version)), false, None);
        }
        shared.trouble(None, |troubles| &mut troubles.report);
        let Some((_, version)) = self.written else { return Ok(()) };
        if self.watch.is_none() {
            self.watch = Some(kv.watch(&self.key).await?);
        }
        let Some(watch) = &mut self.watch else { return Ok(()) };
        let looks = tokio::select! {
            biased;
            lost = lease.lost() => return Err(lost),
            changed = told.changed() => match changed {
                Ok(()) => return Ok(()),
                Err(_) => pending().await, // nobody is left who has the settings, and this ends too
            },
            looks = until_doubtful(watch, version) => looks,
            () = until(self.left_until) => Ok(()),
        };
        self.is_doubtful = true;
        if looks.is_err() {
            self.watch = None; // it has ended, and the next one tells what is there
        }
        looks
    }

    /// Tells whether the report has to be written. One that another process writes in its place is
    /// left for a TTL: of two that run under one name for a while, as when one replaces the other,
    /// each would else write over the other at once, again and again. When that process ends, its
    /// report goes with it.
    async fn must_write(&mut self, kv: &Kv, record: &Record) -> Result<bool> {
        let Some((_, version)) = self.written.as_ref().filter(|(written, _)| written == record) else {
            return Ok(true);
        };
        if !self.is_doubtful {
            return Ok(false);
        }
        match kv.get(&self.key).await? {
            Some(entry) if entry.version == *version => self.left_until = None,
            Some(entry) if Record::read(&entry).is_ok() => {
                let now = Instant::now();
                let until = *self.left_until.get_or_insert_with(|| now.checked_add(self.ttl).unwrap_or(now));
                if until <= now {
                    return Ok(true);
                }
            }
            _ => return Ok(true),
        }
        self.is_doubtful = false;
        Ok(false)
    }
}

/// Waits until the watch tells that the key may have another version than this one, or was away.
async fn until_doubtful(watch: &mut Watch, version: Version) -> Result<()> {
    loop {
        match watch.event().await? {
            WatchEvent::Put(entry) if entry.version <= version => {}
            WatchEvent::Put(_) | WatchEvent::Delete { .. } | WatchEvent::Synced => return Ok(()),
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}

/// Puts the report, whoever has written the key before: the process that this one replaces may have
/// left its own. Each attempt expects what was read before it, so that none takes effect behind a
/// later one. Between them it pauses, so that others come through.
async fn put(kv: &Kv, key: &Key, lease: &Lease, report: &Bytes) -> Result<Version> {
    let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
    loop {
        let found = kv.get(key).await?;
        let put = kv.put(key, report).lease(lease);
        let put = match found {
            Some(entry) => put.if_version(entry.version),
            None => put.if_missing(),
        };
        match put.await {
            Err(e) if e.is_conflict() => backoff.pause().await,
            put => return Ok(put?.version),
        }
    }
}
