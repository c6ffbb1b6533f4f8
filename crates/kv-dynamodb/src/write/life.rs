//! The life of a key that is put, by its TTL or its lease.

use crate::{
    client::item::{Item, LEASE, RENEWAL, VALUE, VERSION, bytes, number, primary_key, text, versioned},
    core::Core,
    lease::state::Lease,
    list::read::fresh_time,
};
use aws_sdk_dynamodb::types::AttributeValue;
use kv_core::{
    Bytes, Key, Result, Version,
    backend::Instant,
    driver::{Deadline, PutOptions},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// The time after which a put is told what is left of its TTL, since the service may have taken it
/// that long ago.
const SLOW: Duration = Duration::from_secs(1);

/// The life of a key that is put: for ever, for a TTL, or under a lease.
#[derive(Debug)]
pub(super) struct Life {
    ttl: Option<Duration>,
    lease: Option<Arc<Lease>>,
    /// The number of the lease's renewal whose end the key was sent with last.
    by: AtomicU64,
}

impl Life {
    pub(super) async fn of(core: &Core, options: &PutOptions, deadline: Deadline) -> Result<Self> {
        let ttl = options.ttl;
        let lease = options.lease.as_ref().map(|id| core.shared.leases.get(id)).transpose()?;
        // Versions are made of the time too.
        if ttl.is_some() || core.client.time.is_rough() {
            fresh_time(core, deadline).await?;
        }
        Ok(Self { ttl, lease, by: AtomicU64::new(0) })
    }

    /// Returns the attributes of this life, for a write that is sent now.
    fn attributes(&self, core: &Core) -> Result<Vec<(String, AttributeValue)>> {
        if let Some(lease) = &self.lease {
            let to = lease.ends()?;
            self.by.store(to.number, Ordering::Relaxed);
            let mut all = core.ends(to.ends);
            all.push((LEASE.to_owned(), text(lease.id())));
            all.push((RENEWAL.to_owned(), number(to.number)));
            return Ok(all);
        }
        let ends = self.ttl.map(|ttl| core.client.time.end_of(ttl));
        Ok(ends.map_or_else(Vec::new, |ends| core.ends(ends)))
    }

    /// Returns the TTL that is told for a write that was made at `made`: what is left of it, if
    /// the write took longer than a second.
    pub(super) fn granted(&self, core: &Core, made: Instant) -> Option<Duration> {
        let took = core.client.time.local().now().since(made);
        self.ttl.map(|ttl| if took < SLOW { ttl } else { ttl.saturating_sub(took) })
    }

    /// Makes sure that the key ends with its lease, after the write was acknowledged.
    pub(super) async fn is_whole(&self, core: &Core, key: &Key, version: Version) -> Result<()> {
        match &self.lease {
            Some(lease) => lease.is_whole(core, key, version, self.by.load(Ordering::Relaxed)).await,
            None => Ok(()),
        }
    }

    /// Tells the lease of the key, before the write is sent.
    pub(super) fn begin(&self, key: &Key) -> Result<()> {
        self.lease.as_ref().map_or(Ok(()), |lease| lease.add(key))
    }
}

/// Returns the item that puts the key.
pub(super) fn put_item(core: &Core, key: &Key, value: &Bytes, version: Version, life: &Life) -> Result<Item> {
    let mut item = primary_key(&core.names.data, key.as_str());
    item.insert(VALUE.to_owned(), bytes(value.clone()));
    item.insert(VERSION.to_owned(), versioned(version));
    item.extend(life.attributes(core)?);
    Ok(item)
}
