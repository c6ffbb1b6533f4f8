//! The numbered keys that stand for permits, as the holder of the gate sees them.

use crate::{
    Permit,
    names::{below, new_id},
    patience::{backoff, ends, write_fenced},
    permit::{occupy, permit},
    record::{self, Format},
};
use futures_core::future::BoxFuture;
use kv_core::{
    Bytes, Directory, Entry, Error, ErrorKind, Guard, Key, Kv, Lease, Result, Version, WatchEvent,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::sleep;

/// The pause after which a slot is tried again that the watch shows as free, and that is taken.
const LATE_WATCH: Duration = Duration::from_millis(100);

/// The line of the number of permits.
#[derive(Serialize, Deserialize)]
struct Limit {
    v: Format,
    limit: usize,
}

/// The line of a permit that is held.
#[derive(Serialize, Deserialize)]
struct Slot {
    v: Format,
    id: String,
    token: u64,
}

pub(super) struct Slots {
    kv: Kv,
    pub(super) name: Key,
    directory: Directory,
    permits: usize,
    ttl: Duration,
}

/// The slots that are taken and the number of permits, as they stand below the semaphore's name.
#[derive(Default)]
struct Seen {
    taken: BTreeSet<usize>,
    /// The entry with the number of permits.
    limit: Option<Entry>,
}

impl Seen {
    fn set(&mut self, directory: &Directory, key: &Key, entry: Option<&Entry>) {
        let Some(name) = directory.strip(key) else { return };
        if name.as_str() == "limit" {
            self.limit = entry.cloned();
        }
        let Some(slot) = name.as_str().strip_prefix("slots/").and_then(slot_of) else { return };
        match entry {
            Some(_) => self.taken.insert(slot),
            None => self.taken.remove(&slot),
        };
    }
}

/// Returns the number of a slot, if the text is how it is written: `07` and `+7` are other keys.
fn slot_of(text: &str) -> Option<usize> {
    text.parse().ok().filter(|slot: &usize| slot.to_string() == text)
}

impl Slots {
    pub(super) fn new(kv: &Kv, name: Key, permits: usize, ttl: Duration) -> Self {
        Self { kv: kv.clone(), directory: name.as_directory(), name, permits, ttl }
    }

    /// Waits, while the gate is held, until a permit is taken. It keeps the place in line through
    /// failures that pass; `failed` is the last of them, and `None` from the moment on in which all
    /// permits were seen to be held.
    pub(super) async fn wait(&self, gate: &Guard, failed: &mut Option<Error>) -> Result<Permit> {
        let mut backoff = backoff();
        loop {
            match self.wait_once(gate, failed).await {
                Err(e) if !ends(&e) && e.kind() != ErrorKind::LockLost => {
                    *failed = Some(e);
                    backoff.pause().await;
                }
                ended => return ended,
            }
        }
    }

    /// Waits under one lease. When that fails, the lease goes, and with it what was put under it.
    async fn wait_once(&self, gate: &Guard, failed: &mut Option<Error>) -> Result<Permit> {
        let (lease, id) = (self.kv.lease(self.ttl).await?, new_id());
        let mut lost: BoxFuture<'static, Error> = Box::pin(lease.lost());
        let mut watch = self.kv.watch_tree(&self.directory).await?;
        let (mut seen, mut is_known) = (Seen::default(), false);
        let taken = loop {
            let mut is_late = false;
            if is_known {
                self.agree(gate, seen.limit.as_ref()).await?;
                if let Some(taken) = self.take_one_of(&seen, &id, gate, &lease).await? {
                    break taken;
                }
                is_late = self.free(&seen).next().is_some();
                *failed = None;
            }
            let event = tokio::select! {
                biased;
                why = &mut lost => return Err(why),
                event = watch.event() => event?,
                () = sleep(LATE_WATCH), if is_late => continue,
            };
            match event {
                WatchEvent::Put(entry) => seen.set(&self.directory, &entry.key, Some(&entry)),
                WatchEvent::Delete { key, .. } => seen.set(&self.directory, &key, None),
                WatchEvent::Synced => is_known = true,
            }
        };
        permit(&self.kv, lease, taken, gate).await
    }

    /// Takes a permit if one is free.
    pub(super) async fn try_take(&self, gate: &Guard) -> Result<Option<Permit>> {
        let mut seen = Seen::default();
        for entry in self.kv.list(&self.directory).await? {
            seen.set(&self.directory, &entry.key, Some(&entry));
        }
        self.agree(gate, seen.limit.as_ref()).await?;
        if self.free(&seen).next().is_none() {
            return Ok(None);
        }
        let (lease, id) = (self.kv.lease(self.ttl).await?, new_id());
        match self.take_one_of(&seen, &id, gate, &lease).await? {
            Some(taken) => permit(&self.kv, lease, taken, gate).await.map(Some),
            None => Ok(None),
        }
    }

    fn free<'a>(&'a self, seen: &'a Seen) -> impl Iterator<Item = usize> + 'a {
        (0..self.permits).filter(move |slot| !seen.taken.contains(slot))
    }

    /// Takes the first of the free slots that is free indeed.
    async fn take_one_of(
        &self,
        seen: &Seen,
        id: &str,
        gate: &Guard,
        lease: &Lease,
    ) -> Result<Option<(Key, Version)>> {
        let record = self.record(id, gate)?;
        let is_ours = |entry: &Entry| {
            record::read::<Slot>(&entry.key, &entry.value).is_ok_and(|(slot, _)| slot.id == id)
        };
        for slot in self.free(seen) {
            let key = below(&self.name, &format!("slots/{slot}"))?;
            if let Some(version) = occupy(&self.kv, &key, &record, (gate, lease), is_ours).await? {
                return Ok(Some((key, version)));
            }
        }
        Ok(None)
    }

    fn record(&self, id: &str, gate: &Guard) -> Result<Bytes> {
        record::write(&Slot { v: Format, id: id.to_owned(), token: gate.token() }, b"")
    }

    /// Sees to it that the number of permits is the one that all use.
    async fn agree(&self, gate: &Guard, found: Option<&Entry>) -> Result<()> {
        let is_agreed = |entry: &Entry| {
            let (Limit { limit, .. }, _) = record::read(&entry.key, &entry.value)?;
            if limit == self.permits {
                return Ok(true);
            }
            let why = format!(
                "{} permits, and others use {limit}; ask for as many, or delete {:?} while nobody uses it",
                self.permits, entry.key
            );
            Err(Error::new(ErrorKind::InvalidArgument, why))
        };
        if let Some(entry) = found {
            return is_agreed(entry).map(drop);
        }
        let record = record::write(&Limit { v: Format, limit: self.permits }, b"")?;
        let key = below(&self.name, "limit")?;
        write_fenced(&self.kv, &key, gate.fence(), &record, is_agreed).await.map(drop)
    }
}
