//! Reports which settings a process runs.

use crate::{
    record::Record,
    state::{Shared, State, ends},
};
use kv_core::{Bytes, ErrorKind, Key, Kv, Lease, Result, backend::Backoff};
use std::{future::pending, time::Duration};
use tokio::sync::watch;

/// The first and the greatest ceiling of the pauses between attempts to report.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Keeps the report of a process in the store, under a lease of its own.
pub(crate) struct Reporter {
    key: Key,
    ttl: Duration,
    lease: Option<Lease>,
    /// The report that stands under the lease.
    written: Option<Record>,
}

impl Reporter {
    pub(crate) fn new(key: Key, ttl: Duration) -> Self {
        Self { key, ttl, lease: None, written: None }
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
        let Some(lease) = &self.lease else { return Ok(()) };
        let record = {
            let state = told.borrow_and_update();
            Record::of(&state)
        };
        if self.written.as_ref() != Some(&record) {
            put(kv, &self.key, lease, &record.write()?).await?;
            self.written = Some(record);
        }
        shared.trouble(None, |troubles| &mut troubles.report);
        tokio::select! {
            biased;
            lost = lease.lost() => Err(lost),
            changed = told.changed() => match changed {
                Ok(()) => Ok(()),
                Err(_) => pending().await, // nobody is left who has the settings, and this ends too
            },
        }
    }
}

/// Puts the report, whoever has written the key before: the process that this one replaces may have
/// left its own. Each attempt expects what was read before it, so that none takes effect behind a
/// later one.
async fn put(kv: &Kv, key: &Key, lease: &Lease, report: &Bytes) -> Result<()> {
    loop {
        let found = kv.get(key).await?;
        let put = kv.put(key, report).lease(lease);
        let put = match found {
            Some(entry) => put.if_version(entry.version),
            None => put.if_missing(),
        };
        match put.await {
            Err(e) if e.is_conflict() => {}
            put => return put.map(drop),
        }
    }
}
