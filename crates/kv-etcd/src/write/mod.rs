//! Writes: puts, deletions, transactions and whole trees.

mod conditions;
mod life;
mod size;
pub(crate) mod trace;
mod transact;
mod tree;

pub(crate) use transact::transact;
pub(crate) use tree::delete_tree;

use crate::{
    client::{
        Purpose,
        answer::{revision, version},
        txn::{deleted, found, is_at, is_missing, only_the_key},
    },
    core::Core,
    error::unexpected,
};
use etcd_client::{Client as Service, Txn, TxnOp, TxnResponse};
use kv_core::{
    Bytes, ErrorKind, Key, Result, Written,
    driver::{Deadline, Expect, PutOptions, WriteOptions},
};
use life::{Life, TRIES};
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
    for tries in 1.. {
        let life = Life::new(core, options, options.deadline).await?;
        let trace = Trace::new(core, name.clone());
        let sent = put_if(core, &name, value.clone(), expect, &life, options.deadline).await;
        if is_undone(&sent) {
            life.undone();
        }
        match sent {
            Ok(revision) => return Ok(life.written(core, revision, options.deadline).await),
            Err(e) if e.kind() == ErrorKind::LeaseLost && life.is_over(core) && tries < TRIES => {}
            Err(e) => return Err(trace.error(core, life.error(e), options.deadline).await),
        }
    }
    Err(unexpected("the last try has an answer"))
}

/// Sends one put, if the key is as expected; returns its revision.
async fn put_if(
    core: &Core,
    name: &[u8],
    value: Bytes,
    expect: Expect,
    life: &Life,
    deadline: Deadline,
) -> Result<i64> {
    if expect == Expect::Anything {
        let put = |service: &Service| {
            life.sending();
            let (mut kv, name, value) = (service.kv_client(), name.to_vec(), value.clone());
            let options = life.options();
            async move { kv.put(name, value, Some(options)).await }
        };
        let answer = core.client.call(Purpose::Write, deadline, put).await?;
        core.saw(answer.header());
        return revision(answer.header());
    }
    let put = TxnOp::put(name, value, Some(life.options()));
    let answer = write_if(core, name, expect, put, deadline, || life.sending()).await?;
    revision(answer.header())
}

/// Sends one write of a key, if the key is as expected. Calls `sending` before each attempt.
async fn write_if(
    core: &Core,
    name: &[u8],
    expect: Expect,
    write: TxnOp,
    deadline: Deadline,
    sending: impl Fn(),
) -> Result<TxnResponse> {
    let when = match expect {
        Expect::Anything => vec![],
        Expect::Missing => vec![is_missing(name.to_vec())],
        Expect::Version(at) => vec![is_at(name.to_vec(), at)],
    };
    let txn = Txn::new().when(when).and_then([write]).or_else([only_the_key(name.to_vec())]);
    let answer = core.noted_txn(Purpose::Write, deadline, txn, sending).await?;
    if answer.succeeded() {
        return Ok(answer);
    }
    let there = found(&answer).into_iter().flatten().next();
    expect.check(there.map(|found| version(found.mod_revision())))?;
    Err(unexpected("the server refused a write whose condition is true"))
}

/// Does [`Store::delete`](kv_core::driver::Store::delete).
pub(crate) async fn delete(core: &Core, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
    let name = core.names.key(key.as_str());
    let delete = TxnOp::delete(name.clone(), None);
    let answer = write_if(core, &name, expect, delete, options.deadline, || {}).await?;
    Ok(deleted(&answer) > Some(0))
}
