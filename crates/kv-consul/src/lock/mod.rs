//! Acquires locks, and tells who holds one: the first contender of a queue, in the order of
//! creation.

mod contender;
pub(crate) mod line;
mod queue;
pub(crate) mod sessions;

use crate::{
    client::{Purpose, api},
    core::Core,
};
use kv_core::{
    Holder, Key, Result,
    backend::queue::lock as acquire,
    driver::{Acquired, LockOptions, ReadOptions},
};
use line::{first, may_read};
use queue::LockQueue;
use std::sync::Arc;

/// Does [`Store::lock`](kv_core::driver::Store::lock).
pub(crate) async fn lock(core: &Arc<Core>, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
    let range = core.capabilities.lock.as_ref().map(|lock| &lock.ttl);
    let ttl = range.ok_or_else(|| core.capabilities.unsupported("locks"))?.grant(options.ttl)?;
    acquire(&Arc::new(LockQueue::new(core, name, ttl, options)), options.wait).await
}

/// Does [`Store::lock_holder`](kv_core::driver::Store::lock_holder).
pub(crate) async fn holder(core: &Core, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
    let line = core.names.line(name);
    let pairs = api::tree(&core.client, Purpose::of(options), options.deadline, &line).await?;
    match first(&core.names, &pairs) {
        Some(first) => Ok(Some(Holder::new(first.created, first.value()?))),
        None => may_read(core, Purpose::of(options), options.deadline, &line).await.map(|()| None),
    }
}
