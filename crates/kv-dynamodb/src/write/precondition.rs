//! Makes the clause of a write's precondition.

use crate::{
    client::{
        item::{Found, is_foreign},
        terms::Terms,
    },
    core::Core,
    list::read::{fresh_time, read_item},
};
use kv_core::{
    Bytes, Key, Result, Version,
    driver::{Deadline, Expect, ReadOptions},
};

/// The result of a write: done, or refused by its precondition.
#[derive(Debug)]
pub(super) enum Wrote<T> {
    Done(T),
    /// The precondition is not true of what was found.
    Refused(Option<Found>),
}

/// Returns the clause of the precondition; `None` where there is none.
pub(super) async fn expected(
    core: &Core,
    terms: &mut Terms,
    key: &Key,
    expect: Expect,
    deadline: Deadline,
) -> Result<Option<String>> {
    if expect != Expect::Anything {
        fresh_time(core, deadline).await?;
    }
    let now = core.client.time.earliest();
    Ok(match expect {
        Expect::Anything => None,
        Expect::Missing => Some(format!("NOT {}", terms.exists(now))),
        Expect::Version(at) if is_foreign(at) => match foreign_value(core, key, at, deadline).await? {
            Some(value) => Some(terms.is_foreign(value, now)),
            // This clause is true of no item, so that the service tells what is there.
            None => Some(terms.is_at(at, now)),
        },
        Expect::Version(at) => {
            core.shared.versions.seen(at, core.client.time.latest());
            Some(terms.is_at(at, now))
        }
    })
}

/// Reads a foreign value that was read at this version, if it still is there.
pub(super) async fn foreign_value(
    core: &Core,
    key: &Key,
    at: Version,
    deadline: Deadline,
) -> Result<Option<Bytes>> {
    let read = ReadOptions::default().deadline(deadline);
    let found = read_item(core, &core.names.data, key.as_str(), &[], &read).await?;
    let found = core.living(key.as_str(), found)?;
    Ok(found.filter(|found| found.version() == Some(at)).and_then(|found| found.value))
}
