//! Reads who holds a lock, changes its value, and ends what it holds.

use crate::{
    client::{
        Purpose,
        answer::{self, create_revision},
    },
    core::Core,
    list::{purpose, reading},
    names::Names,
    write::trace::Trace,
};
use etcd_client::{Compare, CompareOp, KeyValue, PutOptions, SortOrder, SortTarget, Txn, TxnOp};
use kv_core::{
    Bytes, Fence, Holder, Key, Result,
    driver::{ReadOptions, WriteOptions},
};

/// Does [`Store::lock_holder`](kv_core::driver::Store::lock_holder).
pub(crate) async fn holder(core: &Core, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
    Ok(first(core, name, options).await?.map(answer::holder))
}

/// Reads the contender that holds the lock.
async fn first(core: &Core, name: &Key, options: &ReadOptions) -> Result<Option<KeyValue>> {
    let line = core.names.contenders(name);
    let mut since = 0;
    loop {
        let first = reading(options)
            .with_range(line.end.clone())
            .with_sort(SortTarget::Create, SortOrder::Ascend)
            .with_min_create_revision(since)
            .with_limit(1);
        let first = core.range(purpose(options), options.deadline, &line.start, first).await?.take_kvs();
        match first.into_iter().next() {
            // A name that another tool wrote there holds nothing.
            Some(junk) if !Names::is_contender(&line, junk.key(), junk.lease()) => {
                since = junk.create_revision() + 1;
            }
            first => return Ok(first),
        }
    }
}

/// Does [`Store::set_holder`](kv_core::driver::Store::set_holder). The contender stays under its
/// lease.
pub(crate) async fn set_holder(
    core: &Core,
    fence: &Fence,
    value: Bytes,
    options: &WriteOptions,
) -> Result<bool> {
    let (name, at) = (fence.proof().to_vec(), create_revision(fence.token()));
    let when = [
        Compare::create_revision(name.clone(), CompareOp::Equal, at),
        // One that another tool overwrote is no longer in the queue.
        Compare::lease(name.clone(), CompareOp::NotEqual, 0),
    ];
    let trace = Trace::new(core, name.clone());
    let put = TxnOp::put(name, value, Some(PutOptions::new().with_ignore_lease()));
    let txn = Txn::new().when(when).and_then([put]);
    match core.txn(Purpose::Write, options.deadline, txn).await {
        Ok(answer) => Ok(answer.succeeded()),
        Err(e) => Err(trace.error(core, e, options.deadline).await),
    }
}

/// Does [`Store::break_lock`](kv_core::driver::Store::break_lock). The first contender stays first
/// until it is gone.
pub(crate) async fn break_lock(core: &Core, name: &Key, token: u64, options: &WriteOptions) -> Result<bool> {
    let read = ReadOptions::default().deadline(options.deadline);
    let Some(first) = first(core, name, &read).await? else { return Ok(false) };
    if first.create_revision() != create_revision(token) {
        return Ok(false);
    }
    let is_there = Compare::create_revision(first.key(), CompareOp::Equal, first.create_revision());
    let txn = Txn::new().when([is_there]).and_then([TxnOp::delete(first.key(), None)]);
    Ok(core.txn(Purpose::Write, options.deadline, txn).await?.succeeded())
}
