//! Writes: each is a job of the writer, which does those that wait in one commit.

mod life;
mod transact;
mod tree;

pub(crate) use transact::transact;
pub(crate) use tree::delete_tree;

use crate::{core::Core, engine::Batch};
use kv_core::{
    Bytes, Key, Result, Written,
    driver::{Expect, PutOptions, WriteOptions},
};
use life::lives;

/// Puts a value, if its precondition is true.
pub(crate) async fn put(
    core: &Core,
    key: &Key,
    value: Bytes,
    expect: Expect,
    options: &PutOptions,
) -> Result<Written> {
    let (name, size) = (core.whole(key), key.as_str().len() + value.len());
    let (lives, ttl) = lives(core, options)?;
    let put = move |batch: &mut Batch<'_>| batch.put(&name, value, expect, lives);
    let version = core.write(options.deadline, size, put).await?;
    Ok(Written::new(version, ttl))
}

/// Deletes the key, if its precondition is true; tells whether the key was there.
pub(crate) async fn delete(core: &Core, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
    let name = core.whole(key);
    core.write(options.deadline, 0, move |batch| batch.delete(&name, expect)).await
}
