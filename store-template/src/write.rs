//! Writes: puts and deletions, each on a condition.
// DECIDE: how the server compares, in the same step as it writes. A put is a `Write` for the retries, since another
// client may write between two of them; `Repeatable` is what is bound to an id of your own, as a renewal or a release.

use crate::{core::Core, server::Server};
use kv_core::{
    Bytes, Error, ErrorKind, Key, Result, Version, Written,
    backend::retry::RetrySafety,
    driver::{Expect, PutOptions, WriteOptions},
};

/// Puts a value, if what is there is as expected.
pub(crate) async fn put(
    core: &Core,
    key: &Key,
    value: Bytes,
    expect: Expect,
    options: &PutOptions,
) -> Result<Written> {
    let range = core.capabilities.ttl.as_ref().zip(options.ttl);
    let ttl = range.map(|(range, ttl)| range.grant(ttl)).transpose()?;
    let name = core.names.name(key);
    let put = |server: &Server| server.write(&name, Some((value.clone(), ttl)), |found| expect.check(found));
    match core.send(RetrySafety::Write, options.deadline, put).await?? {
        Some(number) => Ok(Written::new(Version::new(number, 0), ttl)),
        None => Err(Error::new(ErrorKind::Other, "the server answered a put with no number")),
    }
}

/// Deletes the key, if what is there is as expected; tells whether it was there.
pub(crate) async fn delete(core: &Core, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
    let name = core.names.name(key);
    let delete = |server: &Server| server.write(&name, None, |found| expect.check(found));
    Ok(core.send(RetrySafety::Write, options.deadline, delete).await??.is_some())
}
