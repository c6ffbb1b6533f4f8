//! Acquires locks, and tells who holds one: the first contender of a queue, in the order of
//! creation.

pub(crate) mod before;
mod contender;
pub(crate) mod line;
mod queue;
pub(crate) mod sessions;

use crate::{
    client::{
        Purpose,
        api::{self, Done, Op, Pair},
    },
    core::Core,
    names::lock_of,
};
use kv_core::{
    Bytes, Directory, ErrorKind, Fence, HeldLock, Holder, Key, Result,
    backend::{queue::lock as acquire, unique},
    driver::{Acquired, LockOptions, LockPage, ReadOptions, WriteOptions},
};
use line::{contends, first, may_read};
use queue::LockQueue;
use std::{collections::BTreeMap, sync::Arc};

/// Does [`Store::lock`](kv_core::driver::Store::lock).
pub(crate) async fn lock(core: &Arc<Core>, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
    acquire(&Arc::new(LockQueue::new(core, name, options.ttl, options)), options.wait).await
}

/// Does [`Store::lock_holder`](kv_core::driver::Store::lock_holder).
pub(crate) async fn holder(core: &Core, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
    let line = core.names.line(name);
    let pairs = api::tree(&core.client, Purpose::of(options), options.deadline, &line).await?;
    match first(&core.names, &pairs) {
        Some(first) => line::holder(first).map(Some),
        None => may_read(core, Purpose::of(options), options.deadline, &line).await.map(|()| None),
    }
}

/// Does [`Store::set_holder`](kv_core::driver::Store::set_holder).
pub(crate) async fn set_holder(
    core: &Core,
    fence: &Fence,
    value: &Bytes,
    options: &WriteOptions,
) -> Result<bool> {
    let proof = String::from_utf8_lossy(fence.proof());
    let (session, contender) = proof.split_once(' ').unwrap_or_default();
    // The same bytes alone would modify nothing. Consul may read numbers as floating point, which
    // has 53 bits for them.
    let write = Op::write(contender, value, Some(&session.into())).with_flags(unique() >> 11);
    let ops = [Op::check_session(contender, session), write];
    match core.txn(Purpose::Write, options.deadline, &ops).await {
        // With the session the contender is gone.
        Err(e) if e.kind() == ErrorKind::LeaseLost => Ok(false),
        done => Ok(matches!(done?, Done::Committed(_))),
    }
}

/// Does [`Store::break_lock`](kv_core::driver::Store::break_lock).
pub(crate) async fn break_lock(core: &Core, name: &Key, token: u64, options: &WriteOptions) -> Result<bool> {
    let (line, deadline) = (core.names.line(name), options.deadline);
    let pairs = api::tree(&core.client, Purpose::Read, deadline, &line).await?;
    let Some(first) = first(&core.names, &pairs) else {
        return may_read(core, Purpose::Read, deadline, &line).await.map(|()| false);
    };
    if first.created != token {
        return Ok(false);
    }
    let (session, id) = (first.session(), first.name.rsplit('/').next().unwrap_or_default());
    let ops = [
        Op::check_session(&first.name, &session),
        Op::delete(&first.name),
        // A copy of the request that made the contender would make its fence true again.
        Op::write(&core.names.given_up(id), b"", Some(&session)),
    ];
    match core.txn(Purpose::Write, deadline, &ops).await {
        // With the session the contender is gone.
        Err(e) if e.kind() == ErrorKind::LeaseLost => Ok(false),
        done => Ok(matches!(done?, Done::Committed(_))),
    }
}

/// Does [`Store::locks`](kv_core::driver::Store::locks): the server tells all contenders at once.
pub(crate) async fn locks(core: &Core, directory: &Directory, options: &ReadOptions) -> Result<LockPage> {
    let (area, purpose) = (core.names.locks(), Purpose::of(options));
    let pairs = api::tree(&core.client, purpose, options.deadline, &area).await?;
    let mut lines = BTreeMap::<Key, (&Pair, u64)>::new();
    for pair in &pairs {
        let Some(lock) = contends(&core.names, pair).and_then(|contender| lock_of(&contender)) else {
            continue;
        };
        let (first, contenders) = lines.entry(lock).or_insert((pair, 0));
        *contenders += 1;
        if pair.created < first.created {
            *first = pair;
        }
    }
    if lines.is_empty() {
        may_read(core, purpose, options.deadline, &area).await?;
    }
    let held = lines.into_iter().filter(|(lock, _)| lock.is_below(directory));
    let held = held.map(|(lock, (first, contenders))| {
        Ok(HeldLock::new(lock, line::holder(first)?, Some(contenders - 1)))
    });
    Ok(LockPage::select(held.collect::<Result<Vec<_>>>()?, directory))
}
