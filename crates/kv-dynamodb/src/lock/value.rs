//! Changes the value of the holder of a lock.

use crate::{
    client::{
        change::Changed,
        item::{CHANGES, Found, TOKEN, VALUE, bytes, number, text},
        terms::Terms,
    },
    core::Core,
    error::damaged,
};
use kv_core::{Bytes, Fence, Result, backend::retry::RetrySafety, driver::WriteOptions};

/// Does [`Store::set_holder`](kv_core::driver::Store::set_holder).
pub(crate) async fn set_holder(
    core: &Core,
    fence: &Fence,
    value: Bytes,
    options: &WriteOptions,
) -> Result<bool> {
    let (client, name) = (&core.client, fence.lock().as_str());
    let owner = String::from_utf8_lossy(fence.proof());
    let mut terms = Terms::default();
    let (v, token, changes) = (terms.name(VALUE), terms.name(TOKEN), terms.name(CHANGES));
    let (value, none, one) = (terms.value(bytes(value)), terms.value(number(0)), terms.value(number(1)));
    let update = format!("SET {v} = {value}, {changes} = if_not_exists({changes}, {none}) + {one}");
    let (ours, lives) = (terms.is_owned(&owner), terms.is_held(client.time.earliest()));
    let (of, kind) = (terms.value(number(fence.token())), terms.value(text("N")));
    let counts = format!("(attribute_not_exists({changes}) OR attribute_type({changes}, {kind}))");
    let condition = format!("{ours} AND {lives} AND {token} = {of} AND {counts}");
    let record = (&*core.names.locks, name);
    let change = || client.change(record, &update, &condition, &terms);
    let found = match client.call(RetrySafety::Write, options.deadline, change).await? {
        Changed::Done => return Ok(true),
        Changed::Hindered(found) => core.holding(name, found)?,
    };
    let is_ours =
        |found: Found| found.owner.as_deref() == Some(&*owner) && found.token == Some(fence.token());
    // The holder has it still: what hinders is the number of changes.
    if found.is_some_and(is_ours) { Err(damaged("lock", name, CHANGES)) } else { Ok(false) }
}
