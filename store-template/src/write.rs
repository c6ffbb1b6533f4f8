//! Writes: puts and deletions, each with its precondition.
// DECIDE: how the server compares, in the same step as it writes. For the retries a put is a
// `Write`, since another client may write between two attempts; `Repeatable` is a request that is
// bound to an id of your own, such as a renewal or a release.

use crate::{core::Core, server::Server};
use kv_core::{
    Bytes, Error, ErrorKind, Key, Result, Version, Written,
    backend::retry::RetrySafety,
    driver::{Expect, PutOptions, WriteOptions},
};

/// Puts a value, if its precondition is true.
pub(crate) async fn put(
    core: &Core,
    key: &Key,
    value: Bytes,
    expect: Expect,
    options: &PutOptions,
) -> Result<Written> {
    let (name, ttl) = (core.names.name(key), options.ttl);
    let put = |server: &Server| server.write(&name, Some((value.clone(), ttl)), |found| expect.check(found));
    match core.send(RetrySafety::Write, options.deadline, put).await?? {
        Some(number) => Ok(Written::new(Version::new(number, 0), ttl)),
        None => Err(Error::new(ErrorKind::Other, "the server answered a put with no number")),
    }
}

/// Deletes the key, if its precondition is true; tells whether the key was there.
pub(crate) async fn delete(core: &Core, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
    let name = core.names.name(key);
    let delete = |server: &Server| server.write(&name, None, |found| expect.check(found));
    Ok(core.send(RetrySafety::Write, options.deadline, delete).await??.is_some())
}
