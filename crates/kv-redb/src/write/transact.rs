//! Transactions: all conditions are checked, and all writes done, in one commit.

use super::life::lives;
use crate::{
    core::Core,
    engine::{Batch, Done, Lives},
    lock,
};
use kv_core::{
    Bytes, Condition, Result, Version, Written,
    driver::{Decision, Expect, Transaction, Write, WriteOptions},
};
use std::{sync::Arc, time::Duration};

/// A condition, by the whole name.
enum Check {
    Version(Arc<str>, Version),
    Exists(Arc<str>),
    Missing(Arc<str>),
    Held(Arc<str>, u64),
    /// A proof of a lock of another file, or of an earlier opening.
    Strange,
}

/// A write, by the whole name, with its options read.
enum Step {
    Put(Arc<str>, Bytes, Lives, Option<Duration>),
    Delete(Arc<str>),
}

/// Does all writes of the transaction in one commit, if all its conditions hold.
pub(crate) async fn transact(
    core: &Core,
    transaction: Transaction,
    options: &WriteOptions,
) -> Result<Decision> {
    let mark = core.engine()?.mark();
    let check = |condition| match condition {
        Condition::Version(key, version) => Check::Version(core.whole(&key), version),
        Condition::Exists(key) => Check::Exists(core.whole(&key)),
        Condition::Missing(key) => Check::Missing(core.whole(&key)),
        Condition::Held(fence) if lock::is_proof(mark, &fence) => {
            Check::Held(core.lock_name(fence.lock()), fence.token())
        }
        Condition::Held(_) => Check::Strange,
    };
    let checks = transaction.conditions.into_iter().map(check).collect();
    let mut size = 0;
    let mut step = |write| {
        Ok(match write {
            Write::Put { key, value, options } => {
                size += key.as_str().len() + value.len();
                let (lives, ttl) = lives(core, &options)?;
                Step::Put(core.whole(&key), value, lives, ttl)
            }
            Write::Delete { key } => Step::Delete(core.whole(&key)),
        })
    };
    let steps = transaction.writes.into_iter().map(&mut step).collect::<Result<Vec<_>>>()?;
    core.write(options.deadline, size, move |batch| run(batch, checks, steps)).await
}

/// Does the transaction within a batch of the writer.
fn run(batch: &mut Batch<'_>, checks: Vec<Check>, steps: Vec<Step>) -> Done<Decision> {
    for (condition, check) in checks.into_iter().enumerate() {
        let holds = match check {
            Check::Version(name, version) => batch.version(&name)?.map(|found| found == Some(version)),
            Check::Exists(name) => batch.version(&name)?.map(|found| found.is_some()),
            Check::Missing(name) => batch.version(&name)?.map(|found| found.is_none()),
            Check::Held(name, token) => Ok(batch.holds(&name, token)),
            Check::Strange => Ok(false),
        };
        match holds {
            Ok(true) => {}
            Ok(false) => return Ok(Ok(Decision::Refused { condition })),
            Err(e) => return Ok(Err(e)),
        }
    }
    // All that can be refused is refused before the first write.
    for step in &steps {
        if let Step::Put(name, _, lives, _) = step
            && let Err(e) = batch.version(name)?.and_then(|_| batch.may_live(*lives))
        {
            return Ok(Err(e));
        }
    }
    let mut written = Vec::with_capacity(steps.len());
    for step in steps {
        let done = match step {
            Step::Put(name, value, lives, ttl) => {
                let put = batch.put(&name, value, Expect::Anything, lives)?;
                put.map(|version| Some(Written::new(version, ttl)))
            }
            Step::Delete(name) => batch.delete(&name, Expect::Anything)?.map(|_| None),
        };
        match done {
            Ok(done) => written.push(done),
            Err(e) => return Ok(Err(e)),
        }
    }
    Ok(Ok(Decision::Committed(written)))
}
