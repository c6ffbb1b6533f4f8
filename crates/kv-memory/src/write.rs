//! Writes: puts, deletions, trees and transactions, each in one step under the mutex.

use crate::{
    core::Core,
    data::{Data, Life},
    list,
};
use bytes::Bytes;
use kv_core::{
    Condition, Directory, Key, Result, Written,
    driver::{Batch, Decision, Expect, PutOptions, Transaction, Write},
};
use std::time::Duration;

/// Puts a value, if its precondition is true.
pub(crate) fn put(
    core: &Core,
    key: &Key,
    value: Bytes,
    expect: Expect,
    options: &PutOptions,
) -> Result<Written> {
    let (name, mut data) = (core.name(key), core.look());
    let (life, ttl) = life(&data, options)?;
    expect.check(data.version(&name))?;
    Ok(Written::new(data.put(&name, Some(key), value, life), ttl))
}

/// Deletes the key, if its precondition is true; tells whether the key was there.
pub(crate) fn delete(core: &Core, key: &Key, expect: Expect) -> Result<bool> {
    let (name, mut data) = (core.name(key), core.look());
    expect.check(data.version(&name))?;
    Ok(data.remove(&name))
}

/// Deletes all keys below the directory.
pub(crate) fn delete_tree(core: &Core, directory: &Directory) -> Batch {
    let mut data = core.look();
    let names = list::names_below(core, &data, directory);
    for name in &names {
        data.remove(name);
    }
    Batch { deleted: Some(names.len() as u64), next: None }
}

/// Does all writes of the transaction, if all its conditions hold.
pub(crate) fn transact(core: &Core, transaction: Transaction) -> Result<Decision> {
    let mut data = core.look();
    let version = |key| data.version(&core.name(key));
    let refused = transaction.conditions.iter().position(|condition| !match condition {
        Condition::Version(key, expected) => version(key) == Some(*expected),
        Condition::Exists(key) => version(key).is_some(),
        Condition::Missing(key) => version(key).is_none(),
        Condition::Held(fence) => data.is_held(&core.lock_name(fence.lock()), fence.token()),
    });
    if let Some(condition) = refused {
        return Ok(Decision::Refused { condition });
    }
    // All that can be refused is refused before the first write.
    let lives = transaction.writes.iter().map(|write| match write {
        Write::Put { options, .. } => life(&data, options).map(Some),
        Write::Delete { .. } => Ok(None),
    });
    let lives = lives.collect::<Result<Vec<_>>>()?;
    let mut written = Vec::with_capacity(lives.len());
    for (write, life) in transaction.writes.into_iter().zip(lives) {
        let name = core.name(write.key()).into_owned();
        written.push(match (write, life) {
            (Write::Put { key, value, .. }, Some((life, ttl))) => {
                Some(Written::new(data.put(&name, Some(&key), value, life), ttl))
            }
            _ => {
                data.remove(&name);
                None
            }
        });
    }
    Ok(Decision::Committed(written))
}

/// Returns the life that a put gives its key, and its TTL; an error if its lease has ended.
fn life(data: &Data, options: &PutOptions) -> Result<(Life, Option<Duration>)> {
    if let Some(lease) = &options.lease {
        return Ok((Life::Lease(data.lease(lease)?), None));
    }
    let life = options.ttl.map_or(Life::Forever, |ttl| Life::Until(data.clock.now() + ttl));
    Ok((life, options.ttl))
}
