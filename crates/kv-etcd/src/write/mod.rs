//! Writes: puts, deletions, transactions and whole trees.

mod conditions;
mod life;
mod size;
mod trace;
mod transact;
mod tree;

pub(crate) use transact::transact;
pub(crate) use tree::delete_tree;

use crate::{
    client::{
        Purpose,
        answer::{revision, version},
        txn::{found, is_at, is_missing, only_the_key},
    },
    core::Core,
    error::unexpected,
    lease,
};
use etcd_client::{Txn, TxnOp};
use kv_core::{
    Bytes, Key, Result, Written,
    driver::{Deadline, Expect, PutOptions, WriteOptions},
};
use life::Life;
use trace::{Trace, is_undone};

/// Does [`Store::put`](kv_core::driver::Store::put).
pub(crate) async fn put(
    core: &Core,
    key: &Key,
    value: Bytes,
    expect: Expect,
    options: &PutOptions,
) -> Result<Written> {
    let name = core.names.key(key.as_str());
    let life = Life::new(core, options, 1, options.deadline).await?;
    let trace = Trace::new(core, name.clone());
    let put = TxnOp::put(name.clone(), value, Some(life.options()));
    let answer = match write_if(core, name, expect, put, options.deadline, || life.sending()).await {
        Ok((revision, _)) => Ok(revision),
        Err(e) => Err(trace.error(core, life.error(e), options.deadline).await),
    };
    if is_undone(&answer) {
        life.undone();
    }
    Ok(life.written(core, answer?, options.deadline).await)
}

/// Sends one write of a key, if the key is as expected; returns the revision of the write, and
/// whether the key was there. Calls `sending` before each attempt.
async fn write_if(
    core: &Core,
    name: Vec<u8>,
    expect: Expect,
    write: TxnOp,
    deadline: Deadline,
    sending: impl Fn(),
) -> Result<(i64, bool)> {
    let when = match expect {
        Expect::Anything => vec![],
        Expect::Missing => vec![is_missing(name.clone())],
        Expect::Version(at) => vec![is_at(name.clone(), at)],
    };
    let before = only_the_key(name);
    let txn = Txn::new().when(when).and_then([before.clone(), write]).or_else([before]);
    let answer = core.noted_txn(Purpose::Write, deadline, txn, sending).await?;
    let there = found(&answer).into_iter().flatten().next();
    if answer.succeeded() {
        lease::replaced(core, &there);
        return Ok((revision(answer.header())?, there.is_some()));
    }
    expect.check(there.map(|found| version(found.mod_revision())))?;
    Err(unexpected("the server refused a write whose condition is true"))
}

/// Does [`Store::delete`](kv_core::driver::Store::delete).
pub(crate) async fn delete(core: &Core, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
    let name = core.names.key(key.as_str());
    let delete = TxnOp::delete(name.clone(), None);
    write_if(core, name, expect, delete, options.deadline, || {}).await.map(|(_, was_there)| was_there)
}
