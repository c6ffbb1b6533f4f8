//! Reads of single keys.

use crate::{
    client::{Purpose, answer::entry, limits::MOST_OPS, txn::found},
    core::Core,
    error::unexpected,
};
use etcd_client::{GetOptions, KeyValue, Txn, TxnOp};
use kv_core::{
    Consistency, Entry, Key, Result,
    driver::{Deadline, ReadOptions},
};

/// Does [`Store::get`](kv_core::driver::Store::get).
pub(crate) async fn get(core: &Core, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
    let name = core.names.key(key.as_str());
    let mut found = core.range(purpose(options), options.deadline, &name, reading(options)).await?;
    Ok(found.take_kvs().pop().map(|found| entry(key.clone(), found)))
}

/// Does [`Store::get_many`](kv_core::driver::Store::get_many).
pub(crate) async fn get_many(core: &Core, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
    let names: Vec<_> = keys.iter().map(|key| core.names.key(key.as_str())).collect();
    let found = read_names(core, &names, purpose(options), options.deadline, &reading(options)).await?;
    let pairs = keys.iter().zip(found);
    Ok(pairs.map(|(key, found)| found.map(|found| entry(key.clone(), found))).collect())
}

/// Does [`Store::exists`](kv_core::driver::Store::exists).
pub(crate) async fn exists(core: &Core, key: &Key, options: &ReadOptions) -> Result<bool> {
    let name = core.names.key(key.as_str());
    let count = reading(options).with_count_only();
    Ok(core.range(purpose(options), options.deadline, &name, count).await?.count() > 0)
}

/// Returns the purpose of a read with these options.
pub(crate) fn purpose(read: &ReadOptions) -> Purpose {
    match read.consistency {
        Consistency::Linearizable => Purpose::Read,
        Consistency::Stale => Purpose::Stale,
    }
}

/// Returns the server's options of a read.
pub(crate) fn reading(read: &ReadOptions) -> GetOptions {
    match read.consistency {
        Consistency::Linearizable => GetOptions::new(),
        Consistency::Stale => GetOptions::new().with_serializable(),
    }
}

/// Reads several names, in their order.
pub(crate) async fn read_names(
    core: &Core,
    names: &[Vec<u8>],
    purpose: Purpose,
    deadline: Deadline,
    options: &GetOptions,
) -> Result<Vec<Option<KeyValue>>> {
    let mut all = Vec::with_capacity(names.len());
    for names in names.chunks(MOST_OPS) {
        let gets: Vec<_> = names.iter().map(|name| TxnOp::get(name.clone(), Some(options.clone()))).collect();
        let answer = core.txn(purpose, deadline, Txn::new().and_then(gets)).await?;
        let before = all.len();
        all.extend(found(&answer).into_iter().map(|mut found| found.pop()));
        if all.len() - before != names.len() {
            return Err(unexpected("the server answered fewer reads than it was asked"));
        }
    }
    Ok(all)
}
