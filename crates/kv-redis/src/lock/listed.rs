//! Lists the locks that are held.

use crate::{
    client::{
        answer::{Answer, next},
        script,
    },
    core::Core,
    lock::holder::held,
};
use fred::types::Value;
use kv_core::{Directory, HeldLock, Key, Result, backend::retry::RetrySafety, driver::Deadline};
use std::collections::BTreeSet;

/// The most locks that one request looks at.
const BATCH: usize = 100;

/// Looks through all names on the server for queues, since nothing else knows them all, and then
/// who holds these locks: [`Store::locks`](kv_core::driver::Store::locks), in one page.
pub(crate) async fn locks(core: &Core, directory: &Directory, deadline: Deadline) -> Result<Vec<HeldLock>> {
    let (mut cursor, mut names) = ("0".to_owned(), BTreeSet::new());
    let pattern = core.names.locks(directory);
    loop {
        let scan = [&cursor, "MATCH", &pattern, "COUNT", "1000", "TYPE", "zset"];
        let mut answer = core.client.command(deadline, "SCAN", &scan).await?.list()?;
        cursor = next(&mut answer)?.text()?;
        for name in next(&mut answer)?.list()? {
            let lock = core.names.lock_of(&Answer(name).bytes()?);
            names.extend(lock.filter(|lock| lock.is_below(directory)));
        }
        if cursor == "0" {
            break;
        }
    }
    let (names, mut locks) = (names.into_iter().collect::<Vec<_>>(), Vec::new());
    let mut rest = &names[..];
    loop {
        // Without any lock too: a server that was made a replica refuses this, and no `SCAN`.
        let (batch, behind) = rest.split_at(rest.len().min(BATCH));
        locks.extend(look(core, batch, deadline).await?);
        rest = behind;
        if rest.is_empty() {
            return Ok(locks);
        }
    }
}

async fn look(core: &Core, locks: &[Key], deadline: Deadline) -> Result<Vec<HeldLock>> {
    let names = locks.iter().flat_map(|lock| core.names.lock(lock));
    let arguments = locks.iter().map(|lock| Value::from(lock.as_str()));
    let answer = core.run(RetrySafety::Read, deadline, &script::LOCKS, names, arguments).await?;
    let mut found = Vec::with_capacity(locks.len());
    for lock in answer.list()? {
        let mut lock = Answer(lock).list()?;
        let (name, number) = (next(&mut lock)?.text()?, next(&mut lock)?.unsigned()?);
        let (brought, waiters) = (next(&mut lock)?.bytes()?, next(&mut lock)?.unsigned()?);
        let holder = held(number, &brought)?;
        found.extend(Key::from_stored(&name).map(|name| HeldLock::new(name, holder, Some(waiters))));
    }
    Ok(found)
}
