//! Puts and deletes one key.

use super::{
    lifetime::{Lifetime, is_over},
    ops::{conflict, is_undone, make, modify_index, version_of},
};
use crate::{
    client::{
        Purpose,
        api::{Done, Fault, Op},
    },
    core::Core,
};
use kv_core::{
    Bytes, Key, Result, Written,
    driver::{Expect, PutOptions, WriteOptions},
};
use std::sync::Arc;

/// Writes one key.
pub(crate) async fn put(
    core: &Arc<Core>,
    key: &Key,
    value: Bytes,
    expect: Expect,
    options: &PutOptions,
) -> Result<Written> {
    let (name, deadline) = (core.names.name(key.as_str()), options.deadline);
    loop {
        let lifetime = Lifetime::new(core, options, deadline).await?;
        let mut ops = Vec::with_capacity(3);
        match expect {
            Expect::Anything => {}
            Expect::Missing => ops.push(Op::check_missing(&name)),
            Expect::Version(at) => ops.push(Op::check_index(&name, modify_index(at))),
        }
        make(&mut ops, &name, &value, lifetime.session(), expect != Expect::Missing);
        let answer = match core.txn(Purpose::Write, deadline, &ops).await {
            Ok(Done::Committed(done)) => version_of(&done),
            Ok(Done::Refused(faults)) => Err(conflict(expect, &faults)),
            Err(e) => Err(e),
        };
        if is_undone(&answer) {
            lifetime.unused();
        }
        match answer {
            Err(e) if is_over(core, [&lifetime].into_iter(), &e, false) && !deadline.has_passed() => {}
            answer => return lifetime.written(core, &name, answer?, deadline).await,
        }
    }
}

/// Deletes one key; `false` when it was not there.
pub(crate) async fn delete(core: &Core, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
    let name = core.names.name(key.as_str());
    let check = match expect {
        Expect::Missing => Op::check_missing(&name),
        Expect::Version(at) => Op::check_index(&name, modify_index(at)),
        // The deletion alone would not tell whether the key was there.
        Expect::Anything => Op::get(&name),
    };
    let before = core.ttl_sessions.before(&name).into_iter().collect();
    let done = core.txn(Purpose::Write, options.deadline, &[check, Op::delete(&name)]).await?;
    match (done, expect) {
        (Done::Committed(_), _) => {
            core.ttl_sessions.deleted(before);
            Ok(expect != Expect::Missing)
        }
        (Done::Refused(faults), Expect::Anything) if faults.iter().all(Fault::is_missing) => Ok(false),
        (Done::Refused(faults), _) => Err(conflict(expect, &faults)),
    }
}
